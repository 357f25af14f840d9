"""Where networks that start with different numbers of sections end up (claim C6)."""

import re

import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.frames import Study

METHODS = ("gated", "dense")


def depth_vs_start(study: Study) -> pd.DataFrame:
    """gated and dense on the mlp-residual family: a row a run (kind `run`) and a row a mean (kind `mean`).

    `start` is the number of sections at the start; accuracies in per cent; a run without a result has none.
    """
    starts = study.runs["arch"].map(start_of)
    chosen = starts.notna() & study.runs["method"].isin(METHODS) & (study.runs["variant"] == "default")
    runs = study.runs[chosen].assign(start=starts[chosen])
    if runs.empty:
        return pd.DataFrame(columns=["kind", "arch", "method", "start", "seed", "status", "n"])
    return pd.concat([_single(runs), _means(runs)], ignore_index=True).sort_values(
        ["kind", "start", "method", "seed"], ignore_index=True
    )


def start_of(arch: str) -> float | None:
    found = re.fullmatch(r"mlp-residual-(\d+)", arch)
    return float(found[1]) if found else None


def _single(runs: pd.DataFrame) -> pd.DataFrame:
    counts = statistics.counted(runs)
    frame = runs[["arch", "method", "start", "seed", "status"]].assign(kind="run")
    frame["sections_left"] = runs["sections_left"].where(counts)
    frame["test_accuracy"] = 100 * runs["test_accuracy"].where(counts)
    return frame


def _means(runs: pd.DataFrame) -> pd.DataFrame:
    summary = statistics.summarise(runs)
    frame = summary[["arch", "method", "n", "n_failed", "n_missing"]].assign(kind="mean")
    frame["start"] = summary["arch"].map(start_of)
    for name, factor in {"sections_left": 1, "test_accuracy": 100}.items():
        frame[name] = factor * summary[f"{name}_mean"]
        frame[f"{name}_low"] = factor * summary[f"{name}_low"]
        frame[f"{name}_high"] = factor * summary[f"{name}_high"]
    return frame
