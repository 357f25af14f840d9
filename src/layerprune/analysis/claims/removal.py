"""C1, C2, C7: when sections leave, whether anything gets past those that are gone, and whether they stay closed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from layerprune.analysis.basin import VARIANT, Fates, fates
from layerprune.analysis.claims.sample import Sample, gated_runs, share_of_events
from layerprune.analysis.frames import KEY, Study
from layerprune.analysis.gate_traces import GateTrace, archs_with, price_of_a_section, rounding_due, traces_of
from layerprune.analysis.selections import (
    RANDOM_REMOVAL,
    archs_with_experiment,
    better_than_guessing,
    experiment_records,
)
from layerprune.core.settings import GatedSettings, steps_of
from layerprune.suite import store
from layerprune.suite.record import Record
from layerprune.system.paths import RunKey

ROBBINS_MONRO = "robbins-monro"
READINGS = 10
"""Checks at each end of a training by which its drift is measured."""


# --- C1: when sections leave ----------------------------------------------------------------------------------------


def removed_before_quarter(study: Study) -> list[Sample]:
    """Share of a run's removals that came in the first quarter of its steps."""
    return _shares(study, lambda run: run["steps_total"] / 4)


def removed_before_quarter_where_time_allows(study: Study) -> list[Sample]:
    """The same of networks whose settings let a section of no use leave before the quarter ends."""
    allowed = _where_time_allows(study)
    return [sample for sample in removed_before_quarter(study) if sample.arch in allowed]


def removed_by_quarter_where_time_allows(study: Study) -> list[Sample]:
    """Share of a run's removals that came by the check that is nearest to a quarter of its steps.

    Of networks whose settings let a section of no use leave by then, or from which any section left.
    """
    found = _shares(study, lambda run: _by(run, 0.25))
    allowed = _where_time_allows(study)
    return [sample for sample in found if sample.arch in allowed or any(sample.values)]


def removed_by_half(study: Study) -> list[Sample]:
    """Share of a run's removals that came by the check that is nearest to half of its steps."""
    return _shares(study, lambda run: _by(run, 0.5))


def removed_before_half(study: Study) -> list[Sample]:
    """Share of a run's removals that came in the first half of its steps."""
    return _shares(study, lambda run: run["steps_total"] / 2)


def removed_before_consolidation(study: Study) -> list[Sample]:
    """Share of a run's removals that came before theta was rounded: those that theta decided by itself."""
    return _shares(study, lambda run: rounding_due(_settings(run), run["steps_total"]))


def _shares(study: Study, moment: Callable[[dict], float]) -> list[Sample]:
    samples = []
    for arch, runs in gated_runs(study):
        removals = [
            (run, [step for step in run["removed_step"] if step is not None]) for run in runs.to_dict("records")
        ]
        shares = [sum(step < moment(run) for step in steps) / len(steps) for run, steps in removals if steps]
        if shares or runs.empty:  # where nothing went there is nothing to ask
            samples.append(Sample(arch, tuple(shares), is_share=True))
    return samples


def _by(run: dict, share: float) -> float:
    """Half a check after this share of the steps."""
    return share * run["steps_total"] + _settings(run).check_interval / 2


def _where_time_allows(study: Study) -> set[str]:
    """Networks whose settings let a section of no use leave in the first quarter of every run.

    Its theta is frozen during the warm-up, and then falls from theta0 to 0 (steps_of_a_fall).
    """
    return {arch for arch, runs in gated_runs(study) if all(map(_may_leave_early, runs.to_dict("records")))}


def _may_leave_early(run: dict) -> bool:
    settings = _settings(run)
    warmup = steps_of(settings.warmup, round(run["steps_total"] / run["epochs"]))
    fall = steps_of_a_fall(settings, price_of_a_section(_record(run), settings), run["steps_total"])
    return warmup + fall < run["steps_total"] / 4


def steps_of_a_fall(settings: GatedSettings, price: float, steps_total: float) -> float:
    """After how many steps from the warm-up theta of a section of no use is 0, under a price that may rise to its full
    height within the first of them."""
    needed, ramp = settings.theta0 / settings.theta_lr, settings.price_ramp * steps_total
    if not price:
        return math.inf
    if needed < price * ramp / 2:
        return math.sqrt(2 * ramp * needed / price)
    return ramp / 2 + needed / price


def _settings(run: dict) -> GatedSettings:
    """Those that the run was made with; what later versions added has its default, what they dropped is left out."""
    known = GatedSettings.model_fields
    asked = _record(run).provenance.config["settings"]
    return GatedSettings(**{name: value for name, value in asked.items() if name in known})


def _record(run: dict) -> Record:
    return store.find(RunKey(**{name: run[name] for name in KEY}))


# --- C2: whether anything gets past sections that are gone, from the experiment random-removal ----------------------


def working_networks(study: Study) -> list[Sample]:
    """Share of a seed's random keep lists whose network, not trained any further, does better than guessing."""
    return [replace(sample, is_share=True) for sample in _of_removals(study, _working)]


def largest_gap(study: Study) -> list[Sample]:
    """Largest equivalence gap, over a seed's keep lists, between gates at 0 and sections that are gone."""
    return _of_removals(study, lambda found: max(found.details["gaps"]))


