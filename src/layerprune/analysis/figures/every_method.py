"""Every method on one network, a row each: accuracy, depth, costs, and which sections it keeps."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from layerprune.analysis import compact, statistics, style
from layerprune.analysis.figures import _marks
from layerprune.analysis.frames import Study

TITLE = "Every method"
CAPTION = (
    "Every method on one network, with gated's sweep of nu, score methods at given depths and other lengths of "
    "training: means over seeds with 95 % bootstrap intervals, the number of seeds after the name; the black line and "
    "its band are dense. Right: the share of seeds in which each section is left, from the input to the output. Score "
    "methods that left the same sections with every seed are named at the top; with few sections and seeds, that can "
    "be chance."
)
NEEDS = "two methods with a result on one network"
SHOWS = "test_accuracy_mean"
PICTURE_PER = "arch"
COLUMNS = [
    *("arch", "group", "method", "label", "n", "same_as", "kept"),
    *(f"{name}_{part}" for name in _marks.QUANTITIES for part in ("mean", "low", "high")),
]


def prepare(study: Study) -> pd.DataFrame:
    """A row per method and variant with a result, in the order of the tables, on networks with two such rows or more.

    `kept` has the share of seeds that keep each section, in hundredths, separated by spaces; `same_as` names the first
    score method that left the same sections with every seed.
    """
    rows = _marks.prepare(study)
    rows = rows[rows["n"] > 0]
    rows = rows[rows.groupby("arch")["arch"].transform("size") > 1].reset_index(drop=True)
    used = study.runs[statistics.counted(study.runs)]
    kept = {names: _shares(runs) for names, runs in used.groupby(["arch", "method", "variant"], sort=False)}
    rows["group"] = rows["method"].map(compact.group_of)
    rows["kept"] = [kept[names] for names in zip(rows["arch"], rows["method"], rows["variant"], strict=True)]
    rows["same_as"] = _same(rows, used)
    return rows[COLUMNS]


def _shares(runs: pd.DataFrame) -> str:
    keeps = list(runs["keep"])
    alike = len({len(keep) for keep in keeps}) == 1  # networks of one variant may start with different depths
    return " ".join(f"{100 * share:.0f}" for share in np.mean(keeps, axis=0)) if alike else ""


def _same(rows: pd.DataFrame, used: pd.DataFrame) -> list[str | None]:
    """For each default score method the first before it with the same sections in every seed, of two seeds or more."""
    chosen = used[used["variant"] == "default"]
    left = {
        names: tuple((run["seed"], tuple(run["keep"])) for run in runs.to_dict("records"))
        for names, runs in chosen.groupby(["arch", "method"], sort=False)
    }
    firsts: dict[tuple, str] = {}
    found: list[str | None] = []
    for row in rows.to_dict("records"):
        choice = left.get((row["arch"], row["method"]), ())
        comparable = row["group"] == "scores" and row["curve"] == "main" and len(choice) > 1
        first = firsts.setdefault((row["arch"], choice), row["method"]) if comparable else row["method"]
        found.append(None if first == row["method"] else first)
    return found


# --- drawing --------------------------------------------------------------------------------------------------

COLORS = {"dense": "#000000", "ours": "#D55E00", "trained": "#0072B2", "scores": "#009E73", "controls": "#777777"}
LABELS = {
    "test_accuracy": "test accuracy (%)",
    "depth": "depth (weight layers)",
    "macs_ratio": "inference MACs\n(multiples of dense)",
    "train_macs_ratio": "training MACs\n(multiples of dense)",
}
ROW, MAP = 0.165, "Greys"
"""Height of a row in inches; colours of shares."""


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A row per method, a panel per quantity, and the sections; `data` as from `prepare`, of one network."""
    figure = Figure(figsize=(11.5, ROW * len(data) + 1.9), layout="constrained")
    shown = [quantity for quantity in LABELS if data[f"{quantity}_mean"].notna().any()]
    axes = figure.subplots(1, len(shown) + 1, sharey=True, width_ratios=[1.5, *[1] * (len(shown) - 1), 1.5])
    for ax, quantity in zip(axes, shown, strict=False):
        _panel(ax, data, quantity)
        ax.set_xlabel(LABELS[quantity])
    _sections(axes[-1], data)
    shades = ScalarMappable(Normalize(0, 100), MAP)
    low = {"location": "bottom", "shrink": 0.8, "aspect": 22, "pad": 0.01, "fraction": min(0.15, 0.4 / len(data))}
    figure.colorbar(shades, ax=axes[-1], label="seeds that keep it (%)", **low)
    names = [f"{label} ({n})" for label, n in zip(data["label"], data["n"], strict=True)]
    axes[0].set_yticks(range(len(data)), labels=names, fontsize=7)
    axes[0].set_ylim(len(data) - 0.4, -0.6)
    style.legend(figure, _handles(data))
    style.title(figure, "\n".join([f"{heading}, {data['arch'].iloc[0]}", *_footnotes(data)]))
    return figure


