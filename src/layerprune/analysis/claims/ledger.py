"""The ledger of one preset: every claim with its numbers and its verdict, as CSV and Markdown.

results/<preset>/claims.csv has a row for each quantity, network and comparison, results/<preset>/claims.md a section
for each claim. Where runs are missing the ledger says so; it needs none. Networks of the preset's `evidence`, other
presets, count as far as they have run.
"""

import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from layerprune.analysis.claims import QUANTITIES
from layerprune.analysis.claims.sample import Sample
from layerprune.analysis.claims.verdicts import COLUMNS, Verdict, judge, of_networks, of_rule, report
from layerprune.analysis.figures import applies
from layerprune.analysis.frames import Study, read_study
from layerprune.errors import LayerpruneError
from layerprune.suite import config
from layerprune.suite.config import Claim, Rule
from layerprune.system import files, paths

Measured = Callable[[str, str], list[Sample]]
"""Of a quantity, in the study of a label."""


@dataclass(frozen=True)
class Judgement:
    """What a rule makes of the records: the rows that decide, what each network says, and the verdict."""

    rows: pd.DataFrame
    networks: dict[tuple[str, str], Verdict]
    verdict: Verdict

    @property
    def share(self) -> str:
        """How many networks support the claim, such as `9 of 12`."""
        supporting = sum(each == Verdict.SUPPORTED for each in self.networks.values())
        return f"{supporting} of {len(self.networks)}"


@dataclass(frozen=True)
class Entry(Judgement):
    """A claim judged by today's rule, by its other readings, and by the rules that it had before, the oldest first."""

    id: str
    claim: Claim
    also: dict[str, Judgement]
    before: list[Judgement]
    reported: pd.DataFrame
    studies: Mapping[str, Study]
    """Those that were judged, by the name that rows give to the data set."""
    drawn: Collection[str]
    """Those of them that plan what the claim's figure shows."""


def entries(preset_name: str, only: Collection[str] | None = None) -> list[Entry]:
    """Every claim of the rules, or those of these names, judged by the records of a preset.

    Raises LayerpruneError for a rule that bounds an unknown quantity.
    """
    rules = config.load_claims()
    _check_quantities(rules)
    studies = studies_of(preset_name)

    @cache  # former rules ask for much that today's do
    def measured(quantity: str, label: str) -> list[Sample]:
        return QUANTITIES[quantity](studies[label])

    return [_entry(name, claim, studies, measured) for name, claim in rules.items() if only is None or name in only]


def studies_of(preset_name: str) -> dict[str, Study]:
    """The preset's studies by data set, then those of its evidence by data set and preset."""
    preset = config.load_preset(preset_name)
    own = {dataset: read_study(preset_name, dataset, partial=True) for dataset in preset.datasets}
    beside = {
        f"{dataset} ({other})": read_study(other, dataset, partial=True) for other, dataset in config.evidence(preset)
    }
    return own | beside


def _check_quantities(rules: Mapping[str, Claim]) -> None:
    for name, claim in rules.items():
        named = [each.quantity for rule in rules_of(claim) for each in rule.conditions]
        unknown = [quantity for quantity in [*named, *claim.reported] if quantity not in QUANTITIES]
        if unknown:
            raise LayerpruneError(
                f"{paths.claim_rules()}: {name}.conditions: unknown quantity '{unknown[0]}' "
                f"(known: {', '.join(QUANTITIES)})"
            )


def rules_of(claim: Claim) -> list[Rule]:
    """Today's rule, other readings, former rules."""
    return [claim, *claim.also.values(), *(change.before for change in claim.changes)]


def _entry(name: str, claim: Claim, studies: Mapping[str, Study], measured: Measured) -> Entry:
    beside = [report(quantity, label, measured(quantity, label)) for quantity in claim.reported for label in studies]
    return Entry(
        **vars(_judged(claim, studies, measured)),
        id=name,
        claim=claim,
        also={reading: _judged(rule, studies, measured) for reading, rule in claim.also.items()},
        before=[_judged(change.before, studies, measured) for change in claim.changes],
        reported=_told(_together(beside), studies),
        studies=studies,
        drawn=[label for label, study in studies.items() if claim.figure and applies(claim.figure, study)],
    )


def _judged(rule: Rule, studies: Mapping[str, Study], measured: Measured) -> Judgement:
    judged = [
        judge(condition, label, measured(condition.quantity, label), rule.least_seeds)
        for condition in rule.conditions
        for label in studies
    ]
    rows = _without_unmade_evidence(_together(judged), studies)
    networks = of_networks(rows)
    return Judgement(rows, networks, of_rule(rule, networks))


