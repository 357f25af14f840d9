"""Accuracy of a trained network without random sets of its sections (claim C2)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layerprune.analysis import style
from layerprune.analysis.frames import Study
from layerprune.analysis.selections import (
    RANDOM_REMOVAL,
    archs_with_experiment,
    better_than_guessing,
    experiment_records,
)

TITLE = "A trained network without random sets of its sections"
CAPTION = (
    "Validation accuracy of a trained dense network once a random set of its removable sections has been removed, "
    "without further training, against the number of removed sections. Crosses are means, joined by a line. Seeds are "
    "shifted sideways a little. The dashed line is the whole network; a network below the dotted line (three standard "
    "deviations above chance) may be guessing."
)
NEEDS = "the experiment random-removal"
SHOWS = "accuracy"
COLUMNS = ["arch", "seed", "sections", "removed", "accuracy", "whole", "guessing"]


def prepare(study: Study) -> pd.DataFrame:
    """A row a keep list: sections there were and how many went, accuracies in per cent on the validation split.

    `whole` is the accuracy with all sections, `guessing` what a network must exceed so as not to be guessing. An
    architecture without a record has one row without numbers.
    """
    rows = []
    for run in experiment_records(study, RANDOM_REMOVAL):
        found = run.details
        shared = {"arch": run.arch, "seed": run.seed, "sections": run.sections_total}
        shared |= {"whole": 100 * found["whole_accuracy"], "guessing": 100 * better_than_guessing(run)}
        for keep, accuracy in zip(found["keep_lists"], found["accuracies"], strict=True):
            rows.append(shared | {"removed": len(keep) - sum(keep), "accuracy": 100 * accuracy})
    there = {row["arch"] for row in rows}
    rows += [{"arch": arch} for arch in archs_with_experiment(study, RANDOM_REMOVAL) if arch not in there]
    return pd.DataFrame(rows, columns=COLUMNS)


# --- drawing --------------------------------------------------------------------------------------------------

DOT, MEAN, LINE = "#56B4E9", "#D55E00", "#555555"


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A panel per architecture that has run; `data` as from `prepare`."""
    made = data.dropna(subset="accuracy")
    archs = list(dict.fromkeys((made if len(made) else data)["arch"]))
    figure, axes = style.grid(len(archs))
    for place, (ax, arch) in enumerate(zip(axes, archs, strict=True)):
        rows = data[data["arch"] == arch].dropna(subset="accuracy")
        ax.set_title(arch)
        if rows.empty:
            style.say_instead(ax, "not run")
            continue
        _panel(ax, rows)
        ax.set(xlabel="sections removed", ylabel="validation accuracy (%)" if place % 3 == 0 else "")
    style.legend(figure, _handles())
    style.title(figure, heading)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    # Seeds side by side, so that equal dots of different seeds are told apart.
    seeds = sorted(set(rows["seed"]))
    beside = rows["seed"].map({seed: 0.12 * (place - (len(seeds) - 1) / 2) for place, seed in enumerate(seeds)})
    ax.plot(rows["removed"] + beside, rows["accuracy"], ".", color=DOT, alpha=0.6, markersize=4)
    means = rows.groupby("removed")["accuracy"].mean()
    ax.plot(means.index, means, "x-", color=MEAN, markersize=5, linewidth=0.8)
    ax.axhline(rows["whole"].mean(), color=LINE, linestyle="--", linewidth=0.9)
    ax.axhline(rows["guessing"].mean(), color=LINE, linestyle=":", linewidth=0.9)
    ax.set_xlim(0.5, rows["sections"].max() + 0.5)
    ax.set_ylim(0, 103)
    ax.locator_params(axis="x", integer=True, nbins=8)


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], color=DOT, marker=".", linestyle="none", label="a random set of sections removed"),
        Line2D([], [], color=MEAN, marker="x", linewidth=0.8, label="mean"),
        Line2D([], [], color=LINE, linestyle="--", linewidth=0.9, label="whole network"),
        Line2D([], [], color=LINE, linestyle=":", linewidth=0.9, label="chance + 3 sd"),
    ]
