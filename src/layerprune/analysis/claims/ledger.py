"""The ledger of one preset: every claim with its numbers and its verdict, as CSV and Markdown.

results/<preset>/claims.csv has a row for each quantity, network and comparison, results/<preset>/claims.md a section
for each claim. Where runs are missing the ledger says so; it needs none.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from layerprune.analysis.claims import QUANTITIES
from layerprune.analysis.claims.verdicts import COLUMNS, Verdict, judge, of_claim, of_networks, report
from layerprune.analysis.figures import applies
from layerprune.analysis.frames import Study, read_study
from layerprune.errors import LayerpruneError
from layerprune.suite import config
from layerprune.suite.config import Claim
from layerprune.system import files, paths


@dataclass(frozen=True)
class Entry:
    """A claim with the rows that decide on it, those told beside, what each network says, and the verdict."""

    id: str
    claim: Claim
    rows: pd.DataFrame
    reported: pd.DataFrame
    networks: dict[tuple[str, str], Verdict]
    verdict: Verdict
    drawn: Collection[str] = ()
    """Data sets for which the preset plans what the claim's figure shows."""


def entries(preset_name: str, only: Collection[str] | None = None) -> list[Entry]:
    """Every claim of the rules, or those of these names, judged by the records of a preset.

    Raises LayerpruneError for a rule that bounds an unknown quantity.
    """
    rules = config.load_claims()
    _check_quantities(rules)
    studies = [read_study(preset_name, dataset, partial=True) for dataset in config.load_preset(preset_name).datasets]
    return [_entry(name, claim, studies) for name, claim in rules.items() if only is None or name in only]


def _check_quantities(rules: Mapping[str, Claim]) -> None:
    for name, claim in rules.items():
        named = [*(each.quantity for each in claim.conditions), *claim.reported]
        unknown = [quantity for quantity in named if quantity not in QUANTITIES]
        if unknown:
            raise LayerpruneError(
                f"{paths.claim_rules()}: {name}.conditions: unknown quantity '{unknown[0]}' "
                f"(known: {', '.join(QUANTITIES)})"
            )


def _entry(name: str, claim: Claim, studies: list[Study]) -> Entry:
    judged = [
        judge(condition, study.dataset, QUANTITIES[condition.quantity](study), claim.least_seeds)
        for condition in claim.conditions
        for study in studies
    ]
    beside = [
        report(quantity, study.dataset, QUANTITIES[quantity](study)) for quantity in claim.reported for study in studies
    ]
    rows = _together(judged)
    networks = of_networks(rows)
    drawn = [study.dataset for study in studies if claim.figure and applies(claim.figure, study)]
    return Entry(name, claim, rows, _together(beside), networks, of_claim(claim, networks), drawn)


