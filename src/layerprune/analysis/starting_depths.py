"""Networks of one family that start with different numbers of sections, and who chooses a depth (claim C6)."""

import re
from collections.abc import Iterator

import pandas as pd

RIVALS = ("sss", "hard-concrete", "gal", "epsilon-resnet")
"""Other methods that choose their depth themselves."""


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


def _sizes(runs: pd.DataFrame) -> dict[str, float]:
    told = runs.groupby("arch", sort=False)["sections_total"].max().to_dict()
    return {arch: _number_in_the_name(arch) if pd.isna(size) else size for arch, size in told.items()}


def _number_in_the_name(arch: str) -> float:
    """Where no run has told: an mlp-residual's name does."""
    named = re.fullmatch(r"mlp-residual-(\d+)", arch)
    return float(named[1]) if named else float("nan")
