"""How far estimators of Delta are from enumeration (experiment estimator-error)."""

from collections.abc import Iterator

import pandas as pd

from layerprune.analysis import experiments, statistics
from layerprune.analysis.frames import Study

EXPERIMENT = "estimator-error"
POINT = ["arch", "epochs", "theta", "reading", "batches"]
NUMBERS = ["error", "bias", "spread"]
"""In per cent of Delta's norm; see methods.experiments.estimator_error.apart."""


def estimator_errors(study: Study) -> pd.DataFrame:
    """A row a point: means of NUMBERS over seeds, their 95 % bootstrap intervals (NaN for one seed) and n.

    `reading` is an estimator or a half of the two-sided one, `batches` what it has seen, `epochs` how long the network
    was trained. An architecture without a record has one row without numbers.
    """
    found = pd.DataFrame(_rows(study), columns=[*POINT, "seed", *NUMBERS])
    absent = [arch for arch in experiments.planned(study, EXPERIMENT) if arch not in set(found["arch"])]
    rows = [*_points(found), *({"arch": arch} for arch in absent)]
    ends = [f"{name}_{end}" for name in NUMBERS for end in ("low", "high")]
    return pd.DataFrame(rows, columns=[*POINT, *NUMBERS, *ends, "n"])


def _rows(study: Study) -> Iterator[dict]:
    for run in experiments.made(study, EXPERIMENT):
        for row in run.details["errors"]:
            numbers = {name: 100 * row[name] for name in NUMBERS if row.get(name) is not None}
            yield {"arch": run.arch, "seed": run.seed} | row | numbers


def _points(found: pd.DataFrame) -> Iterator[dict]:
    found = found.astype(dict.fromkeys(NUMBERS, float))
    groups = list(found.groupby(POINT, sort=False))
    bounds = iter(statistics.intervals([rows[name].dropna().to_numpy() for _, rows in groups for name in NUMBERS]))
    for values, rows in groups:
        point = dict(zip(POINT, values, strict=True)) | {"n": len(rows)}
        for name in NUMBERS:
            point[name] = rows[name].mean()
            point[f"{name}_low"], point[f"{name}_high"] = next(bounds)
        yield point
