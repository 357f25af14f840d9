"""What gated training leaves, and what it removed too early, under several priors (claim C5)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layerprune.analysis import style
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
COLOR, DOT = "#D55E00", "#56B4E9"


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A row of panels per architecture; `data` as from prepare.priors."""
    archs = list(dict.fromkeys(data["arch"]))
    if not archs:
        return style.empty_figure(heading, "no variants prior-... of gated in this preset")
    figure, axes = style.grid(len(PANELS) * len(archs), columns=len(PANELS), size=(2.9, 2.7))
    for place, arch in enumerate(archs):
        rows = data[data["arch"] == arch]
        for column, (name, label) in enumerate(PANELS.items()):
            ax = axes[len(PANELS) * place + column]
            ax.set_title(arch if column == 0 else "")
            _panel(ax, rows, name, label)
    style.legend(figure, _handles())
    style.title(figure, heading)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, name: str, label: str) -> None:
    priors = [prior for prior in PRIORS if prior in set(rows["prior"])]
    places = {prior: place for place, prior in enumerate(priors)}
    rows = rows.assign(x=rows["prior"].map(places))
    runs, means = (rows[rows["kind"] == kind] for kind in ("run", "mean"))
    ax.plot(runs["x"] - 0.16, runs[name], ".", color=DOT, alpha=0.7, markersize=5)
    seen = means.dropna(subset=name)
    spread = [(seen[name] - seen[f"{name}_low"]).fillna(0), (seen[f"{name}_high"] - seen[name]).fillna(0)]
    ax.errorbar(seen["x"] + 0.1, seen[name], yerr=spread, fmt="o", color=COLOR, markersize=5, elinewidth=1.2)
    for row in seen.to_dict("records"):
        ax.annotate(f"{row['n']:.0f}", (row["x"] + 0.1, row[name]), (5, -3), textcoords="offset points", fontsize=7)
    for place in set(places.values()) - set(seen["x"]):
        ax.text(place, 0.5, "–", transform=ax.get_xaxis_transform(), ha="center")
    ax.set_xticks(range(len(priors)), labels=priors, rotation=35, ha="right")
    ax.set_xlim(-0.5, len(priors) - 0.4)
    ax.set_ylabel(label)
    if name != "test_accuracy":
        top = rows["sections_total"].max() if name == "sections_left" else 100
        ax.locator_params(axis="y", integer=True, nbins=6)
        ax.set_ylim(-0.04 * top if pd.notna(top) else None, 1.04 * top if pd.notna(top) else None)
    ax.grid(axis="x", visible=False)


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], color=DOT, marker=".", linestyle="none", label="a seed"),
        Line2D([], [], color=COLOR, marker="o", label="mean, 95 % interval"),
    ]
