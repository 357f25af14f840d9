"""What gated training leaves, and what it removed too early, under several priors (claim C5)."""

import pandas as pd
from matplotlib.figure import Figure

from layerprune.analysis import style
from layerprune.analysis.figures import _by_name
from layerprune.analysis.prepare.priors import PRIORS
from layerprune.analysis.prepare.priors import priors as prepare

__all__ = ["CAPTION", "TITLE", "draw", "prepare"]

TITLE = "Gated training under several priors"
CAPTION = (
    "The priors' prices have one slope where theta starts and differ in shape alone (`l0`: the flattening prior's, "
    "learnt on theta's logit; `none`: no price). Removed too early: share of the removed sections that were at that "
    "moment worth more than the median section, on the last batches. Undecided: theta neither 0 nor 1 when it was "
    "rounded. Dots are seeds, larger marks means with 95 % bootstrap intervals, the number is n."
)
PANELS = {
    "sections_left": "sections left",
    "premature": "removed too early (%)",
    "undecided": "undecided sections (%)",
    "test_accuracy": "test accuracy (%)",
}


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A row of panels per architecture and start value of theta; `data` as from prepare.priors."""
    if data.empty:
        return style.empty_figure(heading, "no variants prior-... of gated in this preset")
    titles = data["arch"] + data["start"].map(lambda start: start.replace("-theta0-", ", theta from "))
    return _by_name.draw(data.assign(row=titles, name=data["prior"]), heading, PRIORS, PANELS)
