"""C8: gated against other runs of the same network and seed."""

from collections.abc import Callable

import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.claims.sample import Sample
from layerprune.analysis.frames import Study

Allows = Callable[[pd.DataFrame], pd.Series]
"""Which pairs may be compared, from columns such as sections_left and sections_left_other."""
COMPARED = ["test_accuracy", "sections_left", "train_macs"]


def against_matched_depth(study: Study) -> list[Sample]:
    """Gated's test accuracy minus another method's that keeps as many sections, of 1."""
    return _differences(study, lambda pairs: pairs["sections_left"] == pairs["sections_left_other"])


def against_no_dearer(study: Study) -> list[Sample]:
    """Gated's test accuracy minus that of another method whose training costs no more multiply-adds, of 1.

    A scratch control's bill leaves out the gated run that found its layout.
    """
    return _differences(study, lambda pairs: pairs["train_macs_other"] <= pairs["train_macs"])


def _differences(study: Study, allows: Allows) -> list[Sample]:
    main = study.runs[study.runs["variant"] == "default"]
    samples = []
    for arch, runs in main.groupby("arch", sort=False):
        used = runs[statistics.counted(runs)].set_index("seed")
        gated = used[used["method"] == "gated"][COMPARED]
        if gated.empty:
            samples.append(Sample(arch, ()))
        for method, other in used[~used["method"].isin(["gated", "dense"])].groupby("method", sort=False):
            pairs = gated.join(other[COMPARED].add_suffix("_other"), how="inner")
            pairs = pairs[allows(pairs)]
            if len(pairs):
                differences = pairs["test_accuracy"] - pairs["test_accuracy_other"]
                samples.append(Sample(arch, tuple(differences), against=str(method)))
    return samples