def _without_unmade_evidence(rows: pd.DataFrame, studies: Mapping[str, Study]) -> pd.DataFrame:
    """Without the networks of other presets of which nothing that a rule asks for has been made."""
    unmade = [network for network, verdict in of_networks(rows).items() if verdict == Verdict.NOT_RUN]
    nothing = pd.MultiIndex.from_frame(rows[["dataset", "arch"]]).isin(unmade)
    return rows[~(nothing & _is_evidence(rows, studies))].reset_index(drop=True)


def _told(rows: pd.DataFrame, studies: Mapping[str, Study]) -> pd.DataFrame:
    """Without quantities of other presets' networks for which there is no run."""
    return rows[(rows["n"] > 0) | ~_is_evidence(rows, studies)].reset_index(drop=True)


def _is_evidence(rows: pd.DataFrame, studies: Mapping[str, Study]) -> pd.Series:
    """Rows of other presets: their labels are no data sets'."""
    return rows["dataset"].map(lambda label: studies[label].dataset != label).astype(bool)


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
    """Every row of every claim, the claim's id, verdict and former verdict first; the latter is empty where the rule
    never changed. A claim without an experiment has one empty row."""
    frames = []
    for entry in judged:
        rows = _together([entry.rows, *(reading.rows for reading in entry.also.values()), entry.reported])
        rows = rows if len(rows) else pd.DataFrame([{"verdict": str(Verdict.NOT_RUN)}], columns=COLUMNS)
        told = {"claim": entry.id, "claim_verdict": str(entry.verdict), "claim_before": _before(entry)}
        frames.append(rows.assign(**told))
    return pd.concat([frame.astype(object) for frame in frames])[["claim", "claim_verdict", "claim_before", *COLUMNS]]


def as_page(preset_name: str, judged: list[Entry]) -> str:
    """A summary, then a section a claim: sentence, experiment, rule, numbers, and where they come from."""
    warning = [] if config.load_preset(preset_name).decides else [DECIDES_NOTHING]
    parts = [f"# Claims of the paper, preset {preset_name}", *warning, summary(judged), LEGEND]
    for entry in judged:
        parts += [f"## {entry.id}: {entry.verdict}", entry.claim.sentence, f"Experiment: {entry.claim.experiment}"]
        parts += [_rule(entry.claim, entry), *_changes(entry), *_numbers(entry.rows)]
        for reading, found in entry.also.items():
            parts += [f"### {reading.capitalize()}: {found.verdict}", _rule(entry.claim.also[reading], found)]
            parts += _numbers(found.rows)
        if len(entry.reported):
            parts += ["Also measured, without deciding anything:", *_numbers(entry.reported)]
        parts += _links(preset_name, entry)
    return "\n\n".join(parts) + "\n"


def summary(judged: list[Entry]) -> str:
    """A Markdown table with a line a claim, and one for each of its other readings."""
    lines = [
        "| claim | | verdict | networks that support it | before the rule changed |",
        "| :--- | :--- | :--- | ---: | :--- |",
    ]
    for entry in judged:
        lines.append(_summary_line(entry.id, entry.claim.sentence, entry, _before(entry)))
        lines += [_summary_line(entry.id, f"{name}.", found, "") for name, found in entry.also.items()]
    return "\n".join(lines)


def _summary_line(name: str, sentence: str, found: Judgement, before: str) -> str:
    of = found.share if found.verdict != Verdict.NOT_RUN else "–"
    return f"| {name} | {sentence[0].upper()}{sentence[1:]} | **{found.verdict}** | {of} | {before} |"


def _before(entry: Entry) -> str:
    """The verdict by the rule before the last change."""
    return str(entry.before[-1].verdict) if entry.before else ""


def one_line_each(judged: list[Entry], ledger: str) -> str:
    """A list with a line per claim: verdict, sentence, and a link to its numbers in the ledger."""
    return "\n".join(_line(entry, ledger) for entry in judged)


def _line(entry: Entry, ledger: str) -> str:
    anchor = f"{entry.id}-{entry.verdict}".lower().replace(" ", "-")
    told = [f"holds on {entry.share} networks" if entry.networks else "no networks"]
    told += [f"{name} on {found.share}" for name, found in entry.also.items()]
    told += [f"by the former rule {_before(entry)}"] if _before(entry) not in ("", entry.verdict) else []
    return f"* [{entry.id}]({ledger}#{anchor}), **{entry.verdict}** ({'; '.join(told)}): {entry.claim.sentence}"


