"""What removal saves in time against what it saves in MACs."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layerprune.analysis import statistics, style
from layerprune.analysis.frames import Study, read_latencies
from layerprune.analysis.selections import family_of, standing_out

TITLE = "Speed-up of inference against MACs saved"
CAPTION = (
    "Speed-up of a forward pass over dense, against the factor by which multiply-adds were reduced, both on "
    "logarithmic axes, the same for networks that differ in their depth alone. Each mark is one pruned network; its "
    "line spans the quartiles over repeats. In colour: dense, gated and the most accurate rival of each family; "
    "networks of other methods are grey. Methods that kept the same sections share a measurement and are drawn side by "
    "side. On the dashed diagonal, time falls in proportion to multiply-adds; below it, less is saved."
)
NEEDS = "latencies (layerprune latency --preset PRESET)"
SHOWS = "speed_up"
RUN = ["arch", "method", "variant", "seed"]
SETUP = ["arch", "batch", "engine", "precision"]
MEASUREMENT = [*SETUP, "threads", "device", "hardware", "macs", "median_ms", "low_ms", "high_ms"]
COLUMNS = [
    *(*SETUP, "methods", "stand_out", "runs", "threads", "device", "hardware", "macs", "macs_saving", "median_ms"),
    *("speed_up", "speed_up_low", "speed_up_high"),
]


def prepare(study: Study) -> pd.DataFrame:
    """A row per measured network, batch size, engine and precision; `speed_up_low` and `_high` are its quartiles.

    `speed_up` is dense's median time over the network's, `macs_saving` dense's MACs over the network's. Runs that left
    the same network share its measurement, and so its row: `methods` names theirs, `stand_out` those in colour, `runs`
    counts them. Speed-up and saving are NaN where dense was not measured. Left out: runs that do not count, and
    latencies of a network that the run no longer has (its record tells other MACs).
    """
    counted = study.runs[statistics.counted(study.runs)][[*RUN, "macs"]]
    measured = read_latencies(study.preset, study.dataset).astype({"macs": "float64", "seed": counted["seed"].dtype})
    rows = counted.merge(measured, on=[*RUN, "macs"])
    dense = rows[(rows["method"] == "dense") & (rows["variant"] == "default")].drop_duplicates(SETUP)
    rows = _networks(rows)
    whole = rows[SETUP].merge(dense[[*SETUP, "macs", "median_ms"]], on=SETUP, how="left")
    rows["macs_saving"] = whole["macs"] / rows["macs"]
    for name, time in {"speed_up": "median_ms", "speed_up_low": "high_ms", "speed_up_high": "low_ms"}.items():
        rows[name] = whole["median_ms"] / rows[time]
    chosen = standing_out(study.runs)
    named = zip(rows["arch"], rows["methods"], strict=True)
    rows["stand_out"] = [" ".join(each for each in methods.split() if each in chosen[arch]) for arch, methods in named]
    return rows[COLUMNS]


def _networks(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for all runs whose numbers came from one measurement, in the order of the runs."""
    groups = rows.groupby(MEASUREMENT, sort=False)
    found = groups["method"].agg(methods=lambda methods: " ".join(sorted(set(methods))), runs="size").reset_index()
    return found.astype({"methods": object})


# --- drawing --------------------------------------------------------------------------------------------------

