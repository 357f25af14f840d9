"""Latency and MACs of every network that counting runs left, as multiples of dense's."""

import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.frames import Study
from layerprune.analysis.latencies import read_latencies

RUN = ["arch", "method", "variant", "seed"]
PANEL = ["arch", "batch"]
MEASUREMENT = [*PANEL, "threads", "device", "hardware", "macs", "median_ms", "low_ms", "high_ms"]
COLUMNS = [
    *(*PANEL, "methods", "runs", "threads", "device", "hardware", "macs", "macs_ratio", "median_ms"),
    *("latency_ratio", "latency_low", "latency_high"),
]


def latency(study: Study) -> pd.DataFrame:
    """A row per measured network and batch size; `latency_low` and `latency_high` are its quartiles.

    Runs that left the same network share its measurement, and so its row: `methods` names theirs, `runs` counts them.
    Ratios are NaN where dense was not measured. Left out: runs that do not count, and latencies of a network that the
    run no longer has (its record tells other MACs). `attrs` names the preset.
    """
    counted = study.runs[statistics.counted(study.runs)][[*RUN, "macs"]]
    measured = read_latencies(study.preset, study.dataset).astype({"macs": "float64", "seed": counted["seed"].dtype})
    rows = counted.merge(measured, on=[*RUN, "macs"])
    dense = rows[(rows["method"] == "dense") & (rows["variant"] == "default")].drop_duplicates(PANEL)
    rows = _networks(rows)
    whole = rows[PANEL].merge(dense[[*PANEL, "macs", "median_ms"]], on=PANEL, how="left")
    rows["macs_ratio"] = rows["macs"] / whole["macs"]
    for name, time in {"latency_ratio": "median_ms", "latency_low": "low_ms", "latency_high": "high_ms"}.items():
        rows[name] = rows[time] / whole["median_ms"]
    rows = rows[COLUMNS]
    rows.attrs["preset"] = study.preset
    return rows


def _networks(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for all runs whose numbers came from one measurement, in the order of the runs."""
    groups = rows.groupby(MEASUREMENT, sort=False)
    found = groups["method"].agg(methods=lambda methods: " ".join(sorted(set(methods))), runs="size").reset_index()
    return found.astype({"methods": object})
