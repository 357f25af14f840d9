"""C3 and C8: what a gated run costs and reaches, beside other runs of the same network and seed."""

from collections.abc import Callable

import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.claims.sample import Sample, gated_runs
from layerprune.analysis.frames import Study, read_plain_latencies
from layerprune.core import methods

FAMILIES = methods.families()
Allows = Callable[[pd.DataFrame], pd.Series]
"""Which pairs may be compared, from columns such as sections_left and sections_left_other."""
COMPARED = ["test_accuracy", "sections_left", "train_macs"]


# --- C3: beside dense -----------------------------------------------------------------------------------------------


def training_macs(study: Study) -> list[Sample]:
    """Multiply-adds of the whole training, as a multiple of dense's."""
    return _column(study, "train_macs_ratio")


def inference_macs(study: Study) -> list[Sample]:
    """Multiply-adds of one input, as a multiple of dense's."""
    return _column(study, "macs_ratio")


def accuracy_difference(study: Study) -> list[Sample]:
    """Test accuracy minus dense's (fraction)."""
    return _column(study, "difference")


def wall_seconds(study: Study) -> list[Sample]:
    """Wall time of the whole training, as a multiple of dense's on the same kind of machine."""
    return _column(study, "wall_ratio")


def training_macs_against_cheapest_rival(study: Study) -> list[Sample]:
    """Training multiply-adds over those of the cheapest other method whose mean accuracy is no lower; n: gated's seeds.

    A scratch control is not charged the gated run that found its layout, so controls do not count as rivals.
    """
    main = study.runs[(study.runs["variant"] == "default") & statistics.counted(study.runs)]
    samples = []
    for arch, runs in gated_runs(study):
        rivals = main[(main["arch"] == arch) & main["method"].map(FAMILIES.get).isin(["trained", "scores"])]
        means = rivals.groupby("method")[["test_accuracy", "train_macs"]].mean()
        own = means.loc["gated"] if "gated" in means.index else None
        able = means.drop(index=["gated"], errors="ignore")
        able = able[able["test_accuracy"] >= own["test_accuracy"]] if own is not None else able.iloc[:0]
        if len(runs) < 2 or able.empty:
            samples.append(Sample(arch, ()))
            continue
        cheapest = able["train_macs"].idxmin()
        ratio = float(own["train_macs"] / able["train_macs"].min())
        samples.append(Sample(arch, (ratio,), against=str(cheapest), seeds=len(runs)))
    return samples


def latency_of_one(study: Study) -> list[Sample]:
    """Measured time of a forward pass of one input, as a multiple of dense's."""
    return _latency(study, largest=False)


def latency_of_a_batch(study: Study) -> list[Sample]:
    """The same of the largest batch that was measured."""
    return _latency(study, largest=True)


def _latency(study: Study, largest: bool) -> list[Sample]:
    """By seed; n = 0 where nothing was measured."""
    times = _times(study)
    batch = times["batch"].max() if largest else 1
    times = times[times["batch"] == batch].set_index(["arch", "method", "seed"])["median_ms"]
    samples = []
    for arch, runs in gated_runs(study):
        pairs = [((arch, "gated", seed), (arch, "dense", seed)) for seed in runs["seed"]]
        there = [pair for pair in pairs if all(key in times.index for key in pair)]
        samples.append(Sample(arch, tuple(float(times[own] / times[whole]) for own, whole in there)))
    return samples


def _times(study: Study) -> pd.DataFrame:
    """Measured latencies, eager and in full precision, of default runs, of networks that the runs still have."""
    counted = study.runs[(study.runs["variant"] == "default") & statistics.counted(study.runs)]
    times = read_plain_latencies(study.preset, study.dataset)
    times = times[times["variant"] == "default"].astype({"macs": "float64", "seed": counted["seed"].dtype})
    return times.merge(counted[["arch", "method", "seed", "macs"]], on=["arch", "method", "seed", "macs"])


def _column(study: Study, name: str) -> list[Sample]:
    return [Sample(arch, tuple(runs[name].dropna())) for arch, runs in gated_runs(study)]


# --- C8: beside other methods ---------------------------------------------------------------------------------------


def against_matched_depth(study: Study) -> list[Sample]:
    """Gated's test accuracy minus another method's that keeps as many sections (fraction)."""
    return _differences(study, lambda pairs: pairs["sections_left"] == pairs["sections_left_other"])


def against_no_dearer(study: Study) -> list[Sample]:
    """Gated's test accuracy minus that of another method whose training costs no more multiply-adds (fraction).

    A scratch control is not charged the gated run that found its layout.
    """
    return _differences(study, lambda pairs: pairs["train_macs_other"] <= pairs["train_macs"])


def _differences(study: Study, allows: Allows) -> list[Sample]:
    main = study.runs[study.runs["variant"] == "default"]
    samples = []
    for arch, runs in main.groupby("arch", sort=False):
        used = runs[statistics.counted(runs)].set_index("seed")
        gated = used[used["method"] == "gated"][COMPARED]
        if gated.empty:
            samples.append(Sample(arch, ()))
        for method, other in used[~used["method"].isin(["gated", "dense"])].groupby("method", sort=False):
            pairs = gated.join(other[COMPARED].add_suffix("_other"), how="inner")
            pairs = pairs[allows(pairs)]
            if len(pairs):
                differences = pairs["test_accuracy"] - pairs["test_accuracy_other"]
                samples.append(Sample(arch, tuple(differences), against=str(method)))
    return samples
