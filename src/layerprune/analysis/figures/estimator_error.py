"""How far each estimator of Delta is from the truth, on networks small enough to enumerate."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layerprune.analysis import statistics, style
from layerprune.analysis.frames import Study
from layerprune.analysis.selections import archs_with_experiment, experiment_records

TITLE = "What a section is worth: estimators against enumeration"
CAPTION = (
    "Relative error of the vector Delta (how much the loss changes when a section opens) of each estimator; the "
    "exact value comes from the losses of all subnetworks. Top: the estimate after more and more batches; unbiased "
    "estimators keep improving, biased ones level off. Bottom: the mean error (bias) and the spread of single "
    "estimates (standard deviation). Dashed: the two halves of the two-sided estimator alone. Means over seeds with "
    "95 % bootstrap intervals; n is above each panel."
)
NEEDS = "the experiment estimator-error"
SHOWS = "error"
EXPERIMENT = "estimator-error"
POINT = ["arch", "epochs", "theta", "reading", "batches"]
NUMBERS = ["error", "bias", "spread"]
"""In per cent of Delta's norm; see methods.experiments.estimator_error.apart."""


def prepare(study: Study) -> pd.DataFrame:
    """A row a point: means of NUMBERS over seeds, their 95 % bootstrap intervals (NaN for one seed) and n.

    `reading` is an estimator or a half of the two-sided one, `batches` what it has seen, `epochs` how long the network
    was trained. An architecture without a record has one row without numbers.
    """
    found = pd.DataFrame(_rows(study), columns=[*POINT, "seed", *NUMBERS])
    absent = [arch for arch in archs_with_experiment(study, EXPERIMENT) if arch not in set(found["arch"])]
    rows = [*_points(found), *({"arch": arch} for arch in absent)]
    ends = [f"{name}_{end}" for name in NUMBERS for end in ("low", "high")]
    return pd.DataFrame(rows, columns=[*POINT, *NUMBERS, *ends, "n"])


def _rows(study: Study) -> Iterator[dict]:
    for run in experiment_records(study, EXPERIMENT):
        for row in run.details["errors"]:
            numbers = {name: 100 * row[name] for name in NUMBERS if row.get(name) is not None}
            yield {"arch": run.arch, "seed": run.seed} | row | numbers


def _points(found: pd.DataFrame) -> Iterator[dict]:
    found = found.astype(dict.fromkeys(NUMBERS, float))
    groups = list(found.groupby(POINT, sort=False))
    bounds = iter(statistics.intervals([rows[name].dropna().to_numpy() for _, rows in groups for name in NUMBERS]))
    for values, rows in groups:
        point = dict(zip(POINT, values, strict=True)) | {"n": len(rows)}
        for name in NUMBERS:
            point[name] = rows[name].mean()
            point[f"{name}_low"], point[f"{name}_high"] = next(bounds)
        yield point


# --- drawing --------------------------------------------------------------------------------------------------

LOOKS = {
    "two_sided": ("#D55E00", "o", "two-sided (default)"),
    "straight_through": ("#0072B2", "^", "straight-through"),
    "finite_difference": ("#009E73", "s", "finite difference (a second forward)"),
    "disarm": ("#CC79A7", "D", "DisARM (a second forward)"),
    "only_open": ("#E69F00", "2", "open side alone"),
    "only_closed": ("#56B4E9", "1", "closed side alone"),
}
"""Reading -> colour, marker, and its name in the legend."""
HALVES = ("only_open", "only_closed")
LATE = 0.9
"""Theta of the panel of batches."""
PANELS = 6
TICKS = tuple(digit * power for power in (0.1, 1, 10, 100, 1000) for digit in (1, 2, 5))


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """Two rows of three panels per architecture; `data` as from `prepare`."""
    archs = list(dict.fromkeys(data["arch"]))
    figure, axes = style.grid(PANELS * len(archs))
    for place, arch in enumerate(archs):
        rows = data[data["arch"] == arch].dropna(subset="error")
        mine = axes[PANELS * place : PANELS * (place + 1)]
        if rows.empty:
            mine[0].set_title(arch)
            for ax in mine:
                style.say_instead(ax, "not run" if ax is mine[0] else "")
            continue
        _errors(mine[:3], arch, rows)
        _parts(mine[3:], rows)
    style.legend(figure, _handles())
    style.title(figure, heading)
    return figure


