"""How far methods agree on which sections to remove."""

import pandas as pd
from scipy import stats

from layerprune.analysis.frames import Study
from layerprune.analysis.prepare.survivors import survivors


def agreement(study: Study) -> pd.DataFrame:
    """Kendall's tau-b between the removal frequencies of every two methods of an architecture, both ways round.

    A method's frequency of a section is the share of its n seeds that removed it; the methods are those of
    prepare.survivors. `tau` is NaN where it is undefined: a method removes every section equally often (none, all),
    or has no result (n = 0). Architectures with fewer than two such methods are left out.
    """
    groups = survivors(study).groupby("arch", sort=False)
    rows = [row for arch, runs in groups if runs["method"].nunique() > 1 for row in _pairs(arch, runs)]
    return pd.DataFrame(rows, columns=["arch", "sections", "method", "other", "n", "tau"])


def _pairs(arch: str, runs: pd.DataFrame) -> list[dict]:
    known = runs.dropna(subset="keep").astype({"keep": float})
    removed = 1 - known.pivot_table(index="section", columns="method", values="keep", aggfunc="mean")
    seeds = known.groupby("method")["seed"].nunique()
    names = list(dict.fromkeys(runs["method"]))
    return [
        {"arch": arch, "sections": len(removed), "method": one, "other": other}
        | {"n": int(seeds.get(one, 0)), "tau": _tau(removed, one, other)}
        for one in names
        for other in names
    ]


def _tau(removed: pd.DataFrame, one: str, other: str) -> float:
    if not {one, other} <= set(removed) or removed[one].nunique() < 2 or removed[other].nunique() < 2:
        return float("nan")
    return float(stats.kendalltau(removed[one], removed[other], variant="b").statistic)
