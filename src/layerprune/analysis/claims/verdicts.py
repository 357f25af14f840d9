"""From samples and bounds to verdicts, by the rule in config/claims/rules.yaml."""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import pandas as pd
from scipy import stats

from layerprune.analysis import statistics
from layerprune.analysis.claims.sample import Sample
from layerprune.suite.config import Condition, Rule

SIGNIFICANT = 0.05
EQUAL = 1e-9
"""Numbers that are nearer than this differ by rounding alone: accuracies come in steps of one image."""


class Verdict(StrEnum):
    """What may be said of a claim."""

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not supported"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"


COLUMNS = ["quantity", "bound", "dataset", "arch", "against", "n", "mean", "low", "high", "p", "verdict"]


def judge(condition: Condition, dataset: str, samples: Sequence[Sample], least_seeds: int) -> pd.DataFrame:
    """One row a sample, with COLUMNS: mean and 95 % interval over seeds, and whether the bound is kept.

    Comparisons (samples with `against`) are decided by a paired t test against the bound, two-sided, with the p values
    of one network under this condition corrected by Holm's method; NaN where nothing was tested.
    """
    rows = report(condition.quantity, dataset, samples).assign(bound=str(condition))
    rows["p"] = _holm_within_networks(samples, condition)
    rows["verdict"] = [
        _verdict(condition, sample, least_seeds, *numbers)
        for sample, *numbers in zip(samples, rows["mean"], rows["low"], rows["high"], rows["p"], strict=True)
    ]
    return rows


def report(quantity: str, dataset: str, samples: Sequence[Sample]) -> pd.DataFrame:
    """One row a sample, with COLUMNS: mean and interval alone, no bound, no p value and no verdict."""
    rows = []
    for sample in samples:
        mean = float(np.mean(sample.values)) if sample.values else float("nan")
        low, high = _interval(sample, mean)
        names = {"quantity": quantity, "bound": quantity, "dataset": dataset}
        numbers = {"n": sample.n, "mean": mean, "low": low, "high": high, "p": float("nan"), "verdict": ""}
        rows.append(names | {"arch": sample.arch, "against": sample.against or sample.at} | numbers)
    return pd.DataFrame(rows, columns=COLUMNS)


def _interval(sample: Sample, mean: float) -> tuple[float, float]:
    if sample.seeds is not None:
        return sample.interval or (mean, mean)
    low, high = statistics.interval_of_mean(np.array(sample.values))
    return (float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))) if sample.is_share else (low, high)


def _verdict(
    condition: Condition, sample: Sample, least_seeds: int, mean: float, low: float, high: float, p: float
) -> Verdict:
    if sample.n == 0:
        return Verdict.NOT_RUN
    if sample.n < least_seeds:
        return Verdict.INCONCLUSIVE
    if sample.against:
        low, high = (mean, mean) if p < SIGNIFICANT else (-np.inf, np.inf)
    return _of_interval(condition, low, high)


def _of_interval(condition: Condition, low: float, high: float) -> Verdict:
    if condition.at_least is not None:
        kept, broken = low >= condition.at_least, high < condition.at_least
    else:
        kept, broken = high <= condition.at_most, low > condition.at_most
    return Verdict.SUPPORTED if kept else Verdict.NOT_SUPPORTED if broken else Verdict.INCONCLUSIVE


def _holm_within_networks(samples: Sequence[Sample], condition: Condition) -> list[float]:
    bound = condition.at_least if condition.at_least is not None else condition.at_most
    found = [float("nan")] * len(samples)
    for arch in dict.fromkeys(sample.arch for sample in samples):
        places = [place for place, each in enumerate(samples) if each.arch == arch and each.against and each.n > 1]
        corrected = holm([_p_value(np.array(samples[place].values) - bound) for place in places])
        for place, p in zip(places, corrected, strict=True):
            found[place] = p
    return found


def _p_value(differences: np.ndarray) -> float:
    """Two-sided p of a t test that the mean is 0, or, of equal differences, which tell it no scale, of a sign test."""
    if np.ptp(differences) < EQUAL:
        return 2.0 ** (1 - len(differences)) if abs(differences[0]) > EQUAL else 1.0
    return float(stats.ttest_1samp(differences, 0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number by Holm's step-down method (Scand. J. Statist. 6, 1979)."""
    order = np.argsort(p_values)
    stepped = [(len(p_values) - rank) * p_values[place] for rank, place in enumerate(order)]
    corrected = np.minimum(1.0, np.maximum.accumulate(stepped)) if len(order) else []
    return [float(p) for p in np.array(corrected)[np.argsort(order)]] if len(order) else []


def of_networks(rows: pd.DataFrame) -> dict[tuple[str, str], Verdict]:
    """(data set, architecture) -> whether every condition holds there."""
    groups = rows.groupby(["dataset", "arch"], sort=False)["verdict"]
    return {names: _all_of(set(verdicts)) for names, verdicts in groups}


def _all_of(verdicts: set[str]) -> Verdict:
    for decisive in (Verdict.NOT_SUPPORTED, Verdict.INCONCLUSIVE):
        if decisive in verdicts:
            return decisive
    if verdicts == {Verdict.NOT_RUN}:
        return Verdict.NOT_RUN
    return Verdict.SUPPORTED if verdicts == {Verdict.SUPPORTED} else Verdict.INCONCLUSIVE


def of_rule(rule: Rule, networks: dict[tuple[str, str], Verdict]) -> Verdict:
    """What the networks say together: those that support the claim must reach the rule's quorum."""
    found = list(networks.values())
    if all(each == Verdict.NOT_RUN for each in found):
        return Verdict.NOT_RUN
    supporting, failing = (found.count(each) / len(found) for each in (Verdict.SUPPORTED, Verdict.NOT_SUPPORTED))
    if supporting >= rule.quorum:
        return Verdict.SUPPORTED
    return Verdict.NOT_SUPPORTED if failing > 1 - rule.quorum else Verdict.INCONCLUSIVE
