"""Tables of one dataset: every number as CSV, a compact table per network, and the wide comparison of everything.

results/<preset>/<dataset>/runs.csv and summary.csv carry raw numbers (accuracies in [0, 1], MACs as
multiply-adds, seconds). The comparison carries text: accuracy in per cent as mean ± sd (n), the paired
difference to dense in points with its 95 % interval, and multiples of dense in brackets. No text depends on
the time of writing.
"""

import math
from pathlib import Path

import pandas as pd

from layerprune.analysis import compact, literature, statistics
from layerprune.analysis.frames import LISTS, Study
from layerprune.system import files, paths

NOT_RUN = "not run"
TOP5 = "top-5 (%)"
ENERGY = "energy (kJ)"
BEFORE = "validation accuracy before fine-tuning (%)"
NETWORK = ["architecture", "removable", "shortcut", "width"]
LEGEND = (
    "Accuracy: test accuracy in %, mean ± sd over seeds (number of seeds); top-5: share of test images whose class is "
    "among the five likeliest, for data sets with many classes. Difference: points against dense "
    "of the same seeds, with a 95 % percentile bootstrap interval over seeds (too narrow for few seeds); none if "
    "training was set to be longer or shorter than dense's. "
    "Validation accuracy before fine-tuning: in %, after removal from a trained network, before further training; "
    "the test set is read once, at the end. "
    "Removable: the sections that a method may remove (shape-preserving: those whose shortcut is the identity); "
    "width: channels of the first stage, where not as published. "
    "MACs: multiply-adds of one input; training MACs: multiply-adds of the whole training, that of the "
    "networks it starts from included, that of the gated run whose layout or depth it takes over not; in brackets: "
    "multiples of dense."
)
ENERGY_LEGEND = (
    " Energy: an estimate of what training took, the dense network's included, evaluations too: of processor packages "
    "and memory by the run's share of CPU time, or of the GPU's board; mean of the runs whose machine counts it."
)


def write(study: Study) -> list[Path]:
    """Write every table of a dataset and return their paths."""
    summary = statistics.summarise(study.runs)
    cells = comparison(summary)
    texts = {
        paths.runs_table(study.preset, study.dataset): runs_csv(study.runs),
        paths.summary_table(study.preset, study.dataset): _csv(summary),
        paths.table(study.preset, study.dataset, "csv"): _csv(cells),
        paths.table(study.preset, study.dataset, "md"): markdown_page(study, cells),
    }
    for arch in study.archs:
        texts |= _compact(study, arch)
    elsewhere = literature.published(study.dataset)
    if len(elsewhere):
        texts |= _published(study, elsewhere)
    for path, text in texts.items():
        files.write_text(path, text)
    return list(texts)


def _compact(study: Study, arch: str) -> dict[Path, str]:
    rows = compact.compact(study, arch)
    caption = f"{arch} on {study.dataset} (preset {study.preset}). {compact.told_of(study, arch)}"
    texts = {
        "csv": compact.csv(rows),
        "md": f"# {arch} on {study.dataset}\n\n{compact.markdown(rows)}\n\n{compact.LEGEND}\n",
        "tex": compact.latex(rows, caption, f"tab:{study.preset}-{study.dataset}-{arch}"),
    }
    return {paths.compact_table(study.preset, study.dataset, arch, suffix): text for suffix, text in texts.items()}


def _published(study: Study, rows: pd.DataFrame) -> dict[Path, str]:
    texts = {
        "csv": _csv(rows),
        "md": literature.published_page(study.dataset, rows),
        "tex": literature.published_latex(study.dataset, rows),
    }
    return {paths.published_table(study.preset, study.dataset, suffix): text for suffix, text in texts.items()}


def runs_csv(runs: pd.DataFrame) -> str:
    """Every run with its comparison to dense; lists as numbers between spaces, `-` for null."""
    compared = statistics.compare_to_dense(runs)
    for name in LISTS:
        compared[name] = compared[name].map(_list_text)
    return _csv(compared)


def _list_text(values: object) -> str:
    return " ".join("-" if value is None else str(value) for value in values) if isinstance(values, list) else ""


def _csv(frame: pd.DataFrame) -> str:
    """Without columns of an energy that nobody measured."""
    nothing = [name for name in frame if name.startswith("energy") and frame[name].isna().all()]
    return frame.drop(columns=nothing).to_csv(index=False, lineterminator="\n")


# --- the comparison -----------------------------------------------------------------------------------------


