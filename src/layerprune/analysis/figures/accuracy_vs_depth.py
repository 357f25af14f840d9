"""Test accuracy against the depth of the pruned network."""

import pandas as pd
from matplotlib.figure import Figure

from layerprune.analysis.figures import _marks

TITLE = "Test accuracy against depth"
CAPTION = (
    "Test accuracy against depth (weight layers on the longest path of the pruned network). Marks are means over "
    "seeds with 95 % bootstrap intervals; the small number is n. Marks of nearly equal depth are moved sideways a "
    "little. The line through gated's marks is its sweep of nu, thin lines are score methods at given depths, the "
    "black line with its band is dense."
)
prepare = _marks.prepare
QUANTITY = "depth"


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """One panel per architecture; `data` as from `prepare`."""
    return _marks.draw(data, heading, QUANTITY, "depth (weight layers)")
