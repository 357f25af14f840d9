"""Variants of gated under several priors of one slope at the start, and what they removed too early (claim C5)."""

import numpy as np

from layerprune.analysis.frames import Study
from layerprune.analysis.gate_traces import GateTrace

PRIORS = ("flattening", "fixed", "beta", "l0", "none")
AVERAGED = 3
"""Checks whose batches a section's worth is averaged over."""


def variant_of(prior: str, start: str = "") -> str:
    """The variant of gated that has this prior and a trace; `start` is one of `starts`."""
    return f"prior-{prior}{start}"


def starts(study: Study) -> list[str]:
    """Ends of such variants' names: "" for the default's start value of theta, as "-theta0-0.3" for another."""
    named = study.runs[study.runs["method"] == "gated"]["variant"].str.extract(rf"^prior-(?:{'|'.join(PRIORS)})(.*)$")
    return sorted(set(named[0].dropna()))


def premature_share(trace: GateTrace) -> float | None:
    """Share of a run's removals of sections that were then worth more than the median section; None without removals.

    Worth: what opening a section lowers the loss by, averaged over the last AVERAGED checks.
    """
    removals = [(place, step) for place, step in enumerate(trace.record.removed_step) if step in set(trace.step)]
    if not removals:
        return None
    return float(np.mean([_was_worth_more(trace, place, step) for place, step in removals]))


def _was_worth_more(trace: GateTrace, place: int, step: int) -> bool:
    check = int(np.flatnonzero(trace.step == step)[0])
    worth = trace.benefit[max(0, check - AVERAGED + 1) : check + 1].mean(0)  # NaN for what was gone before
    return bool(worth[place] > np.nanmedian(worth))
