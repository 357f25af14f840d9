"""One network's table in the form of the literature: a row per method, grouped, as CSV, Markdown and LaTeX.

results/<preset>/tables/<dataset>/<arch>.csv carries raw numbers (accuracies and shares in [0, 1], MACs as
multiply-adds); Markdown and LaTeX carry the same rows as text. Only default settings are compared: variants are in
the wide table of the data set. LaTeX needs the packages booktabs and graphicx, and is set for one column of two.
"""

import math

import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.frames import Study
from layerprune.core import methods

GROUPS = {
    "dense": "Dense network",
    "ours": "Gated training",
    "trained": "Prune during training",
    "scores": "Prune a trained network",
    "controls": "Controls",
}
"""Group -> its heading, in the order of the rows."""
COMPARED = ("ours", "trained", "scores")
"""Groups whose best value is bold: methods that decide by themselves what goes."""
COLUMNS = {
    "method": "method",
    "accuracy": "accuracy (%)",
    "difference": "Δ dense [95 %]",
    "depth": "depth",
    "layers_removed": "layers removed (%)",
    "flops_removed": "FLOPs removed (%)",
    "params_removed": "parameters removed (%)",
    "train_cost": "training cost (× dense)",
    "with_search": "with the search (× dense)",
}
SHORT = {"layers_removed": "layers", "flops_removed": "FLOPs", "params_removed": "params", "train_cost": "cost"}
"""Headings of the LaTeX table, below `removed (%)` for the first three."""
REMOVED = ["layers_removed", "flops_removed", "params_removed"]
LEGEND = (
    "Accuracy: test accuracy, mean ± standard deviation (n seeds). Δ dense: points against the dense network of the "
    "same seeds, with a 95 % bootstrap interval, which is too narrow for few seeds. Depth: weight layers on the "
    "longest path. FLOPs: multiply-adds of convolutions and linear layers for one input, as most of the pruning "
    "literature counts them; the CSV has them as MACs. Training cost: multiply-adds of the whole training, including "
    "the dense network that a method starts from, but not the gated run whose depth or layout it takes over. With the "
    "search: that of controls together with this gated run. "
    "Bold: the highest accuracy and the lowest cost of the methods that removed layers, controls aside."
)
IN_BRACKETS = " In brackets: the cost with the search."


def compact(study: Study, arch: str) -> pd.DataFrame:
    """A row per method with its default settings, as numbers; NaN for what does not exist.

    Columns: group, method, n, other (what became of runs that do not count), accuracy and difference with spread and
    interval, depth, MACs, parameters, the three shares removed, training cost as a multiple of dense's, of controls
    also with the gated run that they borrow from.
    """
    runs = study.runs[(study.runs["arch"] == arch) & (study.runs["variant"] == "default")]
    whole = runs[statistics.counted(runs)].groupby("method")[["macs_dense", "params_dense"]].mean()
    summary = statistics.summarise(runs).join(whole, on="method")
    rows = pd.DataFrame({"group": summary["method"].map(group_of), "method": summary["method"], "n": summary["n"]})
    rows["other"] = [_other(row) for row in summary.to_dict("records")]
    for name in ("mean", "sd"):
        rows[f"accuracy_{name}"] = summary[f"test_accuracy_{name}"]
    for name in ("mean", "low", "high"):
        rows[f"difference_{name}"] = summary[f"difference_{name}"].where(rows["group"] != "dense")
    rows["difference_n"] = summary["difference_n"].where(rows["group"] != "dense", 0)
    rows["depth"], rows["depth_dense"] = summary["depth_mean"], summary["depth_dense_mean"]
    rows["macs"], rows["macs_dense"] = summary["macs_mean"], summary["macs_dense"]
    rows["params"], rows["params_dense"] = summary["params_mean"], summary["params_dense"]
    rows["layers_removed"] = 1 - rows["depth"] / rows["depth_dense"]
    rows["flops_removed"] = 1 - summary["macs_ratio_mean"]
    rows["params_removed"] = 1 - rows["params"] / rows["params_dense"]
    rows["train_cost"] = summary["train_macs_ratio_mean"]
    rows["with_search"] = summary["train_macs_with_search_ratio_mean"]
    order = list(GROUPS)
    return rows.sort_values("group", key=lambda groups: groups.map(order.index), kind="stable", ignore_index=True)


