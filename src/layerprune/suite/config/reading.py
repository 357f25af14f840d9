"""Presets from YAML files, and the environment: the only module that reads raw configuration."""

import copy
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from layerprune.core.settings.types import first_problem
from layerprune.errors import LayerpruneError
from layerprune.suite.config.campaign import CampaignPlan
from layerprune.suite.config.claims import Claim, ClaimRules
from layerprune.suite.config.nodes import check_nodes
from layerprune.suite.config.preset import Preset
from layerprune.suite.config.runs import check_runs
from layerprune.system import files, paths


def load_preset(name: str) -> Preset:
    """Read config/<name>.yaml. Raises LayerpruneError with one line naming file and key."""
    _check_name("preset", name)
    path = paths.preset_file(name)
    if not path.is_file():
        if not path.parent.is_dir():
            raise LayerpruneError(
                f"{path}: no such preset, nor any other: there is no folder {path.parent} here; "
                "go to a checkout of layerprune, or name one with LAYERPRUNE_ROOT"
            )
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))) or "none"
        raise LayerpruneError(f"{path}: no such preset (known: {known})")
    preset = read_preset(path)
    check_runs(preset, name)
    return preset


def evidence(preset: Preset) -> list[tuple[str, str]]:
    """Preset and data set of each study of others by which its claims are judged, too.

    Raises LayerpruneError for a preset, or a data set of one, that does not exist.
    """
    return [study for each in preset.evidence for study in _studies(*each.split("/"))]


def _studies(name: str, *asked: str) -> list[tuple[str, str]]:
    datasets = load_preset(name).datasets
    unknown = next((each for each in asked if each not in datasets), None)
    if unknown is not None:
        raise LayerpruneError(f"evidence: {name} has no dataset '{unknown}' (has: {', '.join(datasets)})")
    return [(name, dataset) for dataset in asked or datasets]


def read_preset(path: Path) -> Preset:
    """Read a preset from a file that is there. Raises LayerpruneError with one line naming file and key."""
    return parse_preset(_read_yaml(path), str(path))


def load_claims() -> dict[str, Claim]:
    """Read the rules for the paper's claims. Raises LayerpruneError with one line naming file and key."""
    path = paths.claim_rules()
    if not path.is_file():
        raise LayerpruneError(f"{path}: no such file: there are no rules to judge claims by")
    try:
        return ClaimRules.model_validate(_read_yaml(path)).root
    except ValidationError as error:
        raise LayerpruneError(f"{path}: {first_problem(error).lstrip('.: ')}") from None


def load_campaign(name: str) -> CampaignPlan:
    """Read config/campaigns/<name>.yaml. Raises LayerpruneError with one line naming file and key."""
    _check_name("campaign", name)
    path = paths.campaign_file(name)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))) or "none"
        raise LayerpruneError(f"{path}: no such plan of a campaign (known: {known})")
    raw = _read_yaml(path)
    if not isinstance(raw, dict):
        raise LayerpruneError(f"{path}: a plan must be a mapping of keys")
    try:
        return CampaignPlan.model_validate(raw)
    except ValidationError as error:
        raise LayerpruneError(f"{path}: {first_problem(error).lstrip('.: ')}") from None


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
"""Of a preset and a campaign, whose results get a folder of this name: no way out of `results`."""


def _check_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise LayerpruneError(
            f"{what} {name[:100]!r}: a name has letters, digits, '-', '_' and '.' alone, as in 'quick'"
        )


LARGEST = 2**18
"""Bytes of a file of settings."""


def _read_yaml(path: Path) -> Any:
    """A file of YAML 1.2, in which no key may stand twice in one mapping."""
    return copy.deepcopy(_parsed_yaml(files.read_regular(path, LARGEST), path))


@lru_cache(maxsize=16)
def _parsed_yaml(text: bytes, path: Path) -> Any:
    """Once for each text: to parse a preset takes a fifth of a second."""
    # pure: what is refused, and in which words, depends on no compiled parser that may or may not be installed
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text.decode())
        if node is None:
            return None
        check_nodes(node)
        return yaml.constructor.construct_document(node)
    except RecursionError:
        raise LayerpruneError(f"{path}: not valid YAML: nested too deeply") from None
    except (ValueError, OverflowError, YAMLError) as error:  # a date that there is not is a ValueError, too
        raise LayerpruneError(f"{path}: not valid YAML: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    """The error without the excerpts, web addresses and the name <unicode string> that a parser's message has."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    begun = f"(line {error.context_mark.line + 1})" if error.context_mark else None
    words = filter(None, (error.context, begun, error.problem))
    return f"line {error.problem_mark.line + 1}: {' '.join(words)}"


def parse_preset(raw: Any, source: str) -> Preset:
    """Validate a preset given as plain data; `source` names it in errors."""
    if not isinstance(raw, dict):
        raise LayerpruneError(f"{source}: a preset must be a mapping of keys")
    try:
        return Preset.model_validate(raw)
    except ValidationError as error:
        raise LayerpruneError(f"{source}: {first_problem(error).lstrip('.: ')}") from None


def data_root(preset: Preset) -> Path:
    """Folder with the data sets: LAYERPRUNE_DATA, else `data.root`, else data/."""
    chosen = os.environ.get("LAYERPRUNE_DATA") or preset.data.root
    return Path(chosen) if chosen else paths.data_root()


def environment_below(root: Path, preset: Preset) -> dict[str, str]:
    """The environment of a process that keeps all its files below another root and reads the same data."""
    changes = {"LAYERPRUNE_ROOT": root, "LAYERPRUNE_DATA": data_root(preset)}
    return os.environ | {name: str(folder.resolve()) for name, folder in changes.items()}
