"""Which sections are left, section by section and seed by seed."""

import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.frames import Study
from layerprune.core import methods


def survivors(study: Study) -> pd.DataFrame:
    """One row per run and section: `keep` 1 (left) or 0 (gone); a run without a result has one row, keep
    blank.

    Default settings of the methods that decide for themselves: controls replay gated's choice and are left
    out, and so are methods that never removed a section.
    """
    rows = [row for run in _deciding(study.runs).to_dict("records") for row in _sections(run)]
    return pd.DataFrame(rows, columns=["arch", "method", "seed", "status", "section", "keep"])


def _deciding(runs: pd.DataFrame) -> pd.DataFrame:
    chosen = runs["method"].map(methods.families()).isin(["trained", "scores"]) & (runs["variant"] == "default")
    removed = chosen & statistics.counted(runs) & (runs["sections_left"] < runs["sections_total"])
    return runs[chosen & runs["method"].isin({*runs[removed]["method"], "gated"})]


def _sections(run: dict) -> list[dict]:
    names = {name: run[name] for name in ("arch", "method", "seed", "status")}
    if not statistics.counted(pd.DataFrame([run])).item():
        return [names | {"section": None, "keep": None}]
    return [names | {"section": place, "keep": keep} for place, keep in enumerate(run["keep"])]