DIAGONAL = {"color": "#555555", "linestyle": "--", "linewidth": 0.9}
PANEL = ["arch", "engine", "precision", "batch"]
TICKS = (0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100)
FINE_TICKS = (0.5, 0.7, 1, 1.5, 2, 3, 4, 5)
STEP = 2.5
"""Points between marks of methods that left the same network."""


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A panel per architecture, engine, precision and batch size; `data` as from `prepare`.

    Without a panel: what has no dense network to compare with, and what has no other network than the whole one.
    """
    data = data.dropna(subset="speed_up")
    panels = [(name, rows) for name, rows in data.groupby(PANEL, sort=False) if rows["macs_saving"].nunique() > 1]
    panels = panels or list(data.groupby(PANEL, sort=False))
    figure, axes = style.grid(len(panels), columns=min(2 * data["batch"].nunique(), 4), size=(2.9, 2.7))
    plain = data["engine"].eq("eager").all() and data["precision"].eq("fp32").all()
    for ax, ((arch, engine, precision, batch), rows) in zip(axes, panels, strict=True):
        _panel(ax, rows)
        _limit(ax, data[data["arch"].map(family_of) == family_of(arch)])
        ax.set(title=f"{arch}, batch {batch}" if plain else f"{arch}, batch {batch}\n{engine}, {precision}")
    style.legend(figure, _handles(data))
    style.title(figure, f"{heading}\n{_conditions(data)}")
    return figure


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    others = rows[rows["stand_out"] == ""]
    look = {"color": style.OTHER, "marker": "o", "markersize": 4, "markeredgewidth": 0, "linestyle": "none"}
    ax.plot(others["macs_saving"], others["speed_up"], label="others", **look)
    for row in rows.to_dict("records"):
        methods = sorted(row["stand_out"].split(), key=style.rank)
        for place, method in reversed(list(enumerate(methods))):  # dense's and gated's on top
            _mark(ax, row, method, STEP * (place - (len(methods) - 1) / 2))
    ax.set(xlabel="reduction of MACs (factor)", ylabel="speed-up (factor)")


def _limit(ax: Axes, data: pd.DataFrame) -> None:
    """Logarithmic axes that hold all of `data`, and the diagonal across them."""
    most, fastest = max(1.5, data["macs_saving"].max()), max(1.5, data["speed_up_high"].max())
    slowest = min(1.0, data["speed_up_low"].min())
    ax.plot([1, most], [1, most], zorder=1, **DIAGONAL)
    ax.set(xscale="log", yscale="log", xlim=(0.85, 1.25 * most), ylim=(0.85 * slowest, 1.25 * max(most, fastest)))
    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        ticks = [tick for tick in (TICKS if high / low > 6 else FINE_TICKS) if low <= tick <= high]
        axis.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    ax.minorticks_off()


def _mark(ax: Axes, row: dict, method: str, offset: float) -> None:
    """A method's mark, moved to the side by so many points, with the quartiles as a line."""
    moved = {"transform": style.moved_sideways(ax.transData, ax, offset)}
    color, x = style.color(method), row["macs_saving"]
    ax.vlines(x, row["speed_up_low"], row["speed_up_high"], color=color, linewidth=0.9, **moved)
    ax.plot([x], [row["speed_up"]], label=method, **_look(method), **moved)


def _look(method: str) -> dict:
    return {
        "color": style.color(method),
        "marker": style.marker(method),
        "linestyle": "none",
        "markersize": 8 if method == "dense" else 7 if isinstance(style.marker(method), tuple) else 5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
    }


def _conditions(data: pd.DataFrame) -> str:
    """On what it was measured."""
    told = data[["hardware", "device", "threads"]].drop_duplicates().to_dict("records")
    machines = ", ".join(_machine(**each) for each in told)
    return f"measured on {machines}".replace("$", r"\$")  # no formula, whatever a machine is called


def _machine(hardware: str, device: str, threads: int) -> str:
    return hardware if device == "cuda" else f"{hardware}, {threads} thread{'s' if threads > 1 else ''}"


def _handles(data: pd.DataFrame) -> list[Line2D]:
    methods = sorted({method for named in data["stand_out"] for method in named.split()}, key=style.rank)
    handles = [Line2D([], [], label=method, **_look(method)) for method in methods]
    if data["stand_out"].eq("").any():
        grey = {"color": style.OTHER, "marker": "o", "markersize": 4, "linestyle": "none"}
        handles.append(Line2D([], [], label="other methods", **grey))
    return [*handles, Line2D([], [], label="in proportion to MACs", **DIAGONAL)]
