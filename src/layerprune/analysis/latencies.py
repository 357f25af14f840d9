"""latency.csv as a frame; what is measured, and how, is told in layerprune.library.latency."""

import pandas as pd

from layerprune.errors import LayerpruneError
from layerprune.system import paths

WORDS = ["arch", "method", "variant", "device", "hardware", "engine", "precision"]
WHOLE = ["seed", "batch", "threads", "macs"]
TIMES = ["median_ms", "low_ms", "high_ms"]
ONCE = {"engine": "eager", "precision": "fp32"}
"""What tables without these columns were measured with, before there was a choice."""


def read_latencies(preset: str, dataset: str) -> pd.DataFrame:
    """A row per run, batch size, engine and precision, times in milliseconds; no rows where nothing was measured.

    Raises LayerpruneError for a file that is not such a table.
    """
    path, columns = paths.latency_table(preset, dataset), [*WORDS, *WHOLE, *TIMES]
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(WORDS, str))
        table = table.assign(**{name: value for name, value in ONCE.items() if name not in table})
        lacking = sorted(set(columns) - set(table.columns))
        if lacking:
            raise ValueError(f"no column '{lacking[0]}'")
        return table[columns].astype(dict.fromkeys(WHOLE, "int64") | dict.fromkeys(TIMES, "float64"))
    except (ValueError, OSError) as error:
        raise LayerpruneError(f"{path}: not a table of latencies: {' '.join(str(error).split())}") from None


def read_plain_latencies(preset: str, dataset: str) -> pd.DataFrame:
    """Those of eager networks in full precision, on the first device of the table."""
    times = read_latencies(preset, dataset)
    times = times[(times["engine"] == "eager") & (times["precision"] == "fp32")]
    return times[times["device"] == times["device"].iloc[0]] if len(times) else times
