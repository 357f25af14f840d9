"""One row a mark: what a method (or a variant that belongs to a curve) reached, with its interval and n."""

import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.frames import Study

NAMES = ["arch", "method", "variant", "label"]
QUANTITIES = {"depth": 1, "sections_left": 1, "test_accuracy": 100, "macs_ratio": 1, "train_macs_ratio": 1}
"""Quantity -> factor; accuracies are plotted in per cent."""


def marks(study: Study) -> pd.DataFrame:
    """Means and 95 % intervals: default settings (curve `main`), gated's prices (`nu`), given depths
    (`keep`).

    The default of gated stands at its place in the curve of prices too. Other variants are left to the table.
    """
    summary = statistics.summarise(study.runs)
    frame = summary[NAMES].assign(curve=summary["variant"].map(curve_of), nu=summary["nu_mean"])
    frame = frame.join(summary[["n", "n_failed", "n_missing"]])
    for name, factor in QUANTITIES.items():
        for part in ("mean", "low", "high"):
            frame[f"{name}_{part}"] = summary[f"{name}_{part}"] * factor
    return frame[frame["curve"] != "other"].reset_index(drop=True)


def curve_of(variant: str) -> str:
    """Which curve a variant belongs to: main, nu, keep, or other."""
    family = variant.split("-")[0]
    return "main" if variant == "default" else family if family in ("nu", "keep") else "other"
