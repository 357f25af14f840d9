"""Does the objective come to rest? (claims C4 and C7)"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator

from layerprune.analysis import style
from layerprune.analysis.frames import Study
from layerprune.analysis.gate_traces import PRIORS, archs_with, objective, traces_of, variant_of

TITLE = "The objective while theta moves"
CAPTION = (
    "Left: J = loss + nu times the expected number of open sections, at every check until theta is rounded, with "
    "constant and with decreasing step sizes for theta (Robbins and Monro); dotted: J with theta rounded, on the "
    "last batches. Right: the expected number of open sections. Each line is a seed."
)
NEEDS = "variants of gated with the setting watch"
SHOWS = "objective"
VARIANTS = {variant_of(PRIORS[0]): "constant", "robbins-monro": "falling"}
"""Variant of gated -> its step sizes on theta."""
COLUMNS = ["arch", "seed", "steps_on_theta", "step", "objective", "rounded", "open"]


def prepare(study: Study) -> pd.DataFrame:
    """A row a check of the trainings with traces: J with the mean loss since the last check, `rounded` that of theta
    rounded, `open` the expected number of open sections.

    An architecture without a record has one row without numbers.
    """
    rows = []
    for variant, steps in VARIANTS.items():
        there = set()
        for trace in traces_of(study, variant):
            there.add(trace.record.arch)
            theta = np.nan_to_num(trace.theta).sum(1)
            names = {"arch": trace.record.arch, "seed": trace.record.seed, "steps_on_theta": steps}
            values = zip(trace.step, trace.loss + trace.price * theta, objective(trace)[1], theta, strict=True)
            rows += [names | dict(zip(COLUMNS[3:], map(float, each), strict=True)) for each in values]
        rows += [{"arch": arch, "steps_on_theta": steps} for arch in archs_with(study, variant) if arch not in there]
    return pd.DataFrame(rows, columns=COLUMNS)


# --- drawing --------------------------------------------------------------------------------------------------

COLORS = {"constant": "#D55E00", "falling": "#0072B2"}
TICKS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
"""Of each decade of J: often there is hardly one."""


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A row of two panels per architecture; `data` as from `prepare`."""
    archs = list(dict.fromkeys(data["arch"]))
    figure, axes = style.grid(2 * len(archs), columns=2, size=(3.9, 2.7))
    for place, arch in enumerate(archs):
        rows = data[data["arch"] == arch].dropna(subset="step")
        upper, lower = axes[2 * place], axes[2 * place + 1]
        upper.set_title(arch)
        if rows.empty:
            style.say_instead(upper, "not run")
            style.say_instead(lower, "")
            continue
        _panel(upper, rows, "objective")
        _panel(lower, rows, "open")
        upper.set(ylabel="J", xlabel="step", yscale="log")
        upper.yaxis.set_major_locator(LogLocator(subs=TICKS))
        upper.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        upper.minorticks_off()
        lower.set(ylabel="expected open sections", xlabel="step")
    style.legend(figure, _handles(data))
    style.title(figure, heading)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, name: str) -> None:
    for (steps, _), line in rows.groupby(["steps_on_theta", "seed"], sort=False):
        ax.plot(line["step"], line[name], color=COLORS[steps], linewidth=0.9, alpha=0.8)
        if name == "objective":
            ax.plot(line["step"], line["rounded"], color=COLORS[steps], linewidth=0.8, linestyle=":", alpha=0.8)


def _handles(data: pd.DataFrame) -> list[Line2D]:
    seeds = data.groupby(["steps_on_theta", "arch"], sort=False)["seed"].nunique()
    drawn = [steps for steps in COLORS if steps in set(data["steps_on_theta"])]
    labels = [style.with_seeds(f"{steps} step sizes", seeds[steps]) for steps in drawn]
    handles = [Line2D([], [], color=COLORS[steps], label=label) for steps, label in zip(drawn, labels, strict=True)]
    return [*handles, Line2D([], [], color="#555555", linestyle=":", label="theta rounded")]
