"""Pruning methods, one short file each; the file's name is the slug, its folder the family.

trained/   gates learned (or drawn) during one training from scratch
scores/    a score per section on a trained network, then shared removal and fine-tuning
controls/  what any method must beat: the pruned architecture from scratch, a replayed keep list
experiments/ no methods: measurements on a trained network for a claim of the paper; in no comparison

This module finds them by file name alone and imports no torch, so that configuration and analysis stay light.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from layerprune.core.settings import Settings
from layerprune.core.settings.methods import FAMILY_SETTINGS, METHOD_SETTINGS
from layerprune.errors import LayerpruneError
from layerprune.system import extensions
from layerprune.system.files import constant_in, docstring_in

FAMILIES = ("trained", "scores", "controls", "experiments")
REQUIREMENTS = {
    "batch-norm": ("BATCH_NORM", True, "batch normalisation in the branches"),
    "open-branches": ("CLOSING_NORM", False, "branches that do not end in batch normalisation, as preact-resnet's"),
    "stages": ("STAGES", True, "stages of equal sections"),
}
"""What a method's module may say it REQUIRES: constant of the architecture's module, its value, and what it means."""
LOOKS_AT = ("training", "validation")
"""The split that a score's module may say it LOOKS_AT; the first if it says nothing."""
ENTRY_POINTS = {
    "trained": ("Method", ("settings", "network", "context")),
    "scores": ("score", ("model", "batches")),
    "controls": ("plan", ("settings", "question")),
    "experiments": ("measure", ("settings", "inputs")),
}
"""What the files of a family define, and its arguments; a score may ask for its `settings` besides."""


@cache
def families() -> Mapping[str, str]:
    """Slug of every method -> its family, by looking at the folders: once, as a large plan asks thousands of times."""
    here = Path(__file__).parent
    found = {
        file.stem.replace("_", "-"): family
        for family in FAMILIES
        for file in sorted((here / family).glob("*.py"))
        if not file.stem.startswith("_")
    }
    return MappingProxyType(found)


def module_name(slug: str) -> str:
    """Dotted module of a method, such as layerprune.core.methods.scores.leave_one_out."""
    return f"layerprune.core.methods.{families()[slug]}.{slug.replace('-', '_')}"


def method_file(slug: str) -> Path:
    """The file of a method."""
    return Path(__file__).parent / families()[slug] / f"{slug.replace('-', '_')}.py"


def entry_point(slug: str) -> Callable:
    """What a method's file defines for its family; imports torch. Raises LayerpruneError naming the file if it does not
    define it, with other arguments, or is not valid Python.
    """
    module, (name, arguments) = extensions.imported(module_name(slug)), ENTRY_POINTS[families()[slug]]
    if name == "score" and hasattr(module, "choose"):
        extensions.entry_point(module, "choose", ("scores", "count", "settings"))
    found = extensions.entry_point(module, name, arguments, ("settings",) if name == "score" else ())
    if name == "Method":
        from layerprune.core.methods.base import TrainingMethod  # here, as it imports torch

        if not (isinstance(found, type) and issubclass(found, TrainingMethod)):
            raise LayerpruneError(f"{module.__file__}: Method must be a class derived from TrainingMethod")
    return found


def check(slug: str) -> None:
    """Raises LayerpruneError naming the file of a method that says something unknown of itself."""
    looks_at(slug)
    _word(slug, "REQUIRES", REQUIREMENTS)


def looks_at(slug: str) -> str:
    """The split that a score sees. Raises LayerpruneError naming the file for one that is not among LOOKS_AT."""
    return _word(slug, "LOOKS_AT", LOOKS_AT) or LOOKS_AT[0]


def _word(slug: str, name: str, known: Iterable[str]) -> str | None:
    """One of the known words, by which a method's file says something of itself; None if it does not."""
    word = constant_in(method_file(slug), name)
    if word is not None and word not in tuple(known):
        raise LayerpruneError(f"{method_file(slug)}: {name} = {word!r} is unknown (known: {', '.join(known)})")
    return word


def description(slug: str) -> str:
    """What a method is, and whose: the first paragraph of its file, in one line."""
    return " ".join(docstring_in(method_file(slug)).partition("\n\n")[0].split())


def lack(slug: str, arch_file: Path) -> str | None:
    """What a method needs and an architecture lacks, in words; None if the two fit together.

    Raises LayerpruneError naming the file of a method that REQUIRES something unknown.
    """
    needed = _word(slug, "REQUIRES", REQUIREMENTS)
    if needed is None:
        return None
    name, value, meaning = REQUIREMENTS[needed]
    return None if (constant_in(arch_file, name) or False) == value else meaning


def settings_class(method: str) -> type[Settings]:
    """The settings of a method: its own if it has any, else its family's."""
    known = families()
    if method not in known:
        raise ValueError(f"unknown method '{method}' (known: {', '.join(sorted(known))})")
    return METHOD_SETTINGS.get(method, FAMILY_SETTINGS[known[method]])


def listing() -> str:
    """Every method with its family, what it is, its settings, their defaults and meaning, for people."""
    lines = []
    for slug, family in families().items():
        lines.append(f"{slug}  ({family}): {description(slug)}")
        fields = settings_class(slug).model_fields
        lines += [f"    {name} = {field.default!r}: {field.description}" for name, field in fields.items()]
    return "\n".join(lines)
