"""Test accuracy against what the whole training cost."""

import pandas as pd
from matplotlib.figure import Figure

from layerprune.analysis.figures import _marks
from layerprune.analysis.frames import Study

TITLE = "Test accuracy against training cost"
CAPTION = (
    "Test accuracy against the multiply-adds of the whole training, including the networks that a run starts from, "
    "as a multiple of dense with the same seed. Marks are means over seeds with 95 % bootstrap intervals; the legend "
    "tells the number of seeds. In colour: dense, gated with its sweep of nu, and the most accurate rival of each "
    "family; the other methods are grey and named in `every-method` and in the tables. Hollow marks are trainings of "
    "other lengths. Grey triangles at the lower "
    "edge stand for methods whose accuracy lies below the panel. Marks of nearly equal cost are shifted sideways a "
    "little. Removal saves no training cost where neighbouring linear layers are multiplied out only at the end, as on "
    "lenet-300-100."
)
NEEDS = "a network with a result, and dense with the same seed"
SHOWS = "train_macs_ratio_mean"
QUANTITY = "train_macs_ratio"


def prepare(study: Study) -> pd.DataFrame:
    """As `_marks.prepare`, with the cost of training."""
    return _marks.prepare_one(study, QUANTITY)


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """One panel per architecture; `data` as from `prepare`."""
    return _marks.draw(data, heading, QUANTITY, "training MACs (multiples of dense)", logarithmic=True)
