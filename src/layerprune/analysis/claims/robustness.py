"""C6: how far results depend on the seed and on the depth at the start."""

from layerprune.analysis import statistics
from layerprune.analysis.claims.sample import Sample, gated_runs
from layerprune.analysis.frames import Study
from layerprune.analysis.prepare.starts import start_of

FAMILY = "mlp-residual"
STARTS = "theta0-"
RIVALS = ("sss", "hard-concrete", "gal", "epsilon-resnet")


def spread_of_depth(study: Study) -> list[Sample]:
    """Standard deviation over seeds of the sections left, as a share of all."""
    return [
        _summed_up(arch, len(runs), (runs["sections_left"] / runs["sections_total"]).std())
        for arch, runs in gated_runs(study)
    ]


def spread_of_depth_of_rivals(study: Study) -> list[Sample]:
    """The same of other methods that choose their depth themselves."""
    used = study.runs[(study.runs["variant"] == "default") & statistics.counted(study.runs)]
    return [
        Sample(str(arch), (float((runs["sections_left"] / runs["sections_total"]).std()),), str(method), len(runs))
        for (arch, method), runs in used[used["method"].isin(RIVALS)].groupby(["arch", "method"], sort=False)
        if len(runs) > 1
    ]


def spread_of_accuracy(study: Study) -> list[Sample]:
    """Standard deviation over seeds of the test accuracy, of 1."""
    return [_summed_up(arch, len(runs), runs["test_accuracy"].std()) for arch, runs in gated_runs(study)]


def depth_over_starts(study: Study) -> list[Sample]:
    """Largest minus smallest mean of sections left, over the largest, among starts of one family that lost any.

    A start that is smaller than what would be left keeps all of its sections, and says nothing.
    """
    runs = {start_of(arch): each for arch, each in gated_runs(study) if start_of(arch) is not None}
    if len(runs) < 2:
        return []
    left = {start: each["sections_left"].mean() for start, each in runs.items() if len(each)}
    pruned = [mean for start, mean in left.items() if mean < start]
    if len(pruned) < 2:
        return [Sample(FAMILY, ())]
    seeds = min(len(each) for each in runs.values())
    return [_summed_up(FAMILY, seeds, (max(pruned) - min(pruned)) / max(pruned))]


def depth_over_theta0(study: Study) -> list[Sample]:
    """Largest minus smallest mean of sections left, over the largest, among start values of theta."""
    gated = study.runs[study.runs["method"] == "gated"]
    starts = gated["variant"].str.startswith(STARTS)
    used = gated[(starts | (gated["variant"] == "default")) & statistics.counted(gated)]
    samples = []
    for arch in dict.fromkeys(gated[starts]["arch"]):
        left = used[used["arch"] == arch].groupby("variant")["sections_left"]
        means, seeds = left.mean(), left.size()
        if len(means) < 2 or means.max() == 0:
            samples.append(Sample(arch, ()))
        else:
            samples.append(_summed_up(arch, int(seeds.min()), (means.max() - means.min()) / means.max()))
    return samples


def _summed_up(arch: str, seeds: int, number: float) -> Sample:
    return Sample(arch, (float(number),), seeds=seeds) if seeds > 1 else Sample(arch, ())
