"""C3: what a run costs beside dense's run of the same seed."""

from layerprune import methods
from layerprune.analysis import statistics
from layerprune.analysis.claims.sample import Sample, gated_runs
from layerprune.analysis.frames import Study

FAMILIES = methods.families()


def training_macs(study: Study) -> list[Sample]:
    """Multiply-adds of the whole training, as a multiple of dense's."""
    return _column(study, "train_macs_ratio")


def inference_macs(study: Study) -> list[Sample]:
    """Multiply-adds of one input, as a multiple of dense's."""
    return _column(study, "macs_ratio")


def accuracy_difference(study: Study) -> list[Sample]:
    """Test accuracy minus dense's, of 1."""
    return _column(study, "difference")


def wall_seconds(study: Study) -> list[Sample]:
    """Wall time of the whole training, as a multiple of dense's on the same kind of machine."""
    return _column(study, "wall_ratio")


def training_macs_against_cheapest_rival(study: Study) -> list[Sample]:
    """Training multiply-adds over those of the cheapest other method whose mean accuracy is no lower; n: gated's seeds.

    A scratch control's bill leaves out the gated run that found its layout, so controls do not count as rivals.
    """
    main = study.runs[(study.runs["variant"] == "default") & statistics.counted(study.runs)]
    samples = []
    for arch, runs in gated_runs(study):
        rivals = main[(main["arch"] == arch) & main["method"].map(FAMILIES.get).isin(["trained", "scores"])]
        means = rivals.groupby("method")[["test_accuracy", "train_macs"]].mean()
        own = means.loc["gated"] if "gated" in means.index else None
        able = means.drop(index=["gated"], errors="ignore")
        able = able[able["test_accuracy"] >= own["test_accuracy"]] if own is not None else able.iloc[:0]
        if len(runs) < 2 or able.empty:
            samples.append(Sample(arch, ()))
            continue
        cheapest = able["train_macs"].idxmin()
        ratio = float(own["train_macs"] / able["train_macs"].min())
        samples.append(Sample(arch, (ratio,), against=str(cheapest), seeds=len(runs)))
    return samples


def _column(study: Study, name: str) -> list[Sample]:
    return [Sample(arch, tuple(runs[name].dropna())) for arch, runs in gated_runs(study)]
