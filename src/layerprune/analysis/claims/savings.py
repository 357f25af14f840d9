"""C3: what a run costs beside dense's run of the same seed."""

from layerprune.analysis.claims.sample import Sample, gated_runs
from layerprune.analysis.frames import Study


def training_macs(study: Study) -> list[Sample]:
    """Multiply-adds of the whole training, as a multiple of dense's."""
    return _column(study, "train_macs_ratio")


def inference_macs(study: Study) -> list[Sample]:
    """Multiply-adds of one input, as a multiple of dense's."""
    return _column(study, "macs_ratio")


def accuracy_difference(study: Study) -> list[Sample]:
    """Test accuracy minus dense's, of 1."""
    return _column(study, "difference")


def _column(study: Study, name: str) -> list[Sample]:
    return [Sample(arch, tuple(runs[name].dropna())) for arch, runs in gated_runs(study)]
