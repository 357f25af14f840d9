"""What the article of a preset says, all of it from records: workflow/report/article.typ sets it as a PDF.

The article has the headline, one table per network of the headline, the verdicts, published numbers apart from
measured ones, and six figures at most, of those that show something.
"""

from typing import Any

import pandas as pd

from layerprune.analysis import compact, headline, literature
from layerprune.analysis.claims import ledger
from layerprune.analysis.figures import FIGURES, captions
from layerprune.analysis.frames import Study
from layerprune.errors import LayerpruneError
from layerprune.system import paths

FIGURES_SHOWN = (
    ("mnist", "depth-vs-start"),
    ("mnist", "accuracy-vs-training-macs"),
    ("mnist", "random-removal"),
    ("imagenet", "random-removal"),
    ("mnist", "estimators"),
    ("cifar10", "depth-vs-start"),
)
"""Data set and name, in the order of the article; those that the preset lacks are left out."""
WIDE = {"accuracy-vs-training-macs", "estimators"}
"""Figures of three panels in a row, which take the width of the page; the others stand two in a row."""


def contents(preset: str) -> dict[str, Any]:
    """Text and paths, ready for JSON; paths are relative to the repository. Missing runs show as gaps.

    Raises LayerpruneError if no run of the preset has a record.
    """
    studies = headline.studies_of(preset)
    if all((study.runs["status"] == "missing").all() for study in studies):
        raise LayerpruneError(f"preset {preset} has no results yet; run: make reproduce PRESET={preset}")
    table = headline.rows(studies)
    shown = set(table["arch"])
    return {
        "preset": preset,
        "headline": {"columns": headline.COLUMNS, "rows": headline.cells(table).to_numpy().tolist()},
        "headline_legend": headline.LEGEND,
        "studies": [_study(study) for study in studies],
        "networks": [_network(study, arch) for study in studies for arch in study.archs if arch in shown],
        "legend": compact.LEGEND,
        "verdicts": [_verdict(entry) for entry in ledger.entries(preset)],
        "verdicts_legend": ledger.LEGEND,
        "published": [_published(study.dataset) for study in studies if len(literature.published(study.dataset))],
        "published_legend": literature.LEGEND,
        "figures": [_figure(preset, *each) for each in FIGURES_SHOWN if _has_values(preset, *each)],
        "provenance": _provenance(studies),
    }


def _study(study: Study) -> list[str]:
    """A row of the table of what was run."""
    ran = study.runs[study.runs["status"] != "missing"]
    seeds = ran.groupby("arch")["seed"].nunique()
    lengths = ", ".join(sorted(set(ran["duration"].dropna())))
    spread = " to ".join(dict.fromkeys([str(seeds.min()), str(seeds.max())])) if len(seeds) else "–"
    methods = len(set(ran["method"]))
    return [
        study.data_source,
        ", ".join(study.archs),
        str(methods),
        spread,
        lengths,
        f"{len(ran)} of {len(study.runs)}",
    ]


def _network(study: Study, arch: str) -> dict[str, Any]:
    rows = compact.cells(compact.compact(study, arch))
    groups = [
        {"heading": compact.GROUPS[group], "rows": [each for each in rows if each["group"] == group]}
        for group in dict.fromkeys(each["group"] for each in rows)
    ]
    return {"title": f"{arch}, {study.data_source}", "about": compact.told_of(study, arch), "groups": groups}


def _verdict(entry: ledger.Entry) -> list[str]:
    return [entry.id, entry.claim.sentence, str(entry.verdict), entry.share]


def _published(dataset: str) -> dict[str, Any]:
    """Rows that tell how much was removed and what it cost, and the paper's own, which does not."""
    rows = literature.published(dataset)
    drop = pd.to_numeric(rows["pruned"], errors="coerce") - pd.to_numeric(rows["base"], errors="coerce")
    told = rows["change"].where(rows["change"] != "", drop.map(lambda value: "" if pd.isna(value) else f"{value:+.2f}"))
    rows = rows.assign(change=told)[["network", "method", "change", "macs_cut", "blocks_out", "tag"]]
    comparable = (rows["change"] != "") & ~rows["macs_cut"].isin(["", "0"])
    rows = rows[comparable | rows["method"].str.startswith("this paper")]
    return {"dataset": dataset, "rows": rows.replace("", "–").to_numpy().tolist()}


def _figure(preset: str, dataset: str, name: str) -> dict[str, Any]:
    path = paths.figure(preset, dataset, name, "svg").relative_to(paths.root()).as_posix()
    return {"path": path, "caption": f"{FIGURES[name].TITLE}, {dataset}. {captions[name]}", "wide": name in WIDE}


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
