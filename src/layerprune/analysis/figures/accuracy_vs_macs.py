"""Test accuracy against what inference costs."""

import pandas as pd
from matplotlib.figure import Figure

from layerprune.analysis.figures import _marks

TITLE = "Test accuracy against inference cost"
CAPTION = (
    "Test accuracy against the multiply-adds of the pruned network for one input, as a multiple of the whole "
    "network's. Marks are means over seeds with 95 % bootstrap intervals; the small number is n. Marks of nearly "
    "equal cost are moved sideways a little. The line through gated's marks is its sweep of nu, thin lines are "
    "score methods at given depths, the black line with its band is dense."
)
prepare = _marks.prepare
QUANTITY = "macs_ratio"


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """One panel per architecture; `data` as from `prepare`."""
    return _marks.draw(data, heading, QUANTITY, "inference MACs (multiples of dense)")
