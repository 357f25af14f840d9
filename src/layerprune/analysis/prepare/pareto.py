"""What is left of gated's trainings under several prices, weights of the price and budgets, as one cloud."""

import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.frames import Study
from layerprune.analysis.latencies import read_plain_latencies

AIMS = {
    "nu-": "price nu",
    "cost-": "price by parameters or latency",
    "target-": "budget",
}
"""Beginning of a variant's name -> what was varied; the default belongs to the prices."""
OBJECTIVES = {"macs": "multiply-adds", "params": "parameters", "latency": "latency, one input"}
COLUMNS = ["arch", "objective", "aim", "variant", "seed", "left", "test_accuracy", "on_front"]


def pareto(study: Study) -> pd.DataFrame:
    """A row a network and objective: `left` in per cent of the dense network's, test accuracy in per cent, and whether
    no other network of the architecture is better in one and as good in the other. dense is one of them.

    An objective that was not measured has no rows, an architecture without a variant of AIMS none at all.
    """
    used = study.runs[statistics.counted(study.runs) & study.runs["method"].isin(["gated", "dense"])]
    used = used.assign(aim=[_aim(*named) for named in zip(used["method"], used["variant"], strict=True)])
    used = used[used["aim"] != ""]
    swept = set(used[used["variant"].str.startswith(tuple(AIMS))]["arch"])
    used = used[used["arch"].isin(swept)].reset_index(drop=True)
    used = used.assign(latency=_latencies(study, used))
    parts = [_objective(used, name) for name in OBJECTIVES]
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)


def _aim(method: str, variant: str) -> str:
    if method == "dense":
        return "dense" if variant == "default" else ""
    if variant == "default":
        return AIMS["nu-"]
    return next((aim for start, aim in AIMS.items() if variant.startswith(start)), "")


def _latencies(study: Study, runs: pd.DataFrame) -> pd.Series:
    """Milliseconds of one input; NaN for what was not measured."""
    keys = ["arch", "method", "variant", "seed", "macs"]
    times = read_plain_latencies(study.preset, study.dataset)
    times = times[times["batch"] == 1].astype({"macs": "float64", "seed": runs["seed"].dtype})
    return runs[keys].merge(times.drop_duplicates(keys), on=keys, how="left")["median_ms"]


def _objective(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    whole = runs[runs["aim"] == "dense"].groupby("arch")[name].mean()
    left = 100 * runs[name] / runs["arch"].map(whole)
    found = runs.assign(objective=name, left=left, test_accuracy=100 * runs["test_accuracy"]).dropna(subset="left")
    return found.assign(on_front=_on_front(found)) if len(found) else found


def _on_front(found: pd.DataFrame) -> list[bool]:
    flags = dict.fromkeys(found.index, True)
    for _, rows in found.groupby("arch"):
        points = list(zip(rows.index, rows["left"], rows["test_accuracy"], strict=True))
        for index, left, accuracy in points:
            flags[index] = not any(
                other_left <= left and other >= accuracy and (other_left < left or other > accuracy)
                for _, other_left, other in points
            )
    return list(flags.values())
