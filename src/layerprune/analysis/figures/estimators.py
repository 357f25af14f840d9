"""What an estimator of Delta does to the network that is left (claims, beyond the paper)."""

import pandas as pd
from matplotlib.figure import Figure

from layerprune.analysis import style
from layerprune.analysis.figures import _by_name
from layerprune.analysis.frames import Study
from layerprune.analysis.prepare.gated_variants import compared

__all__ = ["CAPTION", "TITLE", "draw", "prepare"]

TITLE = "Gated training with each estimator"
CAPTION = (
    "The same training with another estimator of what a section is worth. Training cost includes the second forward "
    "pass that finite differences and DisARM need, at every step before theta is rounded. Dots are seeds, larger marks "
    "means with 95 % bootstrap intervals, the number is n."
)
PANELS = {
    "sections_left": "sections left",
    "test_accuracy": "test accuracy (%)",
    "train_macs_ratio": "training MACs (% of dense's)",
}
NAMES = {
    "default": "two-sided",
    "estimator-straight-through": "straight-through",
    "estimator-finite-difference": "finite difference",
    "estimator-disarm": "DisARM",
}


def prepare(study: Study) -> pd.DataFrame:
    """See prepare.gated_variants."""
    return compared(study, NAMES)


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A row of panels per architecture."""
    if data.empty:
        return style.empty_figure(heading, "no variants estimator-... of gated in this preset")
    return _by_name.draw(data.assign(row=data["arch"]), heading, list(NAMES.values()), PANELS)
