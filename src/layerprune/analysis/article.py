"""What the article of a preset says, all of it from records: workflow/report/article.typ sets it as a PDF.

The article has the headline, one table per network of the headline, the verdicts, published numbers apart from
measured ones, and six figures at most, of those that show something. Like the verdicts it takes the preset's evidence,
the runs of other presets, along.
"""

from typing import Any

import pandas as pd

from layerprune.analysis import compact, headline, literature
from layerprune.analysis.claims import ledger
from layerprune.analysis.figure_index import WITHOUT_RESULT
from layerprune.analysis.figures import FIGURES, captions
from layerprune.analysis.frames import Study
from layerprune.errors import LayerpruneError
from layerprune.system import paths

FIGURES_SHOWN = (
    ("mnist", "depth-vs-start"),
    ("cifar10", "depth-vs-start"),
    ("mnist", "random-removal"),
    ("imagenet", "random-removal"),
    ("mnist", "accuracy-vs-training-macs"),
    ("mnist", "estimators"),
)
"""Data set and name, in the order of the article; those that no study has are left out."""
WIDE = {"accuracy-vs-training-macs", "estimators"}
"""Figures of three panels in a row, which take the width of the page; the others stand two in a row."""


def contents(preset: str) -> dict[str, Any]:
    """Text and paths, ready for JSON; paths are relative to the repository. Missing runs show as gaps.

    Raises LayerpruneError if no run of the preset has a record.
    """
    studies = [study for study in headline.studies_behind(preset) if len(_made(study))]
    if preset not in {study.preset for study in studies}:
        raise LayerpruneError(f"preset {preset} has no results yet; run: make reproduce PRESET={preset}")
    table = headline.rows(studies)
    told = headline.cells(table)
    keys = zip(table["preset"], table["data"], table["arch"], strict=True)
    titles = dict(zip(keys, told["network"], strict=True))
    return {
        "preset": preset,
        "beside": [name for name in dict.fromkeys(study.preset for study in studies) if name != preset],
        "headline": {"columns": headline.COLUMNS, "rows": told.to_numpy().tolist()},
        "headline_legend": headline.LEGEND,
        "studies": [_study(study) for study in studies],
        "networks": [
            _network(study, arch, title)
            for study in studies
            for arch in study.archs
            if (title := titles.get((study.preset, study.data_source, arch)))
        ],
        "legend": compact.LEGEND,
        "verdicts": [_verdict(entry) for entry in ledger.entries(preset)],
        "verdicts_legend": ledger.LEGEND,
        "published": [_published(name) for name in dict.fromkeys(study.dataset for study in studies)],
        "published_legend": literature.LEGEND,
        "figures": [figure for each in FIGURES_SHOWN if (figure := _figure(studies, *each))],
        "provenance": _provenance(studies),
    }


def _made(study: Study) -> pd.DataFrame:
    return study.runs[~study.runs["status"].isin(WITHOUT_RESULT)]


def _study(study: Study) -> list[str]:
    """A row of the table of what was run."""
    made = _made(study)
    seeds = made.groupby("arch")["seed"].nunique()
    archs = [arch for arch in study.archs if arch in seeds]
    spread = " to ".join(dict.fromkeys([str(seeds.min()), str(seeds.max())]))
    lengths = ", ".join(sorted(set(made["duration"].dropna())))
    count = f"{len(made)} of {len(study.runs)}"
    return [study.preset, study.data_source, ", ".join(archs), str(made["method"].nunique()), spread, lengths, count]


def _network(study: Study, arch: str, title: str) -> dict[str, Any]:
    table = compact.compact(study, arch)
    rows = compact.cells(table[~compact.not_run(table)])
    groups = [
        {"heading": compact.GROUPS[group], "rows": [each for each in rows if each["group"] == group]}
        for group in dict.fromkeys(each["group"] for each in rows)
    ]
    return {"title": title, "about": compact.told_of(study, arch), "groups": groups}


def _verdict(entry: ledger.Entry) -> list[str]:
    return [entry.id, entry.claim.sentence, str(entry.verdict), entry.share]


def _published(dataset: str) -> dict[str, Any]:
    """Rows that tell how much was removed and what it cost, and the paper's own, which does not."""
    rows = literature.published(dataset)
    drop = pd.to_numeric(rows["pruned"], errors="coerce") - pd.to_numeric(rows["base"], errors="coerce")
    told = rows["change"].where(rows["change"] != "", drop.map(lambda value: "" if pd.isna(value) else f"{value:+.2f}"))
    rows = rows.assign(change=told.str.replace("-", "−"))[
        ["network", "method", "change", "macs_cut", "blocks_out", "tag"]
    ]
    comparable = (rows["change"] != "") & ~rows["macs_cut"].isin(["", "0"])
    rows = rows[comparable | rows["method"].str.startswith("this paper")]
    return {"dataset": dataset, "rows": rows.replace("", "–").to_numpy().tolist()}


def _figure(studies: list[Study], dataset: str, name: str) -> dict[str, Any] | None:
    """The figure of the first of these studies that has it."""
    for study in studies:
        if study.dataset == dataset and _has_values(study.preset, dataset, name):
            path = paths.figure(study.preset, dataset, name, "svg").relative_to(paths.root()).as_posix()
            caption = f"{FIGURES[name].TITLE}, {dataset}. {captions[name]}"
            return {"path": path, "caption": caption, "wide": name in WIDE}
    return None


def _has_values(preset: str, dataset: str, name: str) -> bool:
    """Was the figure drawn, and does it show anything?"""
    values = paths.figure(preset, dataset, name, "csv")
    return values.is_file() and len(values.read_text(encoding="utf-8").splitlines()) > 1


def _provenance(studies: list[Study]) -> dict[str, str]:
    """What the records say of code and machines, each value once."""
    runs = pd.concat([study.runs for study in studies], ignore_index=True)
    names = {"torch": "torch", "processors": "cpu", "devices": "device"}
    distinct = {name: ", ".join(sorted(set(runs[column].dropna()))) for name, column in names.items()}
    return distinct | {"commits": str(runs["commit"].nunique())}
