"""One file a figure, found by its name: accuracy_vs_depth.py is the figure `accuracy-vs-depth`.

A figure's module has
    TITLE, CAPTION       the caption in one to six sentences
    NEEDS                what a data set must have for the figure, after "needs"
    SHOWS                a column of its frame: without a value in it there is nothing to draw
    prepare(study)       the frame of what is plotted
    draw(data, heading)  that frame and nothing else: no statistics, no files
and may have
    PICTURE_PER = "arch" a picture for each value of that column, as every-method has for each network
    applies(study)       whether the preset plans what the figure shows, quickly told
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pandas as pd

from layerprune.analysis.frames import Study

RANKED = (
    *("depth-vs-start", "accuracy-vs-training-macs", "survivors", "random-removal", "sections-alive"),
    *("accuracy-vs-depth", "pareto"),
)
"""The figures that tell most, first things first; the others are the appendix."""
_FOUND = [file.stem.replace("_", "-") for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith("_")]
APPENDIX = tuple(sorted(set(_FOUND) - set(RANKED)))
FIGURES: dict[str, ModuleType] = {
    name: import_module(f"{__name__}.{name.replace('-', '_')}") for name in (*RANKED, *APPENDIX)
}
captions: dict[str, str] = {name: module.CAPTION for name, module in FIGURES.items()}


def applies(name: str, study: Study) -> bool:
    """Whether the preset plans what this figure shows, as far as that is quickly told."""
    module = FIGURES[name]
    return not hasattr(module, "applies") or module.applies(study)


def is_empty(name: str, data: pd.DataFrame) -> bool:
    """Whether a frame of this figure holds no value to draw."""
    return bool(data[FIGURES[name].SHOWS].isna().all())
