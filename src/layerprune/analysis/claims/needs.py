"""Which runs a claim is decided by, so that one claim can be reproduced without the rest of the study."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from layerprune.core import methods
from layerprune.errors import LayerpruneError
from layerprune.suite import config
from layerprune.suite.campaign.todo import with_parents
from layerprune.system.paths import RunKey

RIVALS = tuple(name for name, family in methods.families().items() if family in ("trained", "scores"))
"""Methods that choose sections by themselves, and dense."""
DECIDED_BY: dict[str, tuple[str, ...]] = {
    "C1": ("gated/default",),
    "C2": ("random-removal/default",),
    "C3": ("dense/default", "gated/default", "gated/nu-*"),
    "C4": ("gated/default", "gated/prior-flattening"),
    "C5": tuple(f"gated/prior-{prior}" for prior in ("flattening", "fixed", "beta", "l0")),
    "C6": ("gated/default", "gated/theta0-*", "gated/initial-scale-*"),
    "C7": ("gated/stay", "gated/robbins-monro"),
    "C8": tuple(f"{name}/default" for name in RIVALS),
}
"""Claim -> patterns of method/variant, on every network of a preset."""


def runs_of(claim: str, preset_name: str) -> list[RunKey]:
    """The planned runs whose records decide a claim, and what they start from, that first.

    Raises LayerpruneError for an unknown claim.
    """
    if claim not in DECIDED_BY:
        raise LayerpruneError(f"--claim: unknown claim '{claim}' (known: {', '.join(DECIDED_BY)})")
    return like(DECIDED_BY[claim], preset_name)


def like(patterns: Iterable[str], preset_name: str, dataset: str | None = None) -> list[RunKey]:
    """Planned runs whose method/variant fits a pattern, and what they start from, that first."""
    preset = config.load_preset(preset_name)
    planned = config.plan(preset, preset_name, dataset)
    chosen = [key for key in planned if any(fnmatchcase(f"{key.method}/{key.variant}", each) for each in patterns)]
    needed, place = with_parents(preset, chosen), {key: place for place, key in enumerate(planned)}
    return sorted(needed, key=lambda key: place.get(key, -1))  # some are in the plan for what starts from them alone
