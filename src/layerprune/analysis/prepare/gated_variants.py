"""Variants of gated that differ in one thing, with what became of them."""

from collections.abc import Iterator, Mapping

import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.frames import Study

NUMBERS = {"sections_left": 1, "test_accuracy": 100, "train_macs_ratio": 100}
"""Column -> factor: accuracies and shares of dense's training MACs in per cent."""
COLUMNS = ["kind", "arch", "variant", "name", "seed", "sections_total", *NUMBERS, "n"]
COLUMNS += [f"{name}_{end}" for name in NUMBERS for end in ("low", "high")]


def compared(study: Study, names: Mapping[str, str]) -> pd.DataFrame:
    """A row a run (kind `run`) and a row a mean with its 95 % bootstrap interval and n (kind `mean`), of the variants
    in `names`, which says what to call them, on every architecture that has one beside the default.

    A variant that was planned and has no result has a row of kind `mean` with n = 0.
    """
    gated = study.runs[(study.runs["method"] == "gated") & study.runs["variant"].isin(names)]
    several = gated.groupby("arch")["variant"].nunique()
    gated = gated[gated["arch"].isin(several[several > 1].index)]
    whole = study.runs[study.runs["method"] == "dense"]
    rows = [*_runs(pd.concat([whole, gated]), names), *_means(pd.concat([whole, gated]), names)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _runs(runs: pd.DataFrame, names: Mapping[str, str]) -> Iterator[dict]:
    found = statistics.compare_to_dense(runs)
    for run in found[statistics.counted(found) & (found["method"] == "gated")].to_dict("records"):
        told = {name: run[name] for name in ("arch", "variant", "seed", "sections_total")}
        numbers = {name: factor * run[name] for name, factor in NUMBERS.items()}
        yield {"kind": "run", "name": names[run["variant"]]} | told | numbers


def _means(runs: pd.DataFrame, names: Mapping[str, str]) -> Iterator[dict]:
    summary = statistics.summarise(runs) if len(runs) else pd.DataFrame(columns=["method"])
    for row in summary[summary["method"] == "gated"].to_dict("records"):
        told = {"kind": "mean", "arch": row["arch"], "variant": row["variant"], "name": names[row["variant"]]}
        told |= {"n": row["n"], "sections_total": row["sections_total_mean"]}
        for name, factor in NUMBERS.items():
            told[name] = factor * row[f"{name}_mean"]
            told |= {f"{name}_{end}": factor * row[f"{name}_{end}"] for end in ("low", "high")}
        yield told
