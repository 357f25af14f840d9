"""C3 and C8: what a gated run costs and reaches, beside other runs of the same network and seed."""

import math
from collections.abc import Callable, Iterator, Sequence

import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.claims.sample import Sample, gated_runs
from layerprune.analysis.frames import Study, read_plain_latencies
from layerprune.core import methods

FAMILIES = methods.families()
Allows = Callable[[pd.DataFrame], pd.Series | bool]
"""Which pairs may be compared, or whether all may, from columns such as sections_left and sections_left_other."""
COMPARED = ["test_accuracy", "sections_left", "macs", "train_macs", "train_macs_with_search"]


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
    """Training multiply-adds over those of the cheapest other method that is no less accurate.

    Means are over the seeds that both have, two at least; n: these seeds. A method of which one of them came to nothing
    does not count.
    A scratch control is not charged the gated run that found its layout, so controls do not count as rivals.
    """
    runs = study.runs.assign(counted=statistics.counted(study.runs))
    made = runs[(runs["variant"] == "default") & ~runs["status"].isin(["missing", "unreadable"])]
    rivals = made[made["method"].map(FAMILIES.get).isin(["trained", "scores"]) & (made["method"] != "gated")]
    samples = []
    for arch, own in gated_runs(study):
        pairs = rivals[rivals["arch"] == arch].merge(own, on="seed", suffixes=("", "_gated"))
        found = pairs.groupby("method").agg(**_MEANS)
        as_good = found["test_accuracy"] >= found["test_accuracy_gated"]
        able = found[as_good & found["counted"] & (found["seeds"] >= 2)]
        if able.empty:
            samples.append(Sample(arch, ()))
            continue
        best = able.loc[able["train_macs"].idxmin()]
        ratio = float(best["train_macs_gated"] / best["train_macs"])
        samples.append(Sample(arch, (ratio,), against=str(best.name), seeds=int(best["seeds"])))
    return samples


_MEANS = {name: (name, "mean") for base in ("test_accuracy", "train_macs") for name in (base, f"{base}_gated")}
_MEANS |= {"seeds": ("seed", "nunique"), "counted": ("counted", "all")}


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


# --- C3, at equal accuracy: the cheapest point of gated's own curve that is about as accurate as dense ----------------

HALF_A_POINT = 0.005
LEAST_SEEDS = 3
"""Points of the sweep with fewer seeds are not on the curve."""


def training_macs_at_equal_accuracy(study: Study) -> list[Sample]:
    """Multiply-adds of the whole training at that point, as a multiple of dense's.

    The curve: gated with its default price and with those of the sweep of nu, and dense, which is the price 0. The
    point: of those whose mean validation accuracy is at most half a point below dense's, the cheapest to train. It is
    chosen by validation accuracy, so that the test set is asked once.
    """
    return _at_equal_accuracy(study, "train_macs_ratio", dense=1.0)


def inference_macs_at_equal_accuracy(study: Study) -> list[Sample]:
    """Multiply-adds of one input at that point, as a multiple of dense's."""
    return _at_equal_accuracy(study, "macs_ratio", dense=1.0)


def accuracy_difference_at_equal_accuracy(study: Study) -> list[Sample]:
    """Test accuracy at that point, minus dense's (fraction)."""
    return _at_equal_accuracy(study, "difference", dense=0.0)


def _at_equal_accuracy(study: Study, quantity: str, dense: float) -> list[Sample]:
    samples = []
    for arch, runs, seeds in _curves(study):
        points = runs.groupby("variant", sort=False)[["val_difference", "train_macs_ratio"]].mean()
        as_good = points[points["val_difference"] >= -HALF_A_POINT]
        best = as_good["train_macs_ratio"].idxmin() if len(as_good) else None
        if points.empty:
            samples.append(Sample(arch, (math.nan,) * seeds))
        elif best is None or as_good.loc[best, "train_macs_ratio"] >= 1:
            samples.append(Sample(arch, (dense,), seeds=runs["seed"].nunique(), at="dense itself"))
        else:
            values = runs[runs["variant"] == best][quantity]
            samples.append(Sample(arch, tuple(values), at=f"at {_price(runs, str(best))}"))
    return samples


def _curves(study: Study) -> Iterator[tuple[str, pd.DataFrame, int]]:
    """Of every network the runs of gated's sweep that have a partner in dense, at points of LEAST_SEEDS or more, and
    the number of seeds of the point that has most."""
    compared = statistics.compare_to_dense(study.runs)
    on_curve = (compared["method"] == "gated") & statistics.on_sweep_of_prices(compared)
    for arch, runs in compared[on_curve].groupby("arch", sort=False):
        paired = runs[runs["difference"].notna() & runs["val_difference"].notna()]
        seeds = paired.groupby("variant")["seed"].transform("size")
        yield str(arch), paired[seeds >= LEAST_SEEDS], int(seeds.max()) if len(seeds) else 0


def _price(runs: pd.DataFrame, variant: str) -> str:
    prices = runs[runs["variant"] == variant]["nu"].dropna()
    return f"nu {prices.iloc[0]:g}" if len(prices) else variant


# --- C8: beside other methods ---------------------------------------------------------------------------------------

