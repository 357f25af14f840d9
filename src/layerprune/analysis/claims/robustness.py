"""C6: how far results depend on the seed, on the depth, gates and weights at the start, and on the price."""

import math
from collections.abc import Iterator

import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.claims.sample import Sample, gated_runs
from layerprune.analysis.frames import Study
from layerprune.analysis.selections import RIVALS, families


def spread_of_depth(study: Study) -> list[Sample]:
    """Standard deviation over seeds of the sections left, as a share of all."""
    return [
        _summed_up(arch, len(runs), (runs["sections_left"] / runs["sections_total"]).std())
        for arch, runs in gated_runs(study)
    ]


def spread_of_depth_of_rivals(study: Study) -> list[Sample]:
    """The same of other methods that choose their depth themselves."""
    used = study.runs[(study.runs["variant"] == "default") & statistics.counted(study.runs)]
    return [
        Sample(str(arch), (float((runs["sections_left"] / runs["sections_total"]).std()),), str(method), len(runs))
        for (arch, method), runs in used[used["method"].isin(RIVALS)].groupby(["arch", "method"], sort=False)
        if len(runs) > 1
    ]


def spread_of_accuracy(study: Study) -> list[Sample]:
    """Standard deviation over seeds of the test accuracy (fraction)."""
    return [_summed_up(arch, len(runs), runs["test_accuracy"].std()) for arch, runs in gated_runs(study)]


def depth_over_starts(study: Study) -> list[Sample]:
    """Largest minus smallest mean of sections left, over the largest, among starts of one family that lost any.

    A start that is smaller than what would be left keeps all of its sections, and says nothing.
    """
    return list(_over_starts(study, "gated"))


def depth_over_starts_of_rivals(study: Study) -> list[Sample]:
    """The same of other methods that choose their depth themselves."""
    return [sample for rival in RIVALS for sample in _over_starts(study, rival)]


def depth_over_theta0(study: Study) -> list[Sample]:
    """Largest minus smallest mean of sections left, over the largest, among start values of theta."""
    return list(_over_variants(study, "gated", "theta0-"))


def depth_over_initial_scale(study: Study) -> list[Sample]:
    """The same among scales of the weights at the start."""
    return list(_over_variants(study, "gated", "initial-scale-"))


def depth_over_initial_scale_of_rivals(study: Study) -> list[Sample]:
    """The same of other methods that choose their depth themselves."""
    return [sample for rival in RIVALS for sample in _over_variants(study, rival, "initial-scale-")]


def depth_over_gates_at_the_start_of_rivals(study: Study) -> list[Sample]:
    """The same of hard-concrete among start values of its gates' log_a."""
    return list(_over_variants(study, "hard-concrete", "log-a0-"))


def depth_where_the_price_doubles(study: Study) -> list[Sample]:
    """Fall of the share of sections left where nu doubles: the steepest between neighbours of the sweep of nu.

    Share of all sections, per factor of two; how finely a price has to be chosen.
    """
    sweep = _used(study, "gated")
    sweep = sweep[(sweep["variant"] == "default") | sweep["variant"].str.startswith("nu-")]
    samples = []
    for arch, runs in sweep.groupby("arch", sort=False):
        shares = (runs["sections_left"] / runs["sections_total"]).groupby(runs["nu"]).agg(["mean", "size"]).sort_index()
        if len(shares) > 1:
            doublings = pd.Series(shares.index).map(math.log2).diff()[1:].to_numpy()
            falls = -shares["mean"].diff()[1:].to_numpy() / doublings
            samples.append(Sample(str(arch), (float(falls.max()),), seeds=int(shares["size"].min())))
    return samples


def _over_starts(study: Study, method: str) -> Iterator[Sample]:
    used = _used(study, method)
    used = used[used["variant"] == "default"]
    against = "" if method == "gated" else method
    for family, members in families(study.runs, method):
        runs = used[used["arch"].isin(members)]
        left = runs.groupby("arch")["sections_left"].agg(["mean", "size"])
        pruned = left[left["mean"] < pd.Series(members, dtype=float).reindex(left.index)]
        yield _range(family, pruned["mean"], left["size"], against)


def _over_variants(study: Study, method: str, prefix: str) -> Iterator[Sample]:
    """Over the variants whose names begin so and whose price is the default's, and the default."""
    runs = study.runs[study.runs["method"] == method]
    default = runs[runs["variant"] == "default"].groupby("arch")["nu"].first()
    same_price = runs["nu"].isna() | (runs["nu"] == runs["arch"].map(default))  # a rival has no nu
    runs = runs[(runs["variant"].str.startswith(prefix) & same_price) | (runs["variant"] == "default")]
    used = runs[statistics.counted(runs)]
    for arch in dict.fromkeys(runs[runs["variant"] != "default"]["arch"]):
        left = used[used["arch"] == arch].groupby("variant")["sections_left"].agg(["mean", "size"])
        yield _range(arch, left["mean"], left["size"], "" if method == "gated" else method)


def _range(arch: str, means: pd.Series, seeds: pd.Series, against: str) -> Sample:
    """Largest minus smallest over the largest, of two means or more of two seeds or more."""
    if len(means) < 2 or seeds.min() < 2 or means.max() == 0:
        return Sample(arch, (), against=against)
    return Sample(arch, (float((means.max() - means.min()) / means.max()),), against=against, seeds=int(seeds.min()))


def _used(study: Study, method: str) -> pd.DataFrame:
    return study.runs[(study.runs["method"] == method) & statistics.counted(study.runs)]


def _summed_up(arch: str, seeds: int, number: float) -> Sample:
    return Sample(arch, (float(number),), seeds=seeds) if seeds > 1 else Sample(arch, ())
