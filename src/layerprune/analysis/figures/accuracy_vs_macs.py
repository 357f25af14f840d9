"""Test accuracy against what inference costs."""

import pandas as pd
from matplotlib.figure import Figure

from layerprune.analysis.figures import _marks
from layerprune.analysis.frames import Study

TITLE = "Test accuracy against inference cost"
CAPTION = (
    "Test accuracy against the multiply-adds of the pruned network for one input, as a multiple of the whole "
    "network's. Marks are means over seeds with 95 % bootstrap intervals; the legend gives the number of seeds. In "
    "colour: dense, gated with its sweep of nu, and the most accurate rival of each family; the other methods are "
    "grey and named in `every-method` and in the tables. Hollow marks are trainings of other "
    "lengths. Grey triangles at the lower edge stand for methods whose accuracy lies below the panel. Marks of nearly "
    "equal cost are shifted sideways a little."
)
NEEDS = "a network with a result"
SHOWS = "macs_ratio_mean"
QUANTITY = "macs_ratio"


def prepare(study: Study) -> pd.DataFrame:
    """As `_marks.prepare`, with multiply-adds."""
    return _marks.prepare_one(study, QUANTITY)


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """One panel per architecture; `data` as from `prepare`."""
    return _marks.draw(data, heading, QUANTITY, "inference MACs (multiples of dense)")