def told_of(study: Study, arch: str) -> str:
    """A sentence on what the preset asked of the network, where that is not the published one."""
    runs = study.runs[study.runs["arch"] == arch]
    removable = "all sections" if set(runs["removable"]) <= {"all"} else "only sections with an identity shortcut"
    widths = sorted(set(runs["width"].dropna()))
    narrow = f", {' or '.join(f'{width:.0f}' for width in widths)} channels in the first stage" if widths else ""
    return f"Removable: {removable}{narrow}."


def not_run(rows: pd.DataFrame) -> pd.Series:
    """Whether none of the runs behind a row has been made, for each of them."""
    return (rows["n"] == 0) & rows["other"].str.fullmatch(r"\d+ not run")


def group_of(method: str) -> str:
    """The group of the table that a method belongs to."""
    return {"dense": "dense", "gated": "ours"}.get(method) or methods.families()[method]


def _other(row: dict) -> str:
    words = {"n_failed": "failed", "n_missing": "not run", "n_collapsed": "collapsed", "n_unpruned": "unpruned"}
    return ", ".join(f"{row[name]} {word}" for name, word in words.items() if row[name])


# --- text -----------------------------------------------------------------------------------------------------


def csv(rows: pd.DataFrame) -> str:
    """The numbers, unrounded."""
    return rows.to_csv(index=False, lineterminator="\n")


def cells(rows: pd.DataFrame) -> list[dict]:
    """The rows as text: a dictionary per row with its group, its cells by COLUMNS, and the names of the best ones."""
    best = _best(rows)
    return [
        {"group": row["group"], "cells": _cells(row), "best": [name for name in best if best.loc[place, name]]}
        for place, row in rows.iterrows()
    ]