def _together(frames: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [rows for rows in frames if len(rows)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=COLUMNS)


# --- as files -------------------------------------------------------------------------------------------------


def write(preset_name: str) -> list[Path]:
    """Write the ledger and return its paths."""
    texts = contents(preset_name)
    for path, text in texts.items():
        files.write_text(path, text)
    return list(texts)


def contents(preset_name: str) -> dict[Path, str]:
    """What the ledger's files hold by today's records."""
    judged = entries(preset_name)
    return {
        paths.claims(preset_name, "csv"): as_frame(judged).to_csv(index=False, lineterminator="\n"),
        paths.claims(preset_name, "md"): as_page(preset_name, judged),
    }


def as_frame(judged: list[Entry]) -> pd.DataFrame:
    """Every row of every claim, the claim's id and verdict first; a claim without an experiment has one empty row."""
    frames = []
    for entry in judged:
        rows = _together([entry.rows, entry.reported])
        rows = rows if len(rows) else pd.DataFrame([{"verdict": str(Verdict.NOT_RUN)}], columns=COLUMNS)
        frames.append(rows.assign(claim=entry.id, claim_verdict=str(entry.verdict)))
    return pd.concat([frame.astype(object) for frame in frames])[["claim", "claim_verdict", *COLUMNS]]


def as_page(preset_name: str, judged: list[Entry]) -> str:
    """A summary, then a section a claim: sentence, experiment, rule, numbers, and where they come from."""
    parts = [f"# Claims of the paper, preset {preset_name}", summary(judged), LEGEND]
    for entry in judged:
        parts += [f"## {entry.id}: {entry.verdict}", entry.claim.sentence, f"Experiment: {entry.claim.experiment}"]
        parts += [_rule(entry.claim), *_numbers(entry.rows)]
        if len(entry.reported):
            parts += ["Also measured, without deciding anything:", *_numbers(entry.reported)]
        parts += _links(preset_name, entry)
    return "\n\n".join(parts) + "\n"


def summary(judged: list[Entry]) -> str:
    """A Markdown table with one line a claim."""
    lines = ["| claim | | verdict | networks that support it |", "| :--- | :--- | :--- | ---: |"]
    for entry in judged:
        supporting = sum(each == Verdict.SUPPORTED for each in entry.networks.values())
        of = f"{supporting} of {len(entry.networks)}" if entry.verdict != Verdict.NOT_RUN else "–"
        lines.append(f"| {entry.id} | {entry.claim.sentence} | **{entry.verdict}** | {of} |")
    return "\n".join(lines)


def one_line_each(judged: list[Entry], ledger: str) -> str:
    """A list with a line per claim: verdict, sentence, and a link to its numbers in the ledger."""
    return "\n".join(_line(entry, ledger) for entry in judged)


def _line(entry: Entry, ledger: str) -> str:
    anchor = f"{entry.id}-{entry.verdict}".lower().replace(" ", "-")
    supporting = sum(each == Verdict.SUPPORTED for each in entry.networks.values())
    networks = f"holds on {supporting} of {len(entry.networks)} networks" if entry.networks else "no networks"
    return f"* [{entry.id}]({ledger}#{anchor}), **{entry.verdict}** ({networks}): {entry.claim.sentence}"


LEGEND = (
    "By the rules in `config/claims/rules.yaml`, a condition holds on a network if the whole 95 % bootstrap interval "
    "over seeds keeps its bound, fails if the whole interval breaks it, and is inconclusive otherwise. Comparisons "
    "between methods use a paired t test with Holm's correction over the comparisons of one network."
)


def _rule(claim: Claim) -> str:
    if not claim.conditions:
        return "Rule: none yet."
    conditions = ", ".join(f"`{condition}`" for condition in claim.conditions)
    return f"Rule: {conditions} on {claim.quorum:.0%} of the networks, with at least {claim.least_seeds} seeds."


def _numbers(rows: pd.DataFrame) -> list[str]:
    if rows.empty:
        return []
    lines = [
        "| quantity | network | against | n | mean [95 %] | p | |",
        "| :--- | :--- | :--- | ---: | ---: | ---: | :--- |",
    ]
    for row in rows.to_dict("records"):
        p = "" if math.isnan(row["p"]) else f"{row['p']:.2g}"
        network = f"{row['dataset']} {row['arch']}"
        cells = [f"`{row['bound']}`", network, row["against"], str(row["n"]), _mean(row), p, row["verdict"]]
        lines.append("| " + " | ".join(cells) + " |")
    return ["\n".join(lines)]


def _mean(row: dict) -> str:
    if row["n"] == 0:
        return "–"
    return f"{row['mean']:.3g}" + (
        "" if row["low"] == row["high"] or math.isnan(row["low"]) else f" [{row['low']:.3g}, {row['high']:.3g}]"
    )


def _links(preset_name: str, entry: Entry) -> list[str]:
    datasets = dict.fromkeys(dataset for dataset, _ in entry.networks)
    here = paths.claims(preset_name, "md").parent
    links = [f"[runs.csv]({dataset}/runs.csv)" for dataset in datasets]
    if entry.claim.figure:
        up = "/".join([".."] * (len(here.relative_to(paths.root()).parts)))
        links += [
            f"[{entry.claim.figure}]({up}/figures/{preset_name}/{each}/{entry.claim.figure}.svg)"
            for each in datasets
            if each in entry.drawn
        ]
    return [f"From: {', '.join(links)}"] if links else []
