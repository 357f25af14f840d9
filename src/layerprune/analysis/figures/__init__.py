"""One file a figure, found by its name: accuracy_vs_depth.py is the figure `accuracy-vs-depth`.

A figure's module has TITLE, CAPTION (one to three sentences), `prepare(study)`, which computes the frame of
what is plotted, and `draw(data, heading)`, which draws that frame and nothing else: no statistics, no files.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

FIGURES: dict[str, ModuleType] = {
    file.stem.replace("_", "-"): import_module(f"{__name__}.{file.stem}")
    for file in sorted(Path(__file__).parent.glob("*.py"))
    if not file.stem.startswith("_")
}
captions: dict[str, str] = {name: module.CAPTION for name, module in FIGURES.items()}