def _errors(axes: list[Axes], arch: str, rows: pd.DataFrame) -> None:
    """Error over theta after the shortest and the longest training, and after the latter over batches."""
    lengths, n = sorted(set(rows["epochs"])), int(rows["n"].min())
    limits = 0.7 * rows["error"].min(), 1.5 * rows["error"].max()
    most = rows[rows["batches"] == rows["batches"].max()]
    for ax, length in zip(axes, (lengths[0], lengths[-1]), strict=False):
        _panel(ax, most[most["epochs"] == length], "theta", f"{arch}, {_epochs(length)} (n = {n})", limits)
        ax.set_ylabel("error of Delta (%)")
    theta = min(set(rows["theta"]), key=lambda value: abs(value - LATE))
    late = rows[(rows["epochs"] == lengths[-1]) & (rows["theta"] == theta)]
    _panel(axes[2], late, "batches", f"{arch}, {_epochs(lengths[-1])}, theta {theta:g} (n = {n})", limits)
    seen = sorted(set(late["batches"]))
    axes[2].set_xscale("log")
    axes[2].set_xticks(seen, labels=[f"{count:g}" for count in seen])
    axes[2].minorticks_off()
    axes[2].set_ylabel("error of Delta (%)")


def _parts(axes: list[Axes], rows: pd.DataFrame) -> None:
    """After the longest training, over theta: bias after most batches, standard deviation after one and after most."""
    rows = rows[rows["epochs"] == rows["epochs"].max()]
    one, most = rows["batches"].min(), rows["batches"].max()
    spread = rows.dropna(subset="spread")
    limits = 0.7 * spread["spread"].min(), 1.5 * spread["spread"].max()
    for ax, quantity, label, batches in zip(
        axes, ("bias", "spread", "spread"), ("bias", *["standard deviation"] * 2), (most, one, most), strict=True
    ):
        chosen = rows[rows["batches"] == batches]
        heading = f"after {batches:g} batch" + ("es" if batches > 1 else "")
        if chosen[quantity].isna().all():
            style.say_instead(ax, f"{label}: one repetition tells none")
            continue
        own = (0.7 * chosen["bias"].min(), 1.5 * chosen["bias"].max()) if quantity == "bias" else limits
        _panel(ax, chosen, "theta", heading, own, quantity)
        ax.set_ylabel(f"{label} (%)")


def _epochs(length: float) -> str:
    return f"{length:g} epoch" + ("s" if length != 1 else "")


def _panel(
    ax: Axes, rows: pd.DataFrame, x: str, heading: str, limits: tuple[float, float], quantity: str = "error"
) -> None:
    for reading, (color, marker, _) in LOOKS.items():
        line = rows[rows["reading"] == reading].sort_values(x)
        below, above = line[quantity] - line[f"{quantity}_low"], line[f"{quantity}_high"] - line[quantity]
        ax.errorbar(
            line[x],
            line[quantity],
            yerr=[below.fillna(0), above.fillna(0)],
            color=color,
            marker=marker,
            markersize=4,
            linestyle="--" if reading in HALVES else "-",
            linewidth=1.0,
            elinewidth=0.8,
        )
    ax.set_title(heading, fontsize=8)
    ax.set(xlabel="batches seen" if x == "batches" else "theta of every gate", yscale="log", ylim=limits)
    if x == "theta":
        ax.set_xlim(0, 1)
    ticks = [tick for tick in TICKS if limits[0] <= tick <= limits[1]]
    ax.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    ax.minorticks_off()


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], color=color, marker=marker, linestyle="--" if reading in HALVES else "-", label=name)
        for reading, (color, marker, name) in LOOKS.items()
    ]
