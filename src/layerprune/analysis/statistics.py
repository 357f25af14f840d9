"""Statistics over seeds: means, spreads, bootstrap intervals, and paired comparisons with dense.

A run counts (n) when it trained to its end and has a test accuracy; diverged, failed and missing runs never
enter a mean and are counted beside it. Comparisons are paired: a run against dense's run of the same
architecture and seed, which shares its initialisation, order and augmentation.

Intervals are 95 % percentile bootstrap intervals of the mean over seeds, with a fixed generator. With the
three to five seeds that are usual here they are anti-conservative (too narrow: a resample can never leave the
range of what was seen); read them as the spread of the mean, always together with n. With n < 2 there is
none.
"""

import warnings

import numpy as np
import pandas as pd
from scipy import stats

from layerprune.analysis.frames import MODEL, WITH_RESULT

GROUP = ["arch", "method", "variant"]
PAIR = ["arch", "seed"]
WITH_INTERVAL = ["test_accuracy", "difference", "depth", "sections_left", "macs_ratio", "train_macs_ratio"]
WITHOUT_INTERVAL = [
    *("val_accuracy", "depth_dense", "sections_total", "params", "macs", "train_macs"),
    *("wall_seconds", "wall_ratio", "nu", "val_accuracy_before_finetune"),
]
RESAMPLES = 9999


def counted(runs: pd.DataFrame) -> pd.Series:
    """Which runs enter the means."""
    return runs["status"].isin(WITH_RESULT) & runs["test_accuracy"].notna()


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean; NaN with fewer than two values."""
    if len(values) < 2:
        return float("nan"), float("nan")
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
        )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def compare_to_dense(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with `difference` (test accuracy minus dense's), `macs_ratio`, `train_macs_ratio`,
    `wall_ratio`.

    NaN where the run does not count or dense has no counted run of that seed. Accuracy is compared only with a
    dense network that was asked to train as long (a variant may ask for more epochs), wall time only between runs on
    one kind of device with as many threads.
    """
    paired = _dense_of_each(runs)
    counts = counted(runs)
    as_long = runs["duration"].fillna("") == paired["duration"].fillna("")
    same_machine = (runs["device"] == paired["device"]) & (runs["threads"] == paired["threads"])
    return runs.assign(
        difference=(runs["test_accuracy"] - paired["test_accuracy"]).where(counts & as_long),
        macs_ratio=(runs["macs"] / runs["macs_dense"]).where(counts),
        train_macs_ratio=(runs["train_macs"] / paired["train_macs"]).where(counts),
        wall_ratio=(runs["wall_seconds"] / paired["wall_seconds"]).where(counts & same_machine),
    )


def _dense_of_each(runs: pd.DataFrame) -> pd.DataFrame:
    """For every run, dense's run of its architecture and seed: same index, NaN where there is none."""
    fields = ["test_accuracy", "train_macs", "wall_seconds", "device", "threads", "duration"]
    is_dense = counted(runs) & (runs["method"] == "dense") & (runs["variant"] == "default")
    dense = runs[is_dense].set_index(PAIR)[fields]
    return runs[PAIR].join(dense, on=PAIR)[fields]


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per architecture, method and variant, in the order of the runs.

    Columns: what the network was asked for; n and the counts of other outcomes; for each quantity
    `<name>_mean` and `<name>_sd` (ddof 1), for those in WITH_INTERVAL also `_low` and `_high`; `difference_n`
    counts the pairs, `before_finetune_n` the runs with an accuracy before fine-tuning.
    """
    compared = compare_to_dense(runs)
    rows = [
        dict(zip(GROUP, names, strict=True)) | _summary(group) for names, group in compared.groupby(GROUP, sort=False)
    ]
    return pd.DataFrame(rows)


def _summary(group: pd.DataFrame) -> dict[str, object]:
    used = group[counted(group)]
    row: dict[str, object] = {"label": group["label"].iloc[0]} | {name: _distinct(group[name]) for name in MODEL}
    row |= {"n": len(used)} | _outcomes(group["status"])
    row["difference_n"] = int(used["difference"].count())
    row["before_finetune_n"] = int(used["val_accuracy_before_finetune"].count())
    for name in [*WITH_INTERVAL, *WITHOUT_INTERVAL]:
        values = used[name].dropna().to_numpy(float)
        row[f"{name}_mean"] = _mean(values)
        row[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        if name in WITH_INTERVAL:
            row[f"{name}_low"], row[f"{name}_high"] = interval(values)
    return row


def _distinct(values: pd.Series) -> str:
    """A setting as text, empty where it is absent; where runs differ (an outdated record), all that there are."""
    texts = [f"{value:g}" if isinstance(value, float) else value for value in values.dropna()]
    return " or ".join(dict.fromkeys(texts))


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _outcomes(status: pd.Series) -> dict[str, int]:
    return {
        "n_failed": int(status.isin(["diverged", "failed"]).sum()),
        "n_missing": int(status.isin(["missing", "unreadable"]).sum()),
        "n_collapsed": int((status == "collapsed").sum()),
        "n_unpruned": int((status == "unpruned").sum()),
    }