def _working(found: Record) -> float:
    accuracies = found.details["accuracies"]
    return sum(accuracy > better_than_guessing(found) for accuracy in accuracies) / len(accuracies)


def _of_removals(study: Study, number: Callable[[Record], float]) -> list[Sample]:
    runs = list(experiment_records(study, RANDOM_REMOVAL))
    return [
        Sample(arch, tuple(number(run) for run in runs if run.arch == arch))
        for arch in archs_with_experiment(study, RANDOM_REMOVAL)
    ]


# --- C7: whether projected SGD converges, and sections that may go stay closed --------------------------------------


def came_back(study: Study) -> list[Sample]:
    """Of the sections that met the pruning condition and were left in place, the share open at the end."""
    return _open_at_the_end(study, lambda found: found.may_go[-1])


def came_back_though_predicted_to_go(study: Study) -> list[Sample]:
    """Of the sections that were below the comparison system's manifold, the share open at the end."""
    return _open_at_the_end(study, lambda found: found.predicted[-1])


def weights_of_sections_that_may_go(study: Study) -> list[Sample]:
    """Norm of their weights at the end of the gates over that when they first met the condition; mean over sections."""
    return _of_fates(study, lambda found: float(np.nanmean(found.weights_since)) if found.may_go[-1].any() else None)


def decay_off_prediction(study: Study) -> list[Sample]:
    """How far the decay rate of closed sections' weights is from the predicted b lambda, as a share of it.

    Of the sections that met the pruning condition and were closed at the end, from then on: the logarithm of what the
    norms of their weights lost over the integral of b lambda, both added up over sections. Of weights under weight
    decay: where these are not all, only trainings that noted their norm count.
    """
    return _of_fates(study, _decay_off)


def _decay_off(found: Fates) -> float | None:
    gone = found.may_go[-1] & found.closed
    predicted = found.decay_predicted[gone].sum()
    if found.decay is None or not predicted > 0:
        return None
    return float(abs(found.decay[gone].sum() / predicted - 1))


def drift_left(study: Study) -> list[Sample]:
    """Root mean square of the projected drift at the last check over that at the first, with falling step sizes."""
    return _of_traces(study, ROBBINS_MONRO, _drift_left)


def squared_drift_left(study: Study) -> list[Sample]:
    """Square of the projected drift at the end over that at the beginning, with falling step sizes."""
    return _of_traces(study, ROBBINS_MONRO, _squared_drift_left)


def squared_drift_left_with_constant_steps(study: Study) -> list[Sample]:
    """The same with constant step sizes, where nothing is removed until theta is rounded."""
    return _of_traces(study, VARIANT, _squared_drift_left)


def _squared_drift_left(trace: GateTrace) -> float | None:
    """None where the training is too short, or the drift at the beginning too small, to tell."""
    readings = min(READINGS, (len(trace.step) - trace.warmup) // 2) // 2 * 2
    if readings == 0:
        return None
    first, last = (
        _squared_drift(trace, checks) for checks in (range(trace.warmup, trace.warmup + readings), range(-readings, 0))
    )
    return last / first if first > 0 else None


def _squared_drift(trace: GateTrace, checks: Sequence[int]) -> float:
    """Of two measurements, one after the other, the product: the square of one would be that of its noise, too.

    Not by alternate checks: Delta is an average that still knows a quarter of the one before.
    """
    half = len(checks) // 2
    one, other = (np.mean([_projected(trace, check) for check in part], 0) for part in (checks[:half], checks[half:]))
    return float(one @ other)


def _drift_left(trace: GateTrace) -> float | None:
    first, last = (np.sqrt(np.mean(_projected(trace, check) ** 2)) for check in (trace.warmup, -1))
    return float(last / first)


def _projected(trace: GateTrace, check: int) -> np.ndarray:
    """The drift that theta can follow; of a section that is gone none."""
    theta, drift = trace.theta[check], trace.delta[check] + trace.price
    held = ((theta <= 0) & (drift > 0)) | ((theta >= 1) & (drift < 0)) | np.isnan(theta)
    return np.where(held, 0.0, drift)


def _open_at_the_end(study: Study, among: Callable[[Fates], np.ndarray]) -> list[Sample]:
    counts: dict[str, list[tuple[int, int]]] = {arch: [] for arch in archs_with(study, VARIANT)}
    for trace in traces_of(study, VARIANT):
        if (found := fates(trace)) is not None:
            chosen = among(found)
            counts[trace.record.arch].append((int((chosen & ~found.closed).sum()), int(chosen.sum())))
    return [share_of_events(arch, each) for arch, each in counts.items()]


def _of_fates(study: Study, number: Callable[[Fates], float | None]) -> list[Sample]:
    def of_run(trace: GateTrace) -> float | None:
        found = fates(trace)
        return number(found) if found is not None else None

    return _of_traces(study, VARIANT, of_run)


def _of_traces(study: Study, variant: str, number: Callable[[GateTrace], float | None]) -> list[Sample]:
    values: dict[str, list[float]] = {arch: [] for arch in archs_with(study, variant)}
    for trace in traces_of(study, variant):
        found = number(trace)
        if found is not None:
            values[trace.record.arch].append(found)
    return [Sample(arch, tuple(each)) for arch, each in values.items()]
