"""What gated training leaves, and what it removed too early, under several priors (claim C5)."""

from collections.abc import Iterator
from itertools import product

import pandas as pd
from matplotlib.figure import Figure

from layerprune.analysis import statistics
from layerprune.analysis.figures import _variants
from layerprune.analysis.frames import Study
from layerprune.analysis.gate_traces import (
    PRIORS,
    archs_with,
    theta_starts,
    too_early_share,
    traces_of,
    undecided_share,
    variant_of,
)

TITLE = "Gated training under several priors"
CAPTION = (
    "Gated training under several priors whose prices have the same slope at theta's initial value and differ only in "
    "shape (`l0`: the flattening prior's price, learnt on theta's logit; `none`: no price). Removed too early: of "
    "the sections that left before theta was rounded, the share that was worth more than the median of those that "
    "stayed, by two measurements, on alternate ones of the last checks. "
    "Undecided: theta neither 0 nor 1 when it was rounded. Dots are seeds, to the left of their mean with its 95 % "
    "bootstrap interval; the number after each name counts the seeds. A dash in place of a mark: no section "
    "left before theta was rounded."
)
NEEDS = "variants prior-... of gated"
SHOWS = "sections_left"
PLACE = ["arch", "start", "prior"]
NUMBERS = ["sections_left", "premature", "undecided", "test_accuracy"]


def prepare(study: Study) -> pd.DataFrame:
    """A row a run (kind `run`) and a row a mean with its 95 % bootstrap interval and n (kind `mean`); shares and
    accuracies in per cent; `start` is one of `theta_starts`. A prior that was planned and not run has one row of kind
    `mean` without numbers."""
    columns = ["kind", *PLACE, "seed", "sections_total", *NUMBERS, "n"]
    columns += [f"{name}_{end}" for name in NUMBERS for end in ("low", "high")]
    runs = pd.DataFrame(_runs(study), columns=[*PLACE, "seed", "sections_total", *NUMBERS])
    means = list(_means(runs))
    there = {tuple(row[name] for name in PLACE) for row in means}
    for start, prior in product(theta_starts(study), PRIORS):
        for arch in archs_with(study, variant_of(prior, start)):
            if (place := (arch, start, prior)) not in there:
                means.append({"kind": "mean", "n": 0} | dict(zip(PLACE, place, strict=True)))
    return pd.DataFrame([*({"kind": "run"} | row for row in runs.to_dict("records")), *means], columns=columns)


def _runs(study: Study) -> Iterator[dict]:
    for start, prior in product(theta_starts(study), PRIORS):
        for trace in traces_of(study, variant_of(prior, start)):
            premature = too_early_share(trace)
            yield {
                "arch": trace.record.arch,
                "start": start,
                "prior": prior,
                "seed": trace.record.seed,
                "sections_total": trace.record.sections_total,
                "sections_left": sum(trace.record.keep),
                "premature": None if premature is None else 100 * premature,
                "undecided": 100 * undecided_share(trace.record.details["theta_before_consolidation"]),
                "test_accuracy": 100 * trace.record.test_accuracy,
            }


def _means(runs: pd.DataFrame) -> Iterator[dict]:
    groups = list(runs.groupby(PLACE, sort=False))
    for name in NUMBERS:
        runs[name] = pd.to_numeric(runs[name])
    samples = [rows[name].dropna().to_numpy(float) for _, rows in groups for name in NUMBERS]
    bounds = iter(statistics.intervals(samples))
    for place, rows in groups:
        row = {"kind": "mean", "n": len(rows)} | dict(zip(PLACE, place, strict=True))
        row["sections_total"] = rows["sections_total"].iloc[0]
        for name in NUMBERS:
            row[name] = rows[name].astype(float).mean()
            row[f"{name}_low"], row[f"{name}_high"] = next(bounds)
        yield row


# --- drawing --------------------------------------------------------------------------------------------------

PANELS = {
    "sections_left": "sections kept",
    "premature": "removed too early (%)",
    "undecided": "undecided sections (%)",
    "test_accuracy": "test accuracy (%)",
}


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A row of panels per architecture and start value of theta; `data` as from `prepare`."""
    titles = data["arch"] + data["start"].map(lambda start: start.replace("-theta0-", ", theta from "))
    return _variants.draw(data.assign(row=titles, name=data["prior"]), heading, PRIORS, PANELS)