DECIDES_NOTHING = (
    "**This preset decides nothing.** Its networks and data are too small, its trainings too short and its seeds too "
    "few: it shows that everything works, and the verdicts below show how the ledger is made."
)
LEGEND = (
    "By the rules in `config/claims/rules.yaml`, a condition holds on a network if the whole 95 % interval over seeds "
    "keeps its bound, fails if the whole interval breaks it, and is inconclusive otherwise. Intervals of means are "
    "Student's, wider than the bootstrap intervals of tables and figures; where all seeds agree they have no width. "
    "Shares of thetas that are undecided, and of sections that left too early or came back, are of all seeds' "
    "sections, with the exact interval of a share. Comparisons between methods use a paired t test, or a sign test "
    "where all differences are equal, with Holm's correction over the comparisons of one network under one condition."
)


def _rule(rule: Rule, found: Judgement) -> str:
    if not rule.conditions:
        return "Rule: none yet."
    conditions = ", ".join(f"`{each}` ({_holds_on(str(each), found.rows)})" for each in rule.conditions)
    return f"Rule: on {rule.quorum:.0%} of the networks, with at least {rule.least_seeds} seeds: {conditions}."


def _holds_on(bound: str, rows: pd.DataFrame) -> str:
    found = of_networks(rows[rows["bound"] == bound])
    return f"holds on {sum(each == Verdict.SUPPORTED for each in found.values())} of {len(found)}"


def _changes(entry: Entry) -> list[str]:
    return [
        f"Changed on {change.date}, before: {found.verdict}, {found.share} networks, by "
        f"{', '.join(f'`{each}`' for each in change.before.conditions)}. {change.reason}"
        for change, found in zip(entry.claim.changes, entry.before, strict=True)
    ]


ROUNDING = 1e-15
"""Smaller numbers are differences that cancel."""
_LEFT, _RIGHT = ":---", "---:"
_COLUMNS = {"quantity": _LEFT, "network": _LEFT, "against": _LEFT, "n": _RIGHT, "mean [95 %]": _RIGHT, "p": _RIGHT}
_COLUMNS |= {"verdict": _LEFT}
"""Columns of the tables of numbers, with their sides; one without an entry is left out."""


def _numbers(rows: pd.DataFrame) -> list[str]:
    if rows.empty:
        return []
    cells = pd.DataFrame([_cells(row) for row in rows.to_dict("records")], columns=list(_COLUMNS))
    told = cells.loc[:, (cells != "").any()]
    lines = [list(told), [_COLUMNS[name] for name in told], *told.to_numpy().tolist()]
    return ["\n".join("| " + " | ".join(line) + " |" for line in lines)]


def _cells(row: dict) -> list[str]:
    p = "" if math.isnan(row["p"]) else f"{row['p']:.2g}"
    network = f"{row['dataset']} {row['arch']}"
    return [f"`{row['bound']}`", network, row["against"], str(row["n"]), _mean(row), p, row["verdict"]]


def _mean(row: dict) -> str:
    if math.isnan(row["mean"]):
        return "–"
    mean, low, high = (_number(row[name]) for name in ("mean", "low", "high"))
    return mean if row["low"] == row["high"] or math.isnan(row["low"]) else f"{mean} [{low}, {high}]"


def _number(value: float) -> str:
    return "0" if abs(value) < ROUNDING else f"{value:.3g}"


def _links(preset_name: str, entry: Entry) -> list[str]:
    """Where the numbers come from, by data set: its runs, and the claim's figure if it is drawn."""
    here = paths.claims(preset_name, "md").parent
    told = []
    for label in dict.fromkeys(label for label, _ in entry.networks):
        found = [_runs_of(entry.studies[label]), *_figure_of(preset_name, entry, label)]
        links = [f"[{name}]({Path(os.path.relpath(target, here)).as_posix()})" for name, target in found]
        told.append(f"{label}: {', '.join(links)}")
    return [f"From {'; '.join(told)}"] if told else []


def _runs_of(study: Study) -> tuple[str, Path]:
    table = paths.runs_table(study.preset, study.dataset)
    return table.name, table


def _figure_of(preset_name: str, entry: Entry, label: str) -> list[tuple[str, Path]]:
    """The figures of the preset itself are drawn along with its ledger; those of its evidence may not be there."""
    study, figure = entry.studies[label], entry.claim.figure
    if not figure or label not in entry.drawn:
        return []
    picture = paths.figure(study.preset, study.dataset, figure, "svg")
    return [(figure, picture)] if study.preset == preset_name or picture.is_file() else []
