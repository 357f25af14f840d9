"""C4: how many gates are still undecided when theta is about to be rounded, and what the rounding costs."""

from layerprune.analysis.claims.sample import Sample, gated_runs
from layerprune.analysis.frames import KEY, Study
from layerprune.analysis.gate_traces import archs_with, objective, traces_of, undecided_share
from layerprune.analysis.prior_variants import PRIORS, variant_of
from layerprune.suite import store
from layerprune.system.paths import RunKey

FLATTENING = variant_of(PRIORS[0])


def undecided_theta(study: Study) -> list[Sample]:
    """Share of a run's sections whose theta, just before consolidation, was neither 0 nor 1."""
    samples = []
    for arch, runs in gated_runs(study):
        thetas = [_before_rounding(run) for run in runs[KEY].to_dict("records")]
        shares = [undecided_share(each) for each in thetas if each]
        samples.append(Sample(arch, tuple(shares)))
    return samples


def cost_of_rounding(study: Study) -> list[Sample]:
    """J at theta rounded over J at theta, minus 1, when theta is rounded (J without the weights' prior)."""
    values: dict[str, list[float]] = {arch: [] for arch in archs_with(study, FLATTENING)}
    for trace in traces_of(study, FLATTENING):
        drawn, rounded = objective(trace)
        values[trace.record.arch].append(float(rounded[-1] / drawn[-1] - 1))
    return [Sample(arch, tuple(each)) for arch, each in values.items()]


def _before_rounding(run: dict) -> list[float]:
    return store.find(RunKey(**run)).details.get("theta_before_consolidation") or []
