"""Statistics over seeds: means, spreads, bootstrap intervals, and paired comparisons with dense.

A run counts (n) when it trained to its end and has a test accuracy; diverged, failed and missing runs never
enter a mean and are counted beside it. Comparisons are paired: a run against dense's run of the same
architecture and seed, which shares its initialisation, order and augmentation.

Intervals of tables and figures are 95 % percentile bootstrap intervals of the mean over seeds, with a fixed generator.
With the three to five seeds that are usual here they are anti-conservative (too narrow: a resample can never leave the
range of what was seen); read them as the spread of the mean, always together with n. With n < 2 there is none. Claims
are judged by Student's intervals, `interval_of_mean`.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from layerprune.analysis.frames import MODEL, WITH_RESULT

GROUP = ["arch", "method", "variant"]
PAIR = ["arch", "seed"]
WITH_INTERVAL = ["test_accuracy", "difference", "depth", "sections_left", "macs_ratio", "train_macs_ratio"]
WITHOUT_INTERVAL = [
    *("val_accuracy", "test_top5_accuracy", "depth_dense", "sections_total", "params", "macs", "train_macs"),
    *(
        "train_macs_with_search_ratio",
        "wall_seconds",
        "wall_ratio",
        "energy_joules",
        "nu",
        "val_accuracy_before_finetune",
    ),
]
RESAMPLES = 9999
_AT_A_TIME = 50
"""Samples resampled together: some tens of megabytes."""
_VALUES_AT_A_TIME = 1000
"""Each of which is drawn RESAMPLES times: 80 MB."""
_NONE = (float("nan"), float("nan"))


def counted(runs: pd.DataFrame) -> pd.Series:
    """Which runs enter the means."""
    return runs["status"].isin(WITH_RESULT) & runs["test_accuracy"].notna()


def on_sweep_of_prices(runs: pd.DataFrame) -> pd.Series:
    """Which of gated's runs differ in the price: its default, and variants nu-NUMBER.

    Most of these change theta_lr, too, so that theta takes as many steps whatever the price.
    """
    return (runs["variant"] == "default") | runs["variant"].str.fullmatch(r"nu-[0-9.]+")


def intervals(samples: list[np.ndarray]) -> list[tuple[float, float]]:
    """95 % percentile bootstrap interval of each sample's mean; NaN for a sample of fewer than two values.

    Samples of one size share their resamples, as they would with a generator of their own, and are worked out together:
    thousands of calls would take many times as long.
    """
    found = [(float(each[0]), float(each[0])) if len(each) > 1 else _NONE for each in samples]
    spread = [place for place, each in enumerate(samples) if len(each) > 1 and np.ptp(each) > 0]
    for size in sorted({len(samples[place]) for place in spread}):
        alike = [place for place in spread if len(samples[place]) == size]
        count = min(_AT_A_TIME, max(1, _VALUES_AT_A_TIME // size))
        for start in range(0, len(alike), count):
            part = alike[start : start + count]
            lows, highs = _bootstrap(np.stack([samples[place] for place in part]))
            for place, low, high in zip(part, lows, highs, strict=True):
                found[place] = float(low), float(high)
    return found


def _bootstrap(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends [R] for samples [R, n]."""
    found = stats.bootstrap(
        (samples,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0), axis=-1
    )
    return found.confidence_interval.low, found.confidence_interval.high


