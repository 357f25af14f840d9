"""How a training went: theta of every section, sections alive and cumulative cost, by epoch."""

import pandas as pd

from layerprune.analysis import frames, statistics
from layerprune.analysis.frames import Study
from layerprune.core import methods
from layerprune.core.settings import steps_of

SEEDS_SHOWN = 3
"""So many seeds of theta are drawn, the lowest first; more would be too small to read."""


def theta(study: Study) -> pd.DataFrame:
    """gated's theta by epoch (kind `theta`), removals (kind `removed`, theta 0), and the ends of warm-up and gates.

    `epoch` of a removal is a fraction of epochs, `epochs` the length of the training; kinds `warmup` and
    `consolidation` have one row a run.
    """
    chosen = study.runs[(study.runs["method"] == "gated") & (study.runs["variant"] == "default")]
    first = sorted(set(chosen["seed"]))[:SEEDS_SHOWN]
    rows = [_theta_of(run) for run in chosen[chosen["seed"].isin(first)].to_dict("records")]
    columns = ["arch", "seed", "status", "epochs", "kind", "section", "epoch", "theta"]
    return pd.concat([pd.DataFrame(columns=columns), *rows], ignore_index=True)[columns]


def _theta_of(run: dict) -> pd.DataFrame:
    names = {name: run[name] for name in ("arch", "seed", "status", "epochs")}
    curves = frames.read_curves(pd.DataFrame([run]))
    columns = [name for name in curves.columns if name.startswith("theta_")]
    if not columns:
        return pd.DataFrame([names | {"kind": "none"}])
    rows = [
        names | {"kind": "theta", "section": place, "epoch": epoch, "theta": value}
        for place, name in enumerate(columns)
        for epoch, value in zip(curves["epoch"], curves[name], strict=True)
        if pd.notna(value)
    ]
    return pd.DataFrame([*rows, *_events(names, run)])


def _events(names: dict, run: dict) -> list[dict]:
    if not run["epochs"] > 0:
        return []
    steps_per_epoch = run["steps_total"] / run["epochs"]
    removed = [
        names | {"kind": "removed", "section": place, "epoch": step / steps_per_epoch, "theta": 0.0}
        for place, step in enumerate(run["removed_step"])
        if step is not None
    ]
    warmup = steps_of(run["warmup"], max(1, round(steps_per_epoch))) / steps_per_epoch
    ends = {"warmup": warmup, "consolidation": run["consolidate_at"] * run["epochs"]}
    return [*removed, *(names | {"kind": kind, "epoch": epoch} for kind, epoch in ends.items())]


def sections_alive(study: Study) -> pd.DataFrame:
    """Sections alive and cumulative training MACs by epoch: every seed (kind `run`) and the mean (kind
    `mean`).

    Methods that train from scratch and removed a section somewhere, and dense. `train_macs_ratio` is relative
    to dense's whole training with the same seed (to dense's mean where that seed has none).
    """
    runs = study.runs[(study.runs["variant"] == "default") & statistics.counted(study.runs)]
    chosen = runs[_trained_and_removing(runs)]
    columns = ["kind", "arch", "method", "seed", "n", "epoch", "sections_alive", "train_macs_ratio"]
    curves = frames.read_curves(chosen)
    if curves.empty:
        return pd.DataFrame(columns=columns)
    single = curves.assign(kind="run", n=None, train_macs_ratio=_relative_cost(curves, runs))
    return pd.concat([single[columns], _mean_courses(single)[columns]], ignore_index=True)


def _trained_and_removing(runs: pd.DataFrame) -> pd.Series:
    trained = runs["method"].map(methods.families()) == "trained"
    removing = runs[trained & (runs["sections_left"] < runs["sections_total"])]
    return runs["method"].isin({"dense", *removing["method"]})


def _relative_cost(curves: pd.DataFrame, runs: pd.DataFrame) -> pd.Series:
    dense = runs[runs["method"] == "dense"]
    by_seed = dense.set_index(["arch", "seed"])["train_macs"].rename("whole")
    by_arch = dense.groupby("arch")["train_macs"].mean()
    whole = curves[["arch", "seed"]].join(by_seed, on=["arch", "seed"])["whole"]
    return curves["train_macs"] / whole.fillna(curves["arch"].map(by_arch))


def _mean_courses(single: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds at the epochs that every seed has (a run cut short must not bend the mean)."""
    grouped = single.groupby(["arch", "method", "epoch"], sort=False)
    means = grouped[["sections_alive", "train_macs_ratio"]].mean().assign(n=grouped.size()).reset_index()
    most = means.groupby(["arch", "method"])["n"].transform("max")
    return means[means["n"] == most].assign(kind="mean", seed=None)
