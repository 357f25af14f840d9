"""Latency and MACs of every run that counts, as multiples of dense's."""

import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.frames import Study
from layerprune.analysis.latencies import read_latencies

RUN = ["arch", "method", "variant", "seed"]
PANEL = ["arch", "batch"]
COLUMNS = [
    *(*RUN, "batch", "threads", "device", "hardware", "macs", "macs_ratio", "median_ms"),
    *("latency_ratio", "latency_low", "latency_high"),
]


def latency(study: Study) -> pd.DataFrame:
    """A row per run and batch size, in the order of the runs; `latency_low` and `latency_high` are its quartiles.

    Ratios are NaN where dense was not measured. Left out: runs that do not count, and latencies of a network that the
    run no longer has (its record tells other MACs). `attrs` names the preset.
    """
    counted = study.runs[statistics.counted(study.runs)][[*RUN, "macs"]]
    measured = read_latencies(study.preset, study.dataset).astype({"macs": "float64", "seed": counted["seed"].dtype})
    rows = counted.merge(measured, on=[*RUN, "macs"])
    dense = rows[(rows["method"] == "dense") & (rows["variant"] == "default")].drop_duplicates(PANEL)
    whole = rows[PANEL].merge(dense[[*PANEL, "macs", "median_ms"]], on=PANEL, how="left")
    rows["macs_ratio"] = rows["macs"] / whole["macs"]
    for name, time in {"latency_ratio": "median_ms", "latency_low": "low_ms", "latency_high": "high_ms"}.items():
        rows[name] = rows[time] / whole["median_ms"]
    rows = rows[COLUMNS]
    rows.attrs["preset"] = study.preset
    return rows