def interval_of_mean(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of normal values by Student's t; NaN for fewer than two, no width for equal ones.

    Wider than the bootstrap interval for few values, and right: that one misses the mean of three normal values one
    time in four.
    """
    if len(values) < 2:
        return _NONE
    reach = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return float(np.mean(values) - reach), float(np.mean(values) + reach)


def interval_of_share(events: int, chances: int) -> tuple[float, float]:
    """95 % interval of the probability of an event that happened so often in independent trials (Clopper, Pearson)."""
    found = stats.binomtest(events, chances).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def interval_of_spread(deviation: float, count: int) -> tuple[float, float]:
    """95 % interval of the standard deviation of normal values, from that of `count` of them (ddof 1).

    A bootstrap would be of no use here: a resample of few values repeats some, and so spreads less.
    """
    low, high = (math.sqrt((count - 1) / stats.chi2.ppf(share, count - 1)) for share in (0.975, 0.025))
    return float(deviation * low), float(deviation * high)


def relative_range(values: np.ndarray) -> np.ndarray:
    """Largest minus smallest over the largest, along the first axis; 0 where all are 0."""
    largest = values.max(0)
    return np.divide(largest - values.min(0), largest, out=np.zeros_like(largest), where=largest > 0)


def interval_of_range(samples: Sequence[np.ndarray]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of relative_range of the samples' means, each sample resampled by itself."""
    rng = np.random.default_rng(0)
    means = [each[rng.integers(len(each), size=(RESAMPLES, len(each)))].mean(1) for each in samples]
    low, high = np.quantile(relative_range(np.stack(means)), (0.025, 0.975))
    return float(low), float(high)


def compare_to_dense(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with `difference` and `val_difference` (test and validation accuracy minus dense's), `macs_ratio`,
    `train_macs_ratio`, `train_macs_with_search_ratio`, `wall_ratio`.

    NaN where the run does not count or dense has no counted run of that seed. Accuracy is compared only with a
    dense network that was set to train as long (a variant may ask for more epochs), wall time only between runs on
    one model of CPU, or of GPU, with as many threads.
    """
    paired = _dense_of_each(runs)
    counts = counted(runs)
    as_long = runs["duration"].fillna("") == paired["duration"].fillna("")
    return runs.assign(
        difference=(runs["test_accuracy"] - paired["test_accuracy"]).where(counts & as_long),
        val_difference=(runs["val_accuracy"] - paired["val_accuracy"]).where(counts & as_long),
        macs_ratio=(runs["macs"] / runs["macs_dense"]).where(counts),
        train_macs_ratio=(runs["train_macs"] / paired["train_macs"]).where(counts),
        train_macs_with_search_ratio=(runs["train_macs_with_search"] / paired["train_macs"]).where(counts),
        wall_ratio=(runs["wall_seconds"] / paired["wall_seconds"]).where(counts & _on_one_machine(runs, paired)),
    )


def _on_one_machine(runs: pd.DataFrame, paired: pd.DataFrame) -> pd.Series:
    device, threads, cpu, gpu = (runs[name] == paired[name] for name in ("device", "threads", "cpu", "gpu"))
    return device & threads & gpu.where(runs["device"] != "cpu", cpu)


def _dense_of_each(runs: pd.DataFrame) -> pd.DataFrame:
    """For every run, dense's run of its architecture and seed: same index, NaN if it does not exist."""
    results = ["test_accuracy", "val_accuracy", "train_macs", "wall_seconds", "duration"]
    fields = [*results, "device", "threads", "cpu", "gpu"]
    is_dense = counted(runs) & (runs["method"] == "dense") & (runs["variant"] == "default")
    dense = runs[is_dense].set_index(PAIR)[fields]
    return runs[PAIR].join(dense, on=PAIR)[fields]


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per architecture, method and variant, in the order of the runs.

    Columns: the settings of the network; n and the counts of other outcomes; for each quantity
    `<name>_mean` and `<name>_sd` (ddof 1), for those in WITH_INTERVAL also `_low` and `_high`; `difference_n`
    counts the pairs, `before_finetune_n` the runs with an accuracy before fine-tuning.
    """
    groups = list(compare_to_dense(runs).groupby(GROUP, sort=False))
    samples = [_samples(group[counted(group)]) for _, group in groups]
    bounds = iter(intervals([sample[name] for sample in samples for name in WITH_INTERVAL]))
    rows = [
        dict(zip(GROUP, names, strict=True)) | _counts(group, sample) | _moments(sample, bounds)
        for (names, group), sample in zip(groups, samples, strict=True)
    ]
    return pd.DataFrame(rows)


def _samples(used: pd.DataFrame) -> dict[str, np.ndarray]:
    """For each quantity its values in the runs that have one."""
    columns = {name: used[name].to_numpy(float) for name in [*WITH_INTERVAL, *WITHOUT_INTERVAL]}
    return {name: values[~np.isnan(values)] for name, values in columns.items()}


def _counts(group: pd.DataFrame, sample: dict[str, np.ndarray]) -> dict[str, object]:
    row: dict[str, object] = {"label": group["label"].iloc[0]} | {name: _distinct(group[name]) for name in MODEL}
    row |= {"n": int(counted(group).sum())} | _outcomes(group["status"])
    row["difference_n"] = len(sample["difference"])
    row["before_finetune_n"] = len(sample["val_accuracy_before_finetune"])
    return row


def _moments(sample: dict[str, np.ndarray], bounds: Iterator[tuple[float, float]]) -> dict[str, float]:
    """Mean and spread of each quantity; `bounds` gives those of WITH_INTERVAL, in their order."""
    row: dict[str, float] = {}
    for name, values in sample.items():
        row[f"{name}_mean"] = float(np.mean(values)) if len(values) else float("nan")
        row[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        if name in WITH_INTERVAL:
            row[f"{name}_low"], row[f"{name}_high"] = next(bounds)
    return row


def _distinct(values: pd.Series) -> str:
    """A setting as text, empty where it is absent; where runs differ (an outdated record), all that there are."""
    texts = [f"{value:g}" if isinstance(value, float) else value for value in values.dropna()]
    return " or ".join(dict.fromkeys(texts))


def _outcomes(status: pd.Series) -> dict[str, int]:
    return {
        "n_failed": int(status.isin(["diverged", "failed"]).sum()),
        "n_missing": int(status.isin(["missing", "unreadable"]).sum()),
        "n_collapsed": int((status == "collapsed").sum()),
        "n_unpruned": int((status == "unpruned").sum()),
    }
