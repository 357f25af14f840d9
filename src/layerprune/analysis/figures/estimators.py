"""What an estimator of Delta does to the network that is left (claims, beyond the paper)."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from layerprune.analysis import statistics
from layerprune.analysis.figures import _variants
from layerprune.analysis.frames import Study

TITLE = "Gated training with each estimator"
CAPTION = (
    "The same training with different estimators of what a section is worth. Training cost includes the second "
    "forward pass that finite differences and DisARM need in every step before theta is rounded. Dots are seeds, to "
    "the left of their mean with its 95 % bootstrap interval; the number after each name counts the seeds."
)
NEEDS = "variants estimator-... of gated"
SHOWS = "test_accuracy"
NAMES = {
    "default": "two-sided",
    "estimator-straight-through": "straight-through",
    "estimator-finite-difference": "finite difference",
    "estimator-disarm": "DisARM",
}
NUMBERS = {"sections_left": 1, "test_accuracy": 100, "train_macs_ratio": 100}
"""Column -> factor: accuracies and shares of dense's training MACs in per cent."""
COLUMNS = ["kind", "arch", "variant", "name", "seed", "sections_total", *NUMBERS, "n"]
COLUMNS += [f"{name}_{end}" for name in NUMBERS for end in ("low", "high")]


def prepare(study: Study) -> pd.DataFrame:
    """A row a run (kind `run`) and a row a mean with its 95 % bootstrap interval and n (kind `mean`), of the variants
    in NAMES, on every architecture that has one beside the default.

    A variant that was planned and has no result has a row of kind `mean` with n = 0.
    """
    gated = study.runs[(study.runs["method"] == "gated") & study.runs["variant"].isin(NAMES)]
    several = gated.groupby("arch")["variant"].nunique()
    gated = gated[gated["arch"].isin(several[several > 1].index)]
    whole = study.runs[study.runs["method"] == "dense"]
    rows = [*_runs(pd.concat([whole, gated])), *_means(pd.concat([whole, gated]))]
    return pd.DataFrame(rows, columns=COLUMNS)


def _runs(runs: pd.DataFrame) -> Iterator[dict]:
    found = statistics.compare_to_dense(runs)
    for run in found[statistics.counted(found) & (found["method"] == "gated")].to_dict("records"):
        told = {name: run[name] for name in ("arch", "variant", "seed", "sections_total")}
        numbers = {name: factor * run[name] for name, factor in NUMBERS.items()}
        yield {"kind": "run", "name": NAMES[run["variant"]]} | told | numbers


def _means(runs: pd.DataFrame) -> Iterator[dict]:
    summary = statistics.summarise(runs) if len(runs) else pd.DataFrame(columns=["method"])
    for row in summary[summary["method"] == "gated"].to_dict("records"):
        told = {"kind": "mean", "arch": row["arch"], "variant": row["variant"], "name": NAMES[row["variant"]]}
        told |= {"n": row["n"], "sections_total": row["sections_total_mean"]}
        for name, factor in NUMBERS.items():
            told[name] = factor * row[f"{name}_mean"]
            told |= {f"{name}_{end}": factor * row[f"{name}_{end}"] for end in ("low", "high")}
        yield told


# --- drawing --------------------------------------------------------------------------------------------------

PANELS = {
    "sections_left": "sections kept",
    "test_accuracy": "test accuracy (%)",
    "train_macs_ratio": "training MACs (% of dense)",
}


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A row of panels per architecture."""
    return _variants.draw(data.assign(row=data["arch"]), heading, list(NAMES.values()), PANELS)
