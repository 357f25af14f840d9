"""What several figures and claims choose from a study alike: records of its experiments, families of networks, and the
methods that stand out."""

import math
import re
from collections.abc import Iterator

import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.frames import WITH_RESULT, Study
from layerprune.core import methods
from layerprune.suite import store
from layerprune.suite.record import Record

RANDOM_REMOVAL = "random-removal"
DEVIATIONS = 3
"""So many standard deviations above guessing a network's accuracy must lie to count as better than that."""
RIVALS = ("sss", "hard-concrete", "gal", "epsilon-resnet")
"""Other methods that choose their depth themselves."""


# --- experiments, which are in none of a study's tables -------------------------------------------------------------


def archs_with_experiment(study: Study, name: str) -> list[str]:
    """Architectures on which an experiment is planned, in the order of the study."""
    return list(dict.fromkeys(key.arch for key in study.experiments if key.method == name))


def experiment_records(study: Study, name: str) -> Iterator[Record]:
    """The records that there are of an experiment with its default settings, if it came to an end."""
    for key in study.experiments:
        if key.method == name and key.variant == "default" and store.exists(key):
            found = store.find(key)
            if found.status in WITH_RESULT:
                yield found


def better_than_guessing(found: Record) -> float:
    """The accuracy above which a network does not merely guess between equally frequent classes."""
    chance, images = 1 / found.details["classes"], found.details["images"]
    return chance + DEVIATIONS * math.sqrt(chance * (1 - chance) / images)


# --- networks that start with different numbers of sections ---------------------------------------------------------


def families(runs: pd.DataFrame, method: str = "gated") -> Iterator[tuple[str, dict[str, float]]]:
    """Families such as mlp-residual: architectures whose slugs differ in a number alone and which a method prunes
    with one setting of its price; of each the architectures and the removable sections that they start with.

    An architecture of which no run says how many those are is left out.
    """
    sizes = {arch: size for arch, size in _sizes(runs).items() if pd.notna(size)}
    main = runs[(runs["method"] == method) & (runs["variant"] == "default") & runs["arch"].isin(sizes)]
    found: dict[tuple[str, str], dict[str, float]] = {}
    for arch, price in dict(zip(main["arch"], main["nu"], strict=True)).items():
        if named := re.fullmatch(r"(.+)-(\d+)", arch):
            found.setdefault((named[1], str(price)), {})[arch] = sizes[arch]
    for (family, _), members in found.items():
        if len(members) > 1:
            yield family, members


def family_of(arch: str) -> str:
    """Networks that differ in their depth alone: mlp-residual of mlp-residual-20."""
    named = re.fullmatch(r"(.*[a-z])-(\d+)", arch)
    return named[1] if named else arch


def _sizes(runs: pd.DataFrame) -> dict[str, float]:
    told = runs.groupby("arch", sort=False)["sections_total"].max().to_dict()
    return {arch: _number_in_the_name(arch) if pd.isna(size) else size for arch, size in told.items()}


def _number_in_the_name(arch: str) -> float:
    """Where no run has told: an mlp-residual's name does."""
    named = re.fullmatch(r"mlp-residual-(\d+)", arch)
    return float(named[1]) if named else float("nan")


# --- what stands out in a figure ------------------------------------------------------------------------------------

FAMILIES_OF_RIVALS = ("trained", "scores")
"""Methods that prune while they train, and those that prune a trained network."""


def standing_out(runs: pd.DataFrame) -> dict[str, list[str]]:
    """Of each architecture the methods that stand out in a figure: dense, gated, and of each family of rivals the one
    that is most accurate with its default settings among those that removed sections."""
    used = runs[statistics.counted(runs) & (runs["variant"] == "default")]
    means = used.groupby(["arch", "method"], sort=False)[["test_accuracy", "sections_left", "sections_total"]].mean()
    means = means[means["sections_left"] < means["sections_total"]].reset_index()
    means = means[~means["method"].isin(["dense", "gated"])]
    means["family"] = means["method"].map(methods.families())
    return {arch: ["dense", "gated", *_best(means[means["arch"] == arch])] for arch in dict.fromkeys(runs["arch"])}


def _best(means: pd.DataFrame) -> Iterator[str]:
    for family in FAMILIES_OF_RIVALS:
        rows = means[means["family"] == family]
        if len(rows):
            yield rows.loc[rows["test_accuracy"].idxmax(), "method"]