def comparison(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary as text, one row a method and variant; top-5 accuracy and energy where some run has them."""
    cells = pd.DataFrame([_cells(row) for row in summary.to_dict("records")])
    found = {TOP5: summary["test_top5_accuracy_mean"], ENERGY: summary["energy_joules_mean"]}
    return cells.drop(columns=[name for name, values in found.items() if values.isna().all()])


def _cells(row: dict) -> dict[str, str]:
    names = {"architecture": row["arch"]} | _network(row) | {"method": row["method"], "variant": row["variant"]}
    quantities = {
        "accuracy (%)": _accuracy(row),
        TOP5: "–" if math.isnan(row["test_top5_accuracy_mean"]) else _mean_and_sd(row, "test_top5_accuracy"),
        "difference (points)": _difference(row),
        BEFORE: _before_finetuning(row),
        "depth": _count(row["depth_mean"]),
        "sections left": _of(row["sections_left_mean"], row["sections_total_mean"]),
        "parameters": _scaled(row["params_mean"]),
        "MACs": _relative(_scaled(row["macs_mean"]), row["macs_ratio_mean"]),
        "training MACs": _relative(_scaled(row["train_macs_mean"]), row["train_macs_ratio_mean"]),
        "wall time (s)": _relative(_seconds(row["wall_seconds_mean"]), row["wall_ratio_mean"]),
        ENERGY: "–" if math.isnan(row["energy_joules_mean"]) else f"{row['energy_joules_mean'] / 1000:.3g}",
    }
    return names | quantities


def _network(row: dict) -> dict[str, str]:
    """Settings of the architecture; CIFAR's ResNets alone have options of shortcuts."""
    shortcut = row["shortcut"] if row["arch"].startswith(("resnet-", "preact-resnet-")) else ""
    return {"removable": row["removable"], "shortcut": shortcut or "–", "width": row["width"] or "–"}


def _accuracy(row: dict) -> str:
    """Such as `98.12 ± 0.05 (4), 1 failed`; `not run` where nothing was."""
    outcomes = {
        "n_failed": "failed",
        "n_missing": NOT_RUN,
        "n_collapsed": "collapsed",
        "n_unpruned": "unpruned",
    }
    notes = [f"{row[name]} {word}" for name, word in outcomes.items() if row[name]]
    if row["n"] == 0:
        return NOT_RUN if row["n_failed"] == 0 else ", ".join(notes)
    return ", ".join([f"{_mean_and_sd(row, 'test_accuracy')} ({row['n']})", *notes])


def _before_finetuning(row: dict) -> str:
    count = row["before_finetune_n"]
    if count == 0:
        return "–"
    return _mean_and_sd(row, "val_accuracy_before_finetune") + (f" ({count})" if count != row["n"] else "")


def _mean_and_sd(row: dict, name: str) -> str:
    """An accuracy in per cent; a single one has no spread."""
    mean, sd = row[f"{name}_mean"], row[f"{name}_sd"]
    return f"{100 * mean:.2f}" + ("" if math.isnan(sd) else f" ± {100 * sd:.2f}")


def _difference(row: dict) -> str:
    if row["difference_n"] == 0 or row["label"] == "dense":
        return "–"
    mean = _points(row["difference_mean"])
    bounds = f" [{_points(row['difference_low'])}, {_points(row['difference_high'])}]"
    pairs = f" ({row['difference_n']})" if row["difference_n"] != row["n"] else ""
    return mean + (bounds if row["difference_n"] > 1 else "") + pairs


def _points(value: float) -> str:
    """A difference of accuracies in signed points, without a negative zero."""
    text = f"{100 * value:+.2f}"
    return "0.00" if float(text) == 0 else text


def _count(value: float) -> str:
    """A mean of counts: one decimal only where it is not whole."""
    if math.isnan(value):
        return "–"
    return f"{value:.0f}" if abs(value - round(value)) < 1e-9 else f"{value:.1f}"


def _of(value: float, total: float) -> str:
    return "–" if math.isnan(value) else f"{_count(value)} of {_count(total)}"


def _scaled(value: float) -> str:
    """Three significant digits with a decimal prefix, such as 266 k."""
    if math.isnan(value):
        return "–"
    rounded = float(f"{value:.3g}")
    step = 0 if rounded == 0 else min(5, max(0, int(math.log10(abs(rounded)) // 3)))
    shown = rounded / 1000**step
    digits = max(0, 2 - int(math.log10(abs(shown)))) if shown else 0
    return f"{shown:.{digits if step else 0}f} {' kMGTP'[step]}".strip()


def _seconds(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _relative(text: str, ratio: float) -> str:
    return text if math.isnan(ratio) else f"{text} (×{ratio:.2f})"


# --- Markdown -------------------------------------------------------------------------------------------------------


def markdown_page(study: Study, cells: pd.DataFrame) -> str:
    """The methods' main settings by architecture, then their variants, each with what a reader must know."""
    heading = f"# {study.dataset} (images: {study.data_source}), preset {study.preset}"
    main = cells["variant"] == "default"
    parts = [heading, "## Methods", markdown(cells[main])]
    if not main.all():
        parts += ["## Variants", markdown(cells[~main])]
    return "\n\n".join([*parts, legend(cells)]) + "\n"


def legend(cells: pd.DataFrame) -> str:
    """What the columns mean."""
    return LEGEND + (ENERGY_LEGEND if ENERGY in cells else "")


def markdown(cells: pd.DataFrame) -> str:
    """A Markdown table per network; the variant's column only for variants."""
    shown = cells if (cells["variant"] != "default").any() else cells.drop(columns="variant")
    groups = shown.groupby(NETWORK, sort=False)
    tables = [f"{_network_heading(*names)}\n\n{_grid(group.drop(columns=NETWORK))}" for names, group in groups]
    return "\n\n".join(tables)


def _network_heading(arch: str, removable: str, shortcut: str, width: str) -> str:
    given = {"shortcut": shortcut, "width": width}
    options = [f"{name} {value}" for name, value in given.items() if value != "–"]
    return f"**{arch}** ({', '.join([f'removable: {removable}', *options])})"


def _grid(frame: pd.DataFrame) -> str:
    first_number = frame.columns.get_loc("accuracy (%)")
    rule = [":---" if place < first_number else "---:" for place in range(len(frame.columns))]
    lines = [list(frame.columns), rule, *frame.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
