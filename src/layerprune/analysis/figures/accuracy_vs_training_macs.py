"""Test accuracy against what the whole training cost."""

import pandas as pd
from matplotlib.figure import Figure

from layerprune.analysis.figures import _marks

TITLE = "Test accuracy against training cost"
CAPTION = (
    "Test accuracy against the multiply-adds of the whole training, including the networks that a run starts from, "
    "as a multiple of dense with the same seed. Marks are means over seeds with 95 % bootstrap intervals; the small "
    "number is n. Marks of nearly equal cost are moved sideways a little."
)
prepare = _marks.prepare
QUANTITY = "train_macs_ratio"


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """One panel per architecture; `data` as from `prepare`."""
    return _marks.draw(data, heading, QUANTITY, "training MACs (multiples of dense)", logarithmic=True)
