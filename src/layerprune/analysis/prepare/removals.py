"""Accuracy of trained networks without random sets of their sections (experiment random-removal)."""

import pandas as pd

from layerprune.analysis import experiments
from layerprune.analysis.claims.flow import EXPERIMENT, better_than_guessing
from layerprune.analysis.frames import Study

COLUMNS = ["arch", "seed", "sections", "removed", "accuracy", "whole", "guessing"]


def removals(study: Study) -> pd.DataFrame:
    """A row a keep list: sections there were and how many went, accuracies in per cent on the validation split.

    `whole` is the accuracy with all sections, `guessing` what a network must exceed so as not to be guessing. An
    architecture without a record has one row without numbers.
    """
    rows = []
    for run in experiments.made(study, EXPERIMENT):
        found = run.details
        shared = {"arch": run.arch, "seed": run.seed, "sections": run.sections_total}
        shared |= {"whole": 100 * found["whole_accuracy"], "guessing": 100 * better_than_guessing(run)}
        for keep, accuracy in zip(found["keep_lists"], found["accuracies"], strict=True):
            rows.append(shared | {"removed": len(keep) - sum(keep), "accuracy": 100 * accuracy})
    there = {row["arch"] for row in rows}
    rows += [{"arch": arch} for arch in experiments.planned(study, EXPERIMENT) if arch not in there]
    return pd.DataFrame(rows, columns=COLUMNS)
