"""Where networks of one family that start with different numbers of sections end up (claim C6)."""

import re
from collections.abc import Iterator

import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.frames import Study

RIVALS = ("sss", "hard-concrete", "gal", "epsilon-resnet")
"""Other methods that choose their depth themselves."""
COLUMNS = ["kind", "family", "arch", "method", "start", "seed", "status", "n"]


def families(runs: pd.DataFrame, method: str = "gated") -> Iterator[tuple[str, dict[str, float]]]:
    """Families such as mlp-residual: architectures whose slugs differ in a number alone and which a method prunes
    with one setting of its price; of each the architectures and the removable sections that they start with.

    An architecture of which no run says how many those are is left out.
    """
    sizes = {arch: size for arch, size in _sizes(runs).items() if pd.notna(size)}
    main = runs[(runs["method"] == method) & (runs["variant"] == "default") & runs["arch"].isin(sizes)]
    found: dict[tuple[str, str], dict[str, float]] = {}
    for arch, price in dict(zip(main["arch"], main["nu"], strict=True)).items():
        if named := re.fullmatch(r"(.+)-(\d+)", arch):
            found.setdefault((named[1], str(price)), {})[arch] = sizes[arch]
    for (family, _), members in found.items():
        if len(members) > 1:
            yield family, members


def _sizes(runs: pd.DataFrame) -> dict[str, float]:
    told = runs.groupby("arch", sort=False)["sections_total"].max().to_dict()
    return {arch: _number_in_the_name(arch) if pd.isna(size) else size for arch, size in told.items()}


def _number_in_the_name(arch: str) -> float:
    """Where no run has told: an mlp-residual's name does."""
    named = re.fullmatch(r"mlp-residual-(\d+)", arch)
    return float(named[1]) if named else float("nan")


def depth_vs_start(study: Study) -> pd.DataFrame:
    """gated, dense and the rivals that start at two depths or more, on every family of gated's: a row a run (kind
    `run`) and a row a mean (kind `mean`).

    `start` is the number of removable sections at the start; accuracies in per cent; a run without a result has none.
    """
    chosen = study.runs[study.runs["method"].isin(["gated", "dense", *RIVALS]) & (study.runs["variant"] == "default")]
    parts = [_of_family(chosen, family, members) for family, members in families(study.runs)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def _of_family(runs: pd.DataFrame, family: str, members: dict[str, float]) -> pd.DataFrame:
    runs = runs[runs["arch"].isin(members)]
    starts = runs.groupby("method")["arch"].transform("nunique")
    runs = runs[(starts > 1) | ~runs["method"].isin(RIVALS)]
    runs = runs.assign(start=runs["arch"].map(members))
    both = pd.concat([_single(runs), _means(runs, members)], ignore_index=True)
    return both.assign(family=family).sort_values(["kind", "start", "method", "seed"], ignore_index=True)


def _single(runs: pd.DataFrame) -> pd.DataFrame:
    counts = statistics.counted(runs)
    frame = runs[["arch", "method", "start", "seed", "status"]].assign(kind="run")
    frame["sections_left"] = runs["sections_left"].where(counts)
    frame["test_accuracy"] = 100 * runs["test_accuracy"].where(counts)
    return frame


def _means(runs: pd.DataFrame, members: dict[str, float]) -> pd.DataFrame:
    summary = statistics.summarise(runs)
    frame = summary[["arch", "method", "n", "n_failed", "n_missing"]].assign(kind="mean")
    frame["start"] = summary["arch"].map(members)
    for name, factor in {"sections_left": 1, "test_accuracy": 100}.items():
        frame[name] = factor * summary[f"{name}_mean"]
        frame[f"{name}_low"] = factor * summary[f"{name}_low"]
        frame[f"{name}_high"] = factor * summary[f"{name}_high"]
    return frame