RIVALS = ("trained", "scores")
"""Families of methods that choose sections by themselves."""
CONTROLS = ("controls",)
"""Those that borrow gated's layout or depth."""
ABOUT_AS_LARGE, ABOUT_AS_CHEAP = 0.05, 0.01
"""Shares by which multiply-adds of one input may differ, and those of a rival's training may be more."""


def against_as_large(study: Study) -> list[Sample]:
    """Gated's test accuracy minus a rival's that keeps as many sections and as many multiply-adds (fraction)."""
    return _differences(study, _as_large, RIVALS)


def against_as_cheap(study: Study) -> list[Sample]:
    """Gated's test accuracy minus that of a rival whose training costs about as much or less on average (fraction)."""
    return _differences(study, _as_cheap, RIVALS)


def against_as_cheap_by_seed(study: Study) -> list[Sample]:
    """The same, in the seeds in which it cost no more, as the rule was until 2026-11-29."""
    return _differences(study, _as_cheap_by_seed, RIVALS)


def against_controls_as_large(study: Study) -> list[Sample]:
    """Gated's test accuracy minus a control's that keeps as many sections and as many multiply-adds (fraction)."""
    return _differences(study, _as_large, CONTROLS)


def against_controls_as_cheap(study: Study) -> list[Sample]:
    """The same of a control whose training, without the search, costs about as much or less (fraction)."""
    return _differences(study, _as_cheap, CONTROLS)


def training_macs_of_controls(study: Study) -> list[Sample]:
    """Multiply-adds of a control's training without the search that it borrows from, as a multiple of gated's."""
    return _costs(study, "train_macs")


def training_macs_of_controls_with_the_search(study: Study) -> list[Sample]:
    """The same with the search: the gated run whose layout or depth the control takes over."""
    return _costs(study, "train_macs_with_search")


def against_matched_depth(study: Study) -> list[Sample]:
    """Against a rival that keeps as many sections, of whatever cost, as the rule was until 2026-11-28."""
    return _differences(study, _as_deep, RIVALS)


def against_no_dearer(study: Study) -> list[Sample]:
    """Against a rival whose training costs no multiply-add more, as the rule was until 2026-11-28."""
    return _differences(study, _no_dearer, RIVALS)


def against_all_of_matched_depth(study: Study) -> list[Sample]:
    """Rivals and controls together, as the rule was until 2026-11-27."""
    return _differences(study, _as_deep, RIVALS + CONTROLS)


def against_all_no_dearer(study: Study) -> list[Sample]:
    """Rivals and controls together, a control not charged the search, as the rule was until 2026-11-27."""
    return _differences(study, _no_dearer, RIVALS + CONTROLS)


def _as_large(pairs: pd.DataFrame) -> pd.Series:
    return _as_deep(pairs) & ((pairs["macs_other"] / pairs["macs"] - 1).abs() <= ABOUT_AS_LARGE)


def _as_cheap(pairs: pd.DataFrame) -> bool:
    # Not seed by seed: in some gated removes less, and is dearer and more accurate.
    return bool(pairs["train_macs_other"].mean() <= pairs["train_macs"].mean() * (1 + ABOUT_AS_CHEAP))


def _as_cheap_by_seed(pairs: pd.DataFrame) -> pd.Series:
    return pairs["train_macs_other"] <= pairs["train_macs"] * (1 + ABOUT_AS_CHEAP)


def _as_deep(pairs: pd.DataFrame) -> pd.Series:
    return pairs["sections_left"] == pairs["sections_left_other"]


def _no_dearer(pairs: pd.DataFrame) -> pd.Series:
    return pairs["train_macs_other"] <= pairs["train_macs"]


def _differences(study: Study, allows: Allows, families: Sequence[str]) -> list[Sample]:
    samples = []
    for arch, gated, others in _pairable(study, families):
        if gated.empty:
            samples.append(Sample(arch, ()))
        for method, other in others:
            pairs = gated.join(other.add_suffix("_other"), how="inner")
            pairs = pairs[pd.Series(allows(pairs), index=pairs.index)]
            if len(pairs):
                differences = pairs["test_accuracy"] - pairs["test_accuracy_other"]
                samples.append(Sample(arch, tuple(differences), against=method))
    return samples


def _costs(study: Study, column: str) -> list[Sample]:
    samples = []
    for arch, gated, others in _pairable(study, CONTROLS):
        for method, other in others:
            ratios = (other[column] / gated["train_macs"]).dropna()
            if len(ratios):
                samples.append(Sample(arch, tuple(ratios), against=method))
    return samples


def _pairable(
    study: Study, families: Sequence[str]
) -> Iterator[tuple[str, pd.DataFrame, list[tuple[str, pd.DataFrame]]]]:
    """Of every network gated's runs with default settings, and those of each other method of the families; by seed."""
    main = study.runs[study.runs["variant"] == "default"]
    for arch, runs in main.groupby("arch", sort=False):
        used = runs[statistics.counted(runs)].set_index("seed")
        others = used[used["method"].map(FAMILIES.get).isin(families) & ~used["method"].isin(["gated", "dense"])]
        methods_of = [(str(method), each[COMPARED]) for method, each in others.groupby("method", sort=False)]
        yield str(arch), used[used["method"] == "gated"][COMPARED], methods_of
