"""Tables of latencies: one row a network, engine, precision and batch size."""

import csv
import io
from typing import Any

COLUMNS = (
    *("arch", "method", "variant", "seed", "batch", "threads", "device", "hardware"),
    *("macs", "median_ms", "low_ms", "high_ms", "repeats", "engine", "precision", "clock"),
)
_ORDER = (*COLUMNS[:5], "engine", "precision")


def as_csv(rows: list[dict[str, Any]]) -> str:
    """The rows in order, what a row lacks left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: [row[name] for name in _ORDER]))
    return text.getvalue()
