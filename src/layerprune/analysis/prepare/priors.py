"""Gated training under several priors of one slope at the start (claim C5)."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.frames import Study
from layerprune.analysis.gate_traces import Watched, planned, watched

PRIORS = ("flattening", "fixed", "beta", "l0", "none")
AVERAGED = 3
"""Checks whose batches a section's worth is averaged over."""
PLACE = ["arch", "start", "prior"]
NUMBERS = ["sections_left", "premature", "undecided", "test_accuracy"]


def variant_of(prior: str, start: str = "") -> str:
    """The variant of gated that has this prior and is watched; `start` is one of `starts`."""
    return f"prior-{prior}{start}"


def starts(study: Study) -> list[str]:
    """Ends of such variants' names: "" for the default's start value of theta, as "-theta0-0.3" for another."""
    named = study.runs[study.runs["method"] == "gated"]["variant"].str.extract(rf"^prior-(?:{'|'.join(PRIORS)})(.*)$")
    return sorted(set(named[0].dropna()))


def premature_share(run: Watched) -> float | None:
    """Share of a run's removals of sections that were then worth more than the median section; None without removals.

    Worth: what opening a section lowers the loss by, averaged over the last AVERAGED checks.
    """
    removals = [(place, step) for place, step in enumerate(run.record.removed_step) if step in set(run.step)]
    if not removals:
        return None
    return float(np.mean([_was_worth_more(run, place, step) for place, step in removals]))


def _was_worth_more(run: Watched, place: int, step: int) -> bool:
    check = int(np.flatnonzero(run.step == step)[0])
    worth = run.benefit[max(0, check - AVERAGED + 1) : check + 1].mean(0)  # NaN for what was gone before
    return bool(worth[place] > np.nanmedian(worth))


def undecided_share(run: Watched) -> float:
    """Share of sections whose theta was neither 0 nor 1 when it was rounded."""
    theta = np.array(run.record.details["theta_before_consolidation"])
    return float(np.mean((theta > 0.01) & (theta < 0.99)))


def priors(study: Study) -> pd.DataFrame:
    """A row a run (kind `run`) and a row a mean with its 95 % bootstrap interval and n (kind `mean`); shares and
    accuracies in per cent; `start` is one of `starts`. A prior that was planned and not run has one row of kind `mean`
    without numbers."""
    columns = ["kind", *PLACE, "seed", "sections_total", *NUMBERS, "n"]
    columns += [f"{name}_{end}" for name in NUMBERS for end in ("low", "high")]
    runs = pd.DataFrame(_runs(study), columns=[*PLACE, "seed", "sections_total", *NUMBERS])
    means = list(_means(runs))
    there = {tuple(row[name] for name in PLACE) for row in means}
    for start, prior in product(starts(study), PRIORS):
        for arch in planned(study, variant_of(prior, start)):
            if (place := (arch, start, prior)) not in there:
                means.append({"kind": "mean", "n": 0} | dict(zip(PLACE, place, strict=True)))
    return pd.DataFrame([*({"kind": "run"} | row for row in runs.to_dict("records")), *means], columns=columns)


def _runs(study: Study) -> Iterator[dict]:
    for start, prior in product(starts(study), PRIORS):
        for run in watched(study, variant_of(prior, start)):
            premature = premature_share(run)
            yield {
                "arch": run.record.arch,
                "start": start,
                "prior": prior,
                "seed": run.record.seed,
                "sections_total": run.record.sections_total,
                "sections_left": sum(run.record.keep),
                "premature": None if premature is None else 100 * premature,
                "undecided": 100 * undecided_share(run),
                "test_accuracy": 100 * run.record.test_accuracy,
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