def _panel(ax: Axes, data: pd.DataFrame, quantity: str) -> None:
    for group, rows in data.groupby("group", sort=False):
        ax.hlines(
            rows.index - data.index[0], rows[f"{quantity}_low"], rows[f"{quantity}_high"], COLORS[group], linewidth=1
        )
        places = rows.index - data.index[0]
        look = {"color": COLORS[group], "markersize": 4, "linestyle": "none", "label": group}
        ax.plot(rows[f"{quantity}_mean"], places, marker="o", **look)
    if quantity == "test_accuracy":
        _dense(ax, data[(data["method"] == "dense")].head(1))
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=quantity == "depth"))
    ax.grid(axis="y", linewidth=0.4)


def _dense(ax: Axes, rows: pd.DataFrame) -> None:
    for row in rows.to_dict("records"):
        ax.axvline(row["test_accuracy_mean"], color=COLORS["dense"], linewidth=0.8, zorder=1)
        if np.isfinite(row["test_accuracy_low"]):
            ax.axvspan(row["test_accuracy_low"], row["test_accuracy_high"], color="#000000", alpha=0.1, linewidth=0)


def _sections(ax: Axes, data: pd.DataFrame) -> None:
    """A cell per row and section; methods that keep other numbers of sections (shallower) end earlier."""
    shares = [np.array(kept.split(), float) if isinstance(kept, str) else np.array([]) for kept in data["kept"]]
    table = np.full((len(data), max(map(len, shares))), np.nan)
    for place, row in enumerate(shares):
        table[place, : len(row)] = row
    edges = np.arange(table.shape[1] + 1), np.arange(len(data) + 1) - 0.5
    shown = np.ma.masked_invalid(table)
    ax.pcolormesh(*edges, shown, cmap=MAP, vmin=0, vmax=100, edgecolors="#DDDDDD", linewidth=0.4)
    ax.set(xlabel="section", xlim=(0, table.shape[1]))
    ticks = [place for place in range(table.shape[1]) if table.shape[1] <= 7 or place % 5 == 0]
    ax.set_xticks([tick + 0.5 for tick in ticks], labels=[str(tick) for tick in ticks])
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _footnotes(data: pd.DataFrame) -> list[str]:
    """Score methods that left the same sections, and what cannot be compared."""
    same = data.dropna(subset="same_as")
    groups = [", ".join([first, *rows["label"]]) for first, rows in same.groupby("same_as", sort=False)]
    notes = [f"the same sections with every seed: {each}" for each in groups]
    return notes + ["no dense run to compare the training cost with"] * bool(data["train_macs_ratio_mean"].isna().all())


def _handles(data: pd.DataFrame) -> list[Line2D]:
    look = {"marker": "o", "markersize": 4}
    groups = list(dict.fromkeys(data["group"]))
    return [Line2D([], [], color=COLORS[group], label=compact.GROUPS[group].lower(), **look) for group in groups]
