"""The figures that the suite draws, with their captions, shown by those of the committed records."""

from pathlib import Path

from layerprune.analysis.figures import APPENDIX, FIGURES, RANKED, captions

REPOSITORY = Path(__file__).parents[2]
PRESET = "laptop"
DATASETS = ("mnist", "imagenet")
"""In the order in which they are looked at for a figure that was drawn."""


def page() -> str:
    """Sections in Markdown for the figures that tell most, first things first."""
    return "\n\n".join(map(_section, RANKED))


def appendix() -> str:
    """The same for the others."""
    return "\n\n".join(map(_section, APPENDIX))


def _section(name: str) -> str:
    return f"### `{name}`: {FIGURES[name].TITLE}\n\n{captions[name]}\n\n{_content(name)}"


def _content(name: str) -> str:
    """The first picture of the figure, and links to all."""
    drawn = [(dataset, picture) for dataset in DATASETS for picture in _pictures(dataset, name)]
    if not drawn:
        return f"No record of the preset `{PRESET}` has what this figure shows: it needs {FIGURES[name].NEEDS}."
    links = ", ".join(f"[{_label(*each)}]({_path(*each, 'svg')}) ([CSV]({_path(*each, 'csv')}))" for each in drawn)
    dataset, picture = drawn[0]
    return f"{_shown(dataset, name, picture)}\n\nPictures and plotted values: {links}."


def _pictures(dataset: str, name: str) -> list[str]:
    """Names of the pictures that were drawn: one, or one a network."""
    folder = REPOSITORY / "figures" / PRESET / dataset
    return [path.stem for path in sorted([*folder.glob(f"{name}.csv"), *folder.glob(f"{name}.*.csv")])]


def _label(dataset: str, picture: str) -> str:
    _, _, arch = picture.partition(".")
    return f"{dataset}, {arch}" if arch else dataset


def _shown(dataset: str, name: str, picture: str) -> str:
    return f"![{FIGURES[name].TITLE}, {dataset}]({_path(dataset, picture, 'svg')})"


def _path(dataset: str, picture: str, suffix: str) -> str:
    return f"../figures/{PRESET}/{dataset}/{picture}.{suffix}"
