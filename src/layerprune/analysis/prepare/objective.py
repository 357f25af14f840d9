"""The objective J = loss + nu sum theta over a training (without the weights' prior), and that of theta rounded."""

import numpy as np
import pandas as pd

from layerprune.analysis.frames import Study
from layerprune.analysis.gate_traces import Watched, planned, watched
from layerprune.analysis.prepare.priors import PRIORS, variant_of

VARIANTS = {variant_of(PRIORS[0]): "constant", "robbins-monro": "falling"}
"""Variant of gated -> its step sizes on theta."""
AVERAGED = 3
"""Checks over whose batches the losses at theta and at theta rounded are averaged."""
COLUMNS = ["arch", "seed", "steps_on_theta", "step", "objective", "rounded", "open"]


def objective(run: Watched) -> tuple[np.ndarray, np.ndarray]:
    """J at theta and at theta rounded, at every check; of batches, averaged over AVERAGED checks."""
    theta = np.nan_to_num(run.theta)
    drawn = _averaged(run.drawn) + run.price * theta.sum(1)
    return drawn, _averaged(run.rounded) + run.price * (theta >= 0.5).sum(1)


def _averaged(values: np.ndarray) -> np.ndarray:
    return np.array([values[max(0, place - AVERAGED + 1) : place + 1].mean() for place in range(len(values))])


def objectives(study: Study) -> pd.DataFrame:
    """A row a check of the watched trainings: J with the mean loss since the last check, `rounded` that of theta
    rounded, `open` the expected number of open sections.

    An architecture without a record has one row without numbers.
    """
    rows = []
    for variant, steps in VARIANTS.items():
        there = set()
        for run in watched(study, variant):
            there.add(run.record.arch)
            theta = np.nan_to_num(run.theta).sum(1)
            names = {"arch": run.record.arch, "seed": run.record.seed, "steps_on_theta": steps}
            values = zip(run.step, run.loss + run.price * theta, objective(run)[1], theta, strict=True)
            rows += [names | dict(zip(COLUMNS[3:], map(float, each), strict=True)) for each in values]
        rows += [{"arch": arch, "steps_on_theta": steps} for arch in planned(study, variant) if arch not in there]
    return pd.DataFrame(rows, columns=COLUMNS)