def markdown(rows: pd.DataFrame) -> str:
    """A Markdown table with a line before each group."""
    lines = [list(COLUMNS.values()), [":---"] + ["---:"] * (len(COLUMNS) - 1)]
    best = _best(rows)
    for group, members in rows.groupby("group", sort=False):
        lines.append([f"*{GROUPS[group]}*", *[""] * (len(COLUMNS) - 1)])
        lines += [_markdown_cells(row, best.loc[place]) for place, row in members.iterrows()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _markdown_cells(row: pd.Series, best: pd.Series) -> list[str]:
    return [f"**{text}**" if best.get(name, False) else text for name, text in _cells(row).items()]


def latex(rows: pd.DataFrame, caption: str, label: str) -> str:
    """A table that fits one column, ready for \\input: booktabs, the best values in bold, the legend below.

    The cost together with the search follows the cost in brackets, which saves a column.
    """
    best, lines = _best(rows), []
    width = len(COLUMNS) - 1
    for place, (group, members) in enumerate(rows.groupby("group", sort=False)):
        lines += [r"\midrule"] * (place > 0)
        lines.append(rf"\multicolumn{{{width}}}{{l}}{{\itshape {GROUPS[group]}}} \\")
        lines += [_latex_cells(row, best.loc[place]) for place, row in members.iterrows()]
    removed = [r"\multicolumn{3}{c}{removed (\%)}", ""]
    heads = ["method", r"accuracy (\%)", r"$\Delta$ dense [95\,\%]", "depth", *SHORT.values()]
    above = [" & ".join([*[""] * 4, *removed]) + r" \\", r"\cmidrule(lr){5-7}"]
    body = [*above, " & ".join(heads) + r" \\", r"\midrule", *lines]
    return latex_table(caption, label, f"l{'r' * (width - 1)}", body, LEGEND + IN_BRACKETS)


def latex_table(caption: str, label: str, columns: str, body: list[str], legend: str) -> str:
    """A table no wider than a column, for \\input: `body` are lines of LaTeX between its rules, the rest is text."""
    return "\n".join(
        [
            r"\begin{table}[t]",
            rf"\centering\caption{{{latex_text(caption)}}}\label{{{label}}}",
            r"\scriptsize\setlength{\tabcolsep}{2pt}%",
            r"\resizebox{\ifdim\width>\columnwidth\columnwidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            rf"\par\vspace{{2pt}}{{\raggedright {latex_text(legend)}\par}}",
            r"\end{table}",
            "",
        ]
    )


def _latex_cells(row: pd.Series, best: pd.Series) -> str:
    cells = {name: latex_text(text) for name, text in _cells(row).items()}
    search = cells.pop("with_search")
    cells = {name: rf"\textbf{{{text}}}" if best.get(name) else text for name, text in cells.items()}
    cells["train_cost"] += "" if math.isnan(row["with_search"]) else f" ({search})"
    return " & ".join(cells.values()) + r" \\"


def latex_text(text: str) -> str:
    """Text for LaTeX in UTF-8: special characters, and minus signs as such."""
    for plain, command in {"%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#"}.items():
        text = text.replace(plain, command)
    for plain, command in {"±": r"$\pm$", "×": r"$\times$", "–": "--", "−": "$-$", "Δ": r"$\Delta$"}.items():
        text = text.replace(plain, command)
    return text


def _best(rows: pd.DataFrame) -> pd.DataFrame:
    """Where a column's best value stands, by the names of COLUMNS; nowhere where fewer than two compete."""
    competing = rows["group"].isin(COMPARED) & (rows["layers_removed"] > 0) & (rows["n"] > 0)
    if competing.sum() < 2:
        return pd.DataFrame(False, index=rows.index, columns=["accuracy", "train_cost"])
    accuracy, cost = (rows[name].where(competing).round(4) for name in ("accuracy_mean", "train_cost"))
    return pd.DataFrame({"accuracy": accuracy == accuracy.max(), "train_cost": cost == cost.min()})


def _cells(row: pd.Series) -> dict[str, str]:
    """A row's text by the names of COLUMNS."""
    return {
        "method": row["method"],
        "accuracy": _accuracy(row),
        "difference": difference(row),
        "depth": number(row["depth"]),
        **{name: _percent(row[name]) for name in REMOVED},
        "train_cost": number(row["train_cost"], 2),
        "with_search": number(row["with_search"], 2),
    }


def _accuracy(row: pd.Series) -> str:
    if row["n"] == 0:
        return row["other"] or "not run"
    spread = "" if math.isnan(row["accuracy_sd"]) else f" ± {100 * row['accuracy_sd']:.2f}"
    return f"{100 * row['accuracy_mean']:.2f}{spread} ({row['n']})" + (f", {row['other']}" if row["other"] else "")


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def difference(row: pd.Series) -> str:
    """Points against dense with the interval, such as `−0.88 [−1.65, −0.02]`; a pair count where seeds are fewer."""
    if not row["difference_n"]:
        return "–"
    interval = f" [{points(row['difference_low'])}, {points(row['difference_high'])}]"
    pairs = f" ({row['difference_n']:.0f})" if row["difference_n"] != row["n"] else ""
    return points(row["difference_mean"]) + (interval if row["difference_n"] > 1 else "") + pairs


def points(share: float) -> str:
    """A difference of accuracies in signed points, without a negative zero."""
    text = f"{100 * share:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def number(value: float, digits: int = 1) -> str:
    """A number with so many decimals, whole ones without; – for NaN."""
    if math.isnan(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if digits > 1 or float(text) % 1 else f"{float(text):.0f}"
