"""What removal saves in time against what it saves in MACs."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layerprune.analysis import style
from layerprune.analysis.prepare.latency import latency as prepare

__all__ = ["CAPTION", "TITLE", "draw", "prepare"]

TITLE = "Inference latency against inference cost"
CAPTION = (
    "Measured time of one forward pass against its multiply-adds, both as multiples of the dense network's; a mark is "
    "one network, whichever methods left it, its line the quartiles over repeats. On the dashed diagonal time falls as "
    "multiply-adds do; above it less is saved than they promise."
)
OTHERS = "left by other methods only"
LOOKS = {  # in the order of drawing: gated's on top of networks that differ in nothing but which sections they keep
    OTHERS: {"color": "#8C8C8C", "marker": "X"},
    "left by gated": {"color": style.color("gated"), "marker": style.marker("gated")},
    "dense": {"color": style.color("dense"), "marker": style.marker("dense")},
}
DIAGONAL = {"color": "#555555", "linestyle": "--", "linewidth": 0.9}


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A panel per architecture and batch size; `data` as from prepare.latency."""
    if data.empty:
        return _unmeasured(data.attrs.get("preset", "PRESET"), heading)
    panels = list(data.groupby(["arch", "batch"], sort=False))
    figure, axes = style.grid(len(panels), columns=min(data["batch"].nunique(), 3))
    for ax, ((arch, batch), rows) in zip(axes, panels, strict=True):
        _panel(ax, rows)
        ax.set(title=f"{arch}, batch {batch}")
    style.legend(figure, _handles(data))
    style.title(figure, f"{heading}\n{_conditions(data)}")
    return figure


def _unmeasured(preset: str, heading: str) -> Figure:
    figure, (ax,) = style.grid(1, size=(5.0, 2.2))
    style.say_instead(ax, f"latency not measured: layerprune latency --preset {preset}")
    style.title(figure, heading)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    if rows["latency_ratio"].isna().all():
        style.say_instead(ax, "no dense run to compare with")
        return
    ax.plot([0, 1], [0, 1], zorder=1, **DIAGONAL)
    owners = rows["methods"].map(_owner)
    for owner, look in LOOKS.items():
        _marks(ax, rows[owners == owner], owner, look)
    ax.set(xlabel="MACs (multiples of dense)", ylabel="latency (multiples of dense)")
    ax.set_xlim(0, 1.06 * max(1.0, rows["macs_ratio"].max()))
    ax.set_ylim(0, 1.06 * max(1.0, rows["latency_high"].max()))


def _owner(methods: str) -> str:
    """Whose a network is, of the keys of LOOKS: dense's where any whole network is, then gated's."""
    named = methods.split()
    if "dense" in named:
        return "dense"
    return "left by gated" if "gated" in named else OTHERS


def _marks(ax: Axes, rows: pd.DataFrame, owner: str, look: dict[str, str]) -> None:
    ax.vlines(rows["macs_ratio"], rows["latency_low"], rows["latency_high"], color=look["color"], linewidth=0.9)
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.4}
    ax.plot(rows["macs_ratio"], rows["latency_ratio"], linestyle="none", markersize=6, label=owner, **look, **edge)


def _conditions(data: pd.DataFrame) -> str:
    """On what it was measured."""
    told = data[["hardware", "device", "threads"]].drop_duplicates().to_dict("records")
    return "measured on " + ", ".join(_machine(**each) for each in told)


def _machine(hardware: str, device: str, threads: int) -> str:
    return hardware if device == "cuda" else f"{hardware}, {threads} thread{'s' if threads > 1 else ''}"


def _handles(data: pd.DataFrame) -> list[Line2D]:
    owners = set(data["methods"].map(_owner))
    handles = [
        Line2D([], [], linestyle="none", label=owner, **look)
        for owner, look in reversed(LOOKS.items())
        if owner in owners
    ]
    return [*handles, Line2D([], [], label="as MACs promise", **DIAGONAL)]
