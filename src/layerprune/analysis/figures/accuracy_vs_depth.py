"""Test accuracy against the depth of the pruned network."""

import pandas as pd
from matplotlib.figure import Figure

from layerprune.analysis.figures import _marks
from layerprune.analysis.frames import Study

TITLE = "Test accuracy against depth"
CAPTION = (
    "Test accuracy against depth (weight layers on the longest path of the pruned network). Marks are means over "
    "seeds with 95 % bootstrap intervals; the legend gives the number of seeds. In colour: dense (the line with its "
    "band), gated with its sweep of nu, and the most accurate rival of each family, methods that prune while they "
    "train and methods that prune a trained network; the other methods are grey and named in `every-method` and in "
    "the tables. Hollow marks are trainings of other lengths. Grey triangles at the lower edge stand for methods whose "
    "accuracy lies below the panel. Marks of nearly equal depth are shifted sideways a little."
)
NEEDS = "a network with a result"
SHOWS = "depth_mean"
QUANTITY = "depth"


def prepare(study: Study) -> pd.DataFrame:
    """As `_marks.prepare`, with depth."""
    return _marks.prepare_one(study, QUANTITY)


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """One panel per architecture; `data` as from `prepare`."""
    return _marks.draw(data, heading, QUANTITY, "depth (weight layers)")
