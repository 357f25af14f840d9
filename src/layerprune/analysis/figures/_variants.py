"""What trainings that differ in one thing left, by name: a row of panels each, one a quantity."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layerprune.analysis import style

COLOR, DOT = "#D55E00", "#56B4E9"
SHARES = ("premature", "undecided")
"""Quantities in per cent of the whole, drawn on all of their scale."""


def draw(data: pd.DataFrame, heading: str, names: Sequence[str], panels: Mapping[str, str]) -> Figure:
    """A row of panels for each value of `row`; `data` has rows of kind run and mean with columns name, n,
    sections_total and the quantities with their `_low` and `_high`.

    `names` are the names in their order, `panels` the quantities with their labels.
    """
    rows = list(dict.fromkeys(data["row"]))
    figure, axes = style.grid(len(panels) * len(rows), columns=len(panels), size=(2.9, 2.7))
    for place, title in enumerate(rows):
        chosen = data[data["row"] == title]
        present = [name for name in names if name in set(chosen["name"])]
        for column, (quantity, label) in enumerate(panels.items()):
            ax = axes[len(panels) * place + column]
            ax.set_title(title if column == 0 else "")
            _panel(ax, chosen, present, quantity)
            _limit(ax, data[data["arch"].isin(set(chosen["arch"]))], quantity)
            ax.set_ylabel(label)
    style.legend(figure, _handles())
    style.title(figure, heading)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, names: Sequence[str], quantity: str) -> None:
    rows = rows.assign(x=rows["name"].map({name: place for place, name in enumerate(names)}))
    runs, means = (rows[rows["kind"] == kind] for kind in ("run", "mean"))
    ax.plot(runs["x"] - 0.16, runs[quantity], ".", color=DOT, alpha=0.7, markersize=5)
    seen = means.dropna(subset=quantity)
    below, above = seen[quantity] - seen[f"{quantity}_low"], seen[f"{quantity}_high"] - seen[quantity]
    spread = [below.fillna(0), above.fillna(0)]
    ax.errorbar(seen["x"] + 0.1, seen[quantity], yerr=spread, fmt="o", color=COLOR, markersize=5, elinewidth=1.2)
    for place in set(range(len(names))) - set(seen["x"]):
        ax.text(place, 0.5, "–", transform=ax.get_xaxis_transform(), ha="center")
    sizes = dict(zip(means["name"], means["n"], strict=True))
    labels = [f"{name}, {sizes[name]:.0f}" if name in sizes else name for name in names]
    ax.set_xticks(range(len(names)), labels=labels, rotation=35, ha="right")
    ax.set_xlim(-0.5, len(names) - 0.4)
    ax.grid(axis="x", visible=False)


def _limit(ax: Axes, data: pd.DataFrame, quantity: str) -> None:
    """One scale for every row of a network; all of it for sections and shares."""
    if quantity == "sections_left" or quantity in SHARES:
        top = data["sections_total"].max() if quantity == "sections_left" else 100
        ax.locator_params(axis="y", integer=True, nbins=6)
        ax.set_ylim(-0.04 * top if pd.notna(top) else None, 1.04 * top if pd.notna(top) else None)
        return
    seen = data[[quantity, f"{quantity}_low", f"{quantity}_high"]].to_numpy(float)
    if np.isfinite(seen).any():
        low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
        margin = 0.06 * (high - low) or 0.5
        ax.set_ylim(low - margin, high + margin)


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], color=DOT, marker=".", linestyle="none", label="a seed"),
        Line2D([], [], color=COLOR, marker="o", label="mean, 95 % interval"),
    ]
