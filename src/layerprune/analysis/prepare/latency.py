"""Speed-up over dense and MACs saved of every network that counting runs left."""

import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.frames import Study
from layerprune.analysis.latencies import read_latencies

RUN = ["arch", "method", "variant", "seed"]
PANEL = ["arch", "batch", "engine", "precision"]
MEASUREMENT = [*PANEL, "threads", "device", "hardware", "macs", "median_ms", "low_ms", "high_ms"]
COLUMNS = [
    *(*PANEL, "methods", "runs", "threads", "device", "hardware", "macs", "macs_saving", "median_ms"),
    *("speed_up", "speed_up_low", "speed_up_high"),
]


def latency(study: Study) -> pd.DataFrame:
    """A row per measured network, batch size, engine and precision; `speed_up_low` and `_high` are its quartiles.

    `speed_up` is dense's median time over the network's, `macs_saving` dense's MACs over the network's. Runs that left
    the same network share its measurement, and so its row: `methods` names theirs, `runs` counts them. Both are NaN
    where dense was not measured. Left out: runs that do not count, and latencies of a network that the run no longer
    has (its record tells other MACs). `attrs` names the preset.
    """
    counted = study.runs[statistics.counted(study.runs)][[*RUN, "macs"]]
    measured = read_latencies(study.preset, study.dataset).astype({"macs": "float64", "seed": counted["seed"].dtype})
    rows = counted.merge(measured, on=[*RUN, "macs"])
    dense = rows[(rows["method"] == "dense") & (rows["variant"] == "default")].drop_duplicates(PANEL)
    rows = _networks(rows)
    whole = rows[PANEL].merge(dense[[*PANEL, "macs", "median_ms"]], on=PANEL, how="left")
    rows["macs_saving"] = whole["macs"] / rows["macs"]
    for name, time in {"speed_up": "median_ms", "speed_up_low": "high_ms", "speed_up_high": "low_ms"}.items():
        rows[name] = whole["median_ms"] / rows[time]
    rows = rows[COLUMNS]
    rows.attrs["preset"] = study.preset
    return rows


def _networks(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for all runs whose numbers came from one measurement, in the order of the runs."""
    groups = rows.groupby(MEASUREMENT, sort=False)
    found = groups["method"].agg(methods=lambda methods: " ".join(sorted(set(methods))), runs="size").reset_index()
    return found.astype({"methods": object})
