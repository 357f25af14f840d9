"""How far estimators of Delta are from enumeration (experiment estimator-error)."""

from collections.abc import Iterator

import pandas as pd

from layerprune.analysis import experiments, statistics
from layerprune.analysis.frames import Study

EXPERIMENT = "estimator-error"
POINT = ["arch", "epochs", "theta", "reading", "batches"]


def estimator_errors(study: Study) -> pd.DataFrame:
    """A row a point: mean relative error in per cent over seeds, its 95 % bootstrap interval (NaN for one seed) and n.

    `reading` is an estimator or a half of the two-sided one, `batches` what it has seen, `epochs` how long the network
    was trained. An architecture without a record has one row without numbers.
    """
    found = pd.DataFrame(_rows(study), columns=[*POINT, "seed", "error"])
    absent = [arch for arch in experiments.planned(study, EXPERIMENT) if arch not in set(found["arch"])]
    rows = [*_points(found), *({"arch": arch} for arch in absent)]
    return pd.DataFrame(rows, columns=[*POINT, "error", "error_low", "error_high", "n"])


def _rows(study: Study) -> Iterator[dict]:
    for run in experiments.made(study, EXPERIMENT):
        for row in run.details["errors"]:
            yield {"arch": run.arch, "seed": run.seed} | row | {"error": 100 * row["error"]}


def _points(found: pd.DataFrame) -> Iterator[dict]:
    groups = [(values, rows["error"].to_numpy(float)) for values, rows in found.groupby(POINT, sort=False)]
    bounds = statistics.intervals([errors for _, errors in groups])
    for (values, errors), (low, high) in zip(groups, bounds, strict=True):
        spread = {"error": errors.mean(), "error_low": low, "error_high": high, "n": len(errors)}
        yield dict(zip(POINT, values, strict=True)) | spread
