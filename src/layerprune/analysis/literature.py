"""What the literature says: numbers that authors published, and what it lets one expect of a CIFAR ResNet's record.

Published numbers have a table of their own, never mixed with what was measured here: published.csv has accuracies
in per cent, changes in points (negative: accuracy fell), cuts of MACs and parameters in per cent of the unpruned
network. Of records, counts are exact: parameters and multiply-adds of the whole network in closed form (METHODS 1.1).
Patterns are qualitative, published for ResNet-56 after hundreds of epochs (METHODS M2, M5, M6): a record that shows
another one is worth a look and no error.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files as package_files
from typing import Any

import pandas as pd

from layerprune.analysis.compact import latex_table, latex_text
from layerprune.core.settings import ModelSettings
from layerprune.suite.record import Record

TAGS = {
    "R": "read in the authors' own repository, slides, README or abstract",
    "R3": "read in a third party's table or code",
    "M": "from memory, unverified",
    "?": "not found",
}
COLUMNS = {
    "network": "network",
    "method": "method",
    "base": "unpruned (%)",
    "pruned": "pruned (%)",
    "change": "change (points)",
    "macs_cut": "FLOPs removed (%)",
    "params_cut": "parameters removed (%)",
    "blocks_out": "blocks removed",
    "tag": "tag",
    "source": "source",
}


def published(dataset: str) -> pd.DataFrame:
    """The published rows of a data set as text, empty where nothing is stated; no rows for a data set without any."""
    path = package_files("layerprune.analysis").joinpath("published.csv")
    with path.open(encoding="utf-8") as stream:
        rows = pd.read_csv(stream, dtype=str, keep_default_na=False)
    return rows[rows["dataset"] == dataset].drop(columns="dataset").reset_index(drop=True)


LEGEND = (
    "None of these numbers was measured here: recipes and baselines differ, and many are the best epoch on the test "
    "set. Compare the drop and the FLOPs removed, not the accuracies. Tags: "
    + "; ".join(f"{tag}: {meaning}" for tag, meaning in TAGS.items())
    + ". [D] in a source: derived by counting; [M]: from memory."
)
SOURCES = " The CSV of this table names the source of every row."


def markdown(rows: pd.DataFrame) -> str:
    """The rows by network, and what the tags mean."""
    shown = rows.rename(columns=COLUMNS)
    lines = [list(shown.columns), [":---", ":---", *["---:"] * 6, ":---", ":---"], *shown.to_numpy().tolist()]
    table = "\n".join("| " + " | ".join(cell or "–" for cell in line) + " |" for line in lines)
    return f"{table}\n\n{LEGEND}"


def published_page(dataset: str, rows: pd.DataFrame) -> str:
    """The rows as a page of their own."""
    return f"# {dataset}: published numbers\n\n{markdown(rows)}\n"


def published_latex(dataset: str, rows: pd.DataFrame) -> str:
    """The rows as a table for \\input, never mixed with measured ones; needs booktabs and graphicx."""
    names = ["network", "method", "base", "pruned", "change", "macs_cut", "params_cut", "blocks_out", "tag"]
    heads = ["network", "method", "dense", "pruned", r"$\Delta$", "FLOPs", "params", "blocks", "tag"]
    body = [
        " & ".join(latex_text(cell.replace("-", "−", 1) if cell[:1] == "-" else cell or "–") for cell in line)
        for line in rows[names].to_numpy().tolist()
    ]
    caption = f"Published numbers, {dataset}: accuracies in %, change in points, FLOPs and parameters removed in %."
    lines = [" & ".join(heads) + r" \\", r"\midrule", *(f"{line} \\\\" for line in body)]
    return latex_table(caption, f"tab:published-{dataset}", "p{17mm}p{25mm}rrrrrll", lines, LEGEND + SOURCES)


# --- what records should show ---------------------------------------------------------------------------------

DATASETS = ("cifar10", "cifar100")
FEWEST_GONE = 3
"""Removals from which on a pattern over stages can be seen."""
STEADY = 0.01
"""By how much a probe's accuracy may fall from one section to the next and still count as rising."""
MOSTLY = 0.8
"""Share of the sections at which a probe's accuracy must rise."""


