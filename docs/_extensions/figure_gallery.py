"""The figures that the suite draws, with their captions, shown by those of the committed records."""

from pathlib import Path

from layerprune.analysis.figures import FIGURES, captions

REPOSITORY = Path(__file__).parents[2]
PRESET = "laptop"
DATASETS = ("mnist", "cifar10", "imagenet")
"""In the order in which they are looked at for a figure that shows something."""


def page() -> str:
    """Sections in Markdown, a figure each."""
    return "\n\n".join(f"### `{name}`: {FIGURES[name].TITLE}\n\n{_shown(name)}" for name in FIGURES)


def one(place: str) -> str:
    """A picture and its caption; `place` is DATASET:NAME."""
    dataset, name = place.split(":")
    return f"{_picture(dataset, name)}\n\n*{captions[name]}*"


def _shown(name: str) -> str:
    drawn = [dataset for dataset in DATASETS if _has_values(dataset, name)]
    if not drawn:
        return f"{captions[name]}\n\nNo record of the preset `{PRESET}` has what this figure shows."
    links = ", ".join(f"[{dataset}]({_path(dataset, name, 'csv')})" for dataset in drawn)
    return f"{captions[name]}\n\n{_picture(drawn[0], name)}\n\nThe plotted values: {links}."


def _has_values(dataset: str, name: str) -> bool:
    """Whether any value is plotted: the first line of the CSV beside a picture has the columns' names."""
    values = REPOSITORY / "figures" / PRESET / dataset / f"{name}.csv"
    return values.is_file() and len(values.read_text(encoding="utf-8").splitlines()) > 1


def _picture(dataset: str, name: str) -> str:
    return f"![{FIGURES[name].TITLE}, {dataset}]({_path(dataset, name, 'svg')})"


def _path(dataset: str, name: str, suffix: str) -> str:
    return f"../figures/{PRESET}/{dataset}/{name}.{suffix}"
