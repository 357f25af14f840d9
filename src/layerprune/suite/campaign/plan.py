"""From a plan's selectors to runs in order of priority: seed by seed, so that a seed's comparison is complete early."""

from collections.abc import Iterator
from dataclasses import replace

from layerprune.errors import LayerpruneError
from layerprune.suite import config
from layerprune.suite.config import CampaignPlan, Preset, Selector
from layerprune.system import paths
from layerprune.system.paths import RunKey

FIELDS = ("dataset", "arch", "method", "variant")


def runs_of(plan: CampaignPlan, preset: Preset, name: str) -> list[RunKey]:
    """A plan's runs by priority, each once. Raises LayerpruneError naming the plan's file and key."""
    planned = config.plan(preset, plan.preset)
    source = paths.campaign_file(name)
    chosen = [
        key
        for place, selector in enumerate(plan.runs)
        for key in _chosen(selector, planned, f"{source}: runs.{place}", plan.preset)
    ]
    return list(dict.fromkeys(chosen))


def _chosen(selector: Selector, planned: list[RunKey], where: str, preset: str) -> list[RunKey]:
    groups = [planned]
    for field in FIELDS:
        names = getattr(selector, field)
        groups = [inner for group in groups for inner in _narrowed(group, field, names, where, preset)]
    runs = [key for group in groups for key in _seeded(group, selector.seeds)]
    rank = {seed: place for place, seed in enumerate(dict.fromkeys(key.seed for key in runs))}
    return sorted(runs, key=lambda key: rank[key.seed])


def _narrowed(
    keys: list[RunKey], field: str, names: tuple[str, ...], where: str, preset: str
) -> Iterator[list[RunKey]]:
    """Of these runs those of each name."""
    known = list(dict.fromkeys(getattr(key, field) for key in keys))
    for name in names:
        if name not in known:
            before = [getattr(keys[0], each) for each in FIELDS[: FIELDS.index(field)]]
            place = "/".join([preset, *before])
            raise LayerpruneError(f"{where}.{field}: '{name}' is not in preset {place} (has: {', '.join(known)})")
        yield [key for key in keys if getattr(key, field) == name]


def _seeded(keys: list[RunKey], seeds: tuple[int, ...] | None) -> list[RunKey]:
    return keys if seeds is None else [replace(keys[0], seed=seed) for seed in seeds]