@dataclass(frozen=True)
class CifarResNet:
    """The form of a CIFAR ResNet: sections a stage, channels of its first stage, classes."""

    sections: int
    width: int
    classes: int

    def macs(self) -> int:
        """Multiply-adds of one 32x32 image, shortcuts of option A. A section that keeps its shape costs 18 width^2 on
        32x32 places in every stage; one that halves the size three quarters of that."""
        same = 18 * self.width**2 * 1024
        whole_sections = 3 * self.sections - 2
        return 27 * self.width * 1024 + same * whole_sections + 2 * same * 3 // 4 + 4 * self.width * self.classes

    def params(self) -> int:
        """Weights, offsets, and scales and offsets of batch normalisation."""
        total = 27 * self.width + 2 * self.width
        for stage, channels in enumerate([self.width, 2 * self.width, 4 * self.width]):
            before = channels if stage == 0 else channels // 2
            total += 9 * before * channels + 9 * channels**2 + 4 * channels
            total += (self.sections - 1) * (18 * channels**2 + 4 * channels)
        return total + 4 * self.width * self.classes + self.classes


def wrong_counts(run: Record) -> Iterator[str]:
    """Where the whole network's counts are not those of the closed form; nothing for other networks."""
    form = _form(run)
    if form is None or _model(run)["shortcut"] != "a":
        return
    for name, expected in (("macs_dense", form.macs()), ("params_dense", form.params())):
        found = getattr(run, name)
        if found != expected:
            yield f"{name} {found}, by the closed form of {run.arch} with width {form.width} {expected}"


def unlike_published(run: Record) -> Iterator[str]:
    """Patterns of the literature that the record does not show; nothing where none is known or none can be seen."""
    pattern = _PATTERNS.get(run.method)
    if pattern is not None and _form(run) is not None:
        yield from pattern(run, _stages(run))


def _form(run: Record) -> CifarResNet | None:
    family, _, number = run.arch.rpartition("-")
    if run.dataset not in DATASETS or family != "resnet" or "model" not in run.provenance.config:
        return None
    width = _model(run)["width"] or 16
    return CifarResNet((int(number) - 2) // 6, width, 100 if run.dataset == "cifar100" else 10)


def _model(run: Record) -> dict[str, Any]:
    """The network's settings; what records of before say nothing of has its default."""
    return ModelSettings().model_dump() | run.provenance.config["model"]


def _stages(run: Record) -> list[int]:
    """The stage, 0 to 2, of each removable section."""
    sections = _form(run).sections
    first = 1 if _model(run)["removable"] == "shape-preserving" else 0
    stages = [stage for stage in range(3) for _ in range(sections - (first if stage else 0))]
    return stages if len(stages) == len(run.keep) else []


def _middle_first_last_stage_last(run: Record, stages: list[int]) -> Iterator[str]:
    """CKA, one section at a time: the middle stage is the first to lose a section, the last stage the last."""
    if "scores_by_round" not in run.details or run.keep.count(0) < FEWEST_GONE:
        return
    steps: list[list[int]] = [[], [], []]
    for stage, step in zip(stages, run.removed_step, strict=False):
        if step is not None:
            steps[stage].append(step)
    order = sorted(range(3), key=lambda stage: min(steps[stage], default=run.steps_total + 1))
    if order[0] != 1 or order[-1] != 2:
        named = ", ".join(str(stage + 1) for stage in order)
        yield f"stages lose their first section in the order {named}; published: 2 first, 3 last"


def _mostly_rising(run: Record, stages: list[int]) -> Iterator[str]:
    """Probes: accuracy rises, nearly from section to section, from the stem to the last."""
    gains = run.details.get("scores", [])
    rising = sum(gain >= -STEADY for gain in gains)
    if gains and rising < MOSTLY * len(gains):
        yield f"probe accuracy rises at {rising} of {len(gains)} sections; published: nearly at all"


def _last_stage_goes_most(run: Record, stages: list[int]) -> Iterator[str]:
    """SR-init: most removed sections are in the last stage."""
    gone = [stage for stage, stays in zip(stages, run.keep, strict=False) if not stays]
    by_stage = [gone.count(stage) for stage in range(3)]
    if len(gone) >= FEWEST_GONE and by_stage[2] < max(by_stage):
        yield f"{by_stage[0]}, {by_stage[1]}, {by_stage[2]} sections of stages 1, 2, 3 go; published: most of stage 3"


_PATTERNS: dict[str, Callable[[Record, list[int]], Iterator[str]]] = {
    "cka": _middle_first_last_stage_last,
    "linear-probes": _mostly_rising,
    "dbp": _mostly_rising,
    "sr-init": _last_stage_goes_most,
}
