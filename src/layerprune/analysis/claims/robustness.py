"""C6: how far results depend on the seed, on the depth, gates and weights at the start, and on the price."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.claims.sample import Sample, gated_runs
from layerprune.analysis.frames import Study
from layerprune.analysis.selections import RIVALS, families


def spread_of_depth(study: Study) -> list[Sample]:
    """Standard deviation over seeds of the sections left, as a share of all."""
    return [_spread(arch, runs["sections_left"] / runs["sections_total"]) for arch, runs in gated_runs(study)]


def spread_of_depth_of_rivals(study: Study) -> list[Sample]:
    """The same of other methods that choose their depth themselves."""
    used = study.runs[(study.runs["variant"] == "default") & statistics.counted(study.runs)]
    return [
        _spread(str(arch), runs["sections_left"] / runs["sections_total"], str(method))
        for (arch, method), runs in used[used["method"].isin(RIVALS)].groupby(["arch", "method"], sort=False)
        if len(runs) > 1
    ]


def spread_of_accuracy(study: Study) -> list[Sample]:
    """Standard deviation over seeds of the test accuracy (fraction)."""
    return [_spread(arch, runs["test_accuracy"]) for arch, runs in gated_runs(study)]


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

    Share of all sections, per factor of two, over the seeds that both have; how finely a price has to be chosen.
    """
    sweep = _used(study, "gated")
    sweep = sweep[statistics.on_sweep_of_prices(sweep) & (sweep["nu"] > 0)]  # 0 has no double
    samples = []
    for arch, runs in sweep.groupby("arch", sort=False):
        share = runs["sections_left"] / runs["sections_total"]
        shares = runs.assign(share=share).pivot_table(index="nu", columns="seed", values="share")
        doublings = pd.Series(shares.index, index=shares.index).map(math.log2).diff()
        falls = -shares.diff().mean(axis=1) / doublings
        if falls.notna().any():
            seeds = shares.diff().notna().sum(axis=1)[falls.notna()].min()
            samples.append(Sample(str(arch), (float(falls.max()),), seeds=int(seeds)))
    return samples


def _over_starts(study: Study, method: str) -> Iterator[Sample]:
    used = _used(study, method)
    used = used[used["variant"] == "default"]
    for family, members in families(study.runs, method):
        left = _left_by("arch", used[used["arch"].isin(members)])
        pruned = [values for arch, values in left.items() if values.mean() < members[arch]]
        seeds = min(map(len, left.values()), default=0)
        yield _range(family, pruned, seeds, "" if method == "gated" else method)


def _over_variants(study: Study, method: str, prefix: str) -> Iterator[Sample]:
    """Over the variants whose names begin so and whose price is the default's, and the default."""
    runs = study.runs[study.runs["method"] == method]
    default = runs[runs["variant"] == "default"].groupby("arch")["nu"].first()
    same_price = runs["nu"].isna() | (runs["nu"] == runs["arch"].map(default))  # a rival has no nu
    runs = runs[(runs["variant"].str.startswith(prefix) & same_price) | (runs["variant"] == "default")]
    for arch in dict.fromkeys(runs[runs["variant"] != "default"]["arch"]):
        of_arch = runs[runs["arch"] == arch]
        left = _left_by("variant", of_arch[statistics.counted(of_arch)])
        against, lacks = "" if method == "gated" else method, _without(of_arch, left)
        found = _range(str(arch), list(left.values()), min(map(len, left.values()), default=0), against)
        yield replace(found, against=against and against + lacks, at=lacks.removeprefix(", "))


def _left_by(column: str, runs: pd.DataFrame) -> dict[str, np.ndarray]:
    return {str(name): each["sections_left"].to_numpy(float) for name, each in runs.groupby(column)}


def _without(runs: pd.DataFrame, left: Mapping[str, np.ndarray]) -> str:
    """Such as ", without initial-scale-2, which diverged", of the variants that only have runs without an end."""
    ended_badly = runs[(runs["status"] == "diverged") & ~runs["variant"].isin(left)]
    names = ", ".join(dict.fromkeys(ended_badly["variant"]))
    return f", without {names}, which diverged" if names else ""


def _range(arch: str, left: Sequence[np.ndarray], seeds: int, against: str) -> Sample:
    """Largest minus smallest mean over the largest, of two starts or more of two seeds or more."""
    if len(left) < 2 or seeds < 2 or max(each.mean() for each in left) == 0:
        return Sample(arch, (), against=against)
    number = statistics.relative_range(np.array([each.mean() for each in left]))
    return Sample(arch, (float(number),), against, seeds, interval=statistics.interval_of_range(left))


def _used(study: Study, method: str) -> pd.DataFrame:
    return study.runs[(study.runs["method"] == method) & statistics.counted(study.runs)]


def _spread(arch: str, values: pd.Series, against: str = "") -> Sample:
    if len(values) < 2:
        return Sample(arch, (math.nan,) * len(values), against)
    number = float(values.std())
    return Sample(arch, (number,), against, len(values), interval=statistics.interval_of_spread(number, len(values)))
