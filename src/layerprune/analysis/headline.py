"""The front page's table: what gated training leaves of each network, and what that costs, in eight rows at most.

Which networks it shows is not a matter of taste: of those with two seeds or more of both dense and gated, every family
on every data set has one before any has two, and two before any has three; the first is the one with most seeds, of as
many seeds the deepest. LARGEST of them, in the order of the presets.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from layerprune.analysis import compact, statistics
from layerprune.analysis.frames import Study, read_study
from layerprune.analysis.selections import family_of
from layerprune.suite import config
from layerprune.system import files, paths

LARGEST = 8
FEWEST_SEEDS = 2
COLUMNS = ["network", "dense (%)", "gated (%)", "Δ [95 %]", "layers", "FLOPs removed", "training FLOPs", "seeds"]
LEGEND = (
    "Test accuracy, mean over the seeds that dense and gated share (of each family the networks with the most such "
    "seeds, then the deepest). Δ: gated minus dense in points, with a 95 % bootstrap interval, which is too narrow for "
    "few seeds. Layers: weight layers on the longest path, before and after. Channels: of the first stage, where they "
    "are not the published ones; epochs, where a network has been trained for two lengths. FLOPs: multiply-adds; "
    "training FLOPs: as a multiple of dense training."
)


def rows(studies: Iterable[Study]) -> pd.DataFrame:
    """A row per network that enters the table: numbers as in `compact.compact`, and its preset, data and arch."""
    frames = [_of_network(study, arch) for study in studies for arch in study.archs]
    found = [frame for frame in frames if len(frame)]
    if not found:
        return pd.DataFrame(columns=["preset", "data", "arch"])
    table = pd.concat(found, ignore_index=True)
    ranked = table.sort_values(["n", "depth_dense"], ascending=False, kind="stable")
    turns = ranked.groupby([ranked["data"], ranked["arch"].map(family_of)]).cumcount()
    ranked = ranked.assign(turn=turns).sort_values(["turn", "depth_dense"], ascending=[True, False], kind="stable")
    return table.loc[sorted(ranked.index[:LARGEST])].reset_index(drop=True)


def _of_network(study: Study, arch: str) -> pd.DataFrame:
    """Gated's row with dense's accuracy beside it, over the seeds that both have; none where they are too few."""
    runs = study.runs[statistics.counted(study.runs) & (study.runs["arch"] == arch)]
    runs = runs[(runs["variant"] == "default") & runs["method"].isin(["dense", "gated"])]
    paired = runs[runs.groupby("seed")["method"].transform("nunique") == 2]
    if paired["seed"].nunique() < FEWEST_SEEDS:
        return pd.DataFrame()
    table = compact.compact(Study(study.preset, study.dataset, paired), arch).set_index("group")
    row = table.loc[["ours"]].assign(preset=study.preset, data=study.data_source, arch=arch)
    row = row.assign(dense=table.loc["dense", "accuracy_mean"])
    row = row.assign(width=paired["width"].max(), duration=paired["duration"].iloc[0])
    return row.reset_index(drop=True)


def write(preset_name: str) -> list[Path]:
    """Write results/<preset>/headline.csv, which the report shows, and return its path."""
    path = paths.headline(preset_name)
    files.write_text(path, cells(rows(studies_behind(preset_name))).to_csv(index=False, lineterminator="\n"))
    return [path]


def studies_behind(preset_name: str) -> list[Study]:
    """Every data set of the preset and the studies that its claims are judged by, too; gaps allowed."""
    beside = config.evidence(config.load_preset(preset_name))
    return studies_of(preset_name) + [read_study(name, dataset, partial=True) for name, dataset in beside]


def studies_of(*presets: str) -> list[Study]:
    """Every data set of the presets, gaps allowed."""
    return [
        read_study(name, dataset, partial=True) for name in presets for dataset in config.load_preset(name).datasets
    ]


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """The rows as text, by COLUMNS."""
    twice = table.duplicated(["data", "arch", "width"], keep=False)
    return pd.DataFrame([_cells(row, twice[place]) for place, row in table.iterrows()], columns=COLUMNS)


def markdown(table: pd.DataFrame) -> str:
    """The rows as a Markdown table."""
    lines = [COLUMNS, [":---"] + ["---:"] * (len(COLUMNS) - 1), *cells(table).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(row: pd.Series, with_length: bool) -> list[str]:
    told = [] if pd.isna(row["width"]) else [f"{row['width']:.0f} channels"]
    told += [row["duration"].replace("ep", " epochs").replace("it", " steps")] if with_length else []
    beside = f" ({', '.join(told)})" if told else ""
    return [
        f"{row['arch'].removeprefix('imagenet-')}{beside}, {row['data']}",
        f"{100 * row['dense']:.2f}",
        f"{100 * row['accuracy_mean']:.2f}",
        compact.difference(row),
        f"{compact.number(row['depth_dense'])} → {compact.number(row['depth'])}",
        f"{compact.number(100 * row['flops_removed'], 0)} %",
        f"× {compact.number(row['train_cost'], 2)}",
        str(row["n"]),
    ]
