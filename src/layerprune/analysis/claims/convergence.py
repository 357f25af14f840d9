"""C7: does projected SGD converge, and do sections that may go stay closed?"""

from collections.abc import Callable

import numpy as np

from layerprune.analysis.basin import VARIANT, Fates, fates
from layerprune.analysis.claims.sample import Sample
from layerprune.analysis.frames import Study
from layerprune.analysis.gate_traces import GateTrace, archs_with, traces_of

ROBBINS_MONRO = "robbins-monro"


def came_back(study: Study) -> list[Sample]:
    """Of the sections of a run that met the pruning condition and were left in place, the share open at the end."""
    return _of_fates(study, lambda found: _share(~found.closed[found.may_go[-1]]))


def came_back_though_predicted_to_go(study: Study) -> list[Sample]:
    """Of the sections that were below the comparison system's manifold, the share open at the end."""
    return _of_fates(study, lambda found: _share(~found.closed[found.predicted[-1]]))


def weights_of_sections_that_may_go(study: Study) -> list[Sample]:
    """Norm of their weights at the end of the gates over that when they first met the condition; mean over sections."""
    return _of_fates(study, lambda found: float(np.nanmean(found.weights_since)) if found.may_go[-1].any() else None)


def drift_left(study: Study) -> list[Sample]:
    """Root mean square of the projected drift at the last check over that at the first, with falling step sizes."""
    return _samples(study, ROBBINS_MONRO, _drift_left)


def _drift_left(trace: GateTrace) -> float | None:
    first, last = (np.sqrt(np.mean(_projected(trace, check) ** 2)) for check in (trace.warmup, -1))
    return float(last / first)


def _projected(trace: GateTrace, check: int) -> np.ndarray:
    """The drift that theta can follow; of a section that is gone none."""
    theta, drift = trace.theta[check], trace.delta[check] + trace.price
    held = ((theta <= 0) & (drift > 0)) | ((theta >= 1) & (drift < 0)) | np.isnan(theta)
    return np.where(held, 0.0, drift)


def _of_fates(study: Study, number: Callable[[Fates], float | None]) -> list[Sample]:
    def of_run(trace: GateTrace) -> float | None:
        found = fates(trace)
        return number(found) if found is not None else None

    return _samples(study, VARIANT, of_run)


def _samples(study: Study, variant: str, number: Callable[[GateTrace], float | None]) -> list[Sample]:
    values: dict[str, list[float]] = {arch: [] for arch in archs_with(study, variant)}
    for trace in traces_of(study, variant):
        found = number(trace)
        if found is not None:
            values[trace.record.arch].append(found)
    return [Sample(arch, tuple(each)) for arch, each in values.items()]


def _share(flags: np.ndarray) -> float | None:
    return float(flags.mean()) if len(flags) else None
