"""C4 and C5: under the flattening hyper-prior theta decides, and removes less that was worth keeping than under others.

Others are priors of the same slope at the start.
"""

from collections.abc import Callable, Iterator

from layerprune.analysis.claims.sample import Sample, gated_runs, share_of_events
from layerprune.analysis.frames import KEY, Study
from layerprune.analysis.gate_traces import (
    PRIORS,
    GateTrace,
    archs_with,
    objective,
    premature_share,
    premature_share_seen_once,
    theta_starts,
    too_early,
    too_early_share,
    traces_of,
    undecided_share,
    variant_of,
)
from layerprune.suite import store
from layerprune.system.paths import RunKey

FLATTENING = PRIORS[0]
OTHERS = tuple(prior for prior in PRIORS[1:] if prior != "none")  # which removes nothing but by chance


# --- C4: gates undecided when theta is about to be rounded, and what the rounding costs -----------------------------


def thetas_undecided(study: Study) -> list[Sample]:
    """Share of all seeds' sections whose theta, just before consolidation, was neither 0 nor 1."""
    samples = []
    for arch, runs in gated_runs(study):
        thetas = [_before_rounding(run) for run in runs[KEY].to_dict("records")]
        counts = [(round(undecided_share(each) * len(each)), len(each)) for each in thetas if each]
        samples.append(share_of_events(arch, counts))
    return samples


def undecided_theta(study: Study) -> list[Sample]:
    """Mean over seeds of a run's share, as it was at first."""
    samples = []
    for arch, runs in gated_runs(study):
        thetas = [_before_rounding(run) for run in runs[KEY].to_dict("records")]
        shares = [undecided_share(each) for each in thetas if each]
        samples.append(Sample(arch, tuple(shares), is_share=True))
    return samples


def cost_of_rounding(study: Study) -> list[Sample]:
    """J at theta rounded over J at theta, minus 1, when theta is rounded (J without the weights' prior).

    J at theta is measured on drawn gates, whose probabilities stay away from 0 and 1 (`GateTrace.sampling`). Where
    every theta is 0 or 1 that alone would make a difference, and rounding costs nothing.
    """
    values: dict[str, list[float]] = {arch: [] for arch in archs_with(study, variant_of(FLATTENING))}
    for trace in traces_of(study, variant_of(FLATTENING)):
        drawn, rounded = objective(trace)
        theta = trace.theta[-1]
        between = ((theta > 0) & (theta < 1)).any()
        values[trace.record.arch].append(float(rounded[-1] / drawn[-1] - 1) if between else 0.0)
    return [Sample(arch, tuple(each)) for arch, each in values.items()]


def _before_rounding(run: dict) -> list[float]:
    return store.find(RunKey(**run)).details.get("theta_before_consolidation") or []


# --- C5: against other priors ---------------------------------------------------------------------------------------


def too_early_removals(study: Study) -> list[Sample]:
    """Share of theta's own removals, of all seeds, of sections that were worth more than the median of those that
    stayed."""
    counts: dict[str, list[tuple[int, int]]] = {arch: [] for arch in archs_with(study, variant_of(FLATTENING))}
    for trace in traces_of(study, variant_of(FLATTENING)):
        counts[trace.record.arch].append(too_early(trace))
    return [share_of_events(arch, each) for arch, each in counts.items()]


def too_early_against_other_priors(study: Study) -> list[Sample]:
    """The share under flattening minus that under another prior, by seed; not where no theta removed a section."""
    return list(_against(study, too_early_share))


def too_early_from_other_starts(study: Study) -> list[Sample]:
    """The same difference where theta starts elsewhere."""
    return [
        sample for start in theta_starts(study) if start for sample in _against(study, too_early_share, start=start)
    ]


def premature_removals(study: Study) -> list[Sample]:
    """Share of a run's removals, rounding's too, of sections that were worth more than the median of all there."""
    return _under_flattening(study, premature_share)


def premature_removals_seen_once(study: Study) -> list[Sample]:
    """The same share where one measurement is enough, as it was at first."""
    return _under_flattening(study, premature_share_seen_once)


def premature_against_other_priors(study: Study) -> list[Sample]:
    """The share under flattening minus that under another prior, by seed."""
    return list(_against(study, premature_share))


def premature_against_other_priors_seen_once(study: Study) -> list[Sample]:
    """The same difference where one measurement is enough, as it was at first."""
    return list(_against(study, premature_share_seen_once))


def spread_against_other_priors(study: Study) -> list[Sample]:
    """Distance of a seed's share of sections left from the mean over seeds: under flattening minus under another."""
    return list(_against(study, lambda trace: sum(trace.record.keep) / len(trace.record.keep), centred=True))


def _under_flattening(study: Study, number: Callable[[GateTrace], float | None]) -> list[Sample]:
    found = _by_seed(study, variant_of(FLATTENING), number)
    return [Sample(arch, tuple(found.get(arch, {}).values())) for arch in archs_with(study, variant_of(FLATTENING))]


def _against(
    study: Study, number: Callable[[GateTrace], float | None], centred: bool = False, start: str = ""
) -> Iterator[Sample]:
    own = _by_seed(study, variant_of(FLATTENING, start), number)
    for arch in archs_with(study, variant_of(FLATTENING, start)):
        mine = _distances(own.get(arch, {})) if centred else own.get(arch, {})
        for other in OTHERS:
            if arch in archs_with(study, variant_of(other, start)):
                made = _by_seed(study, variant_of(other, start), lambda trace: 1.0).get(arch, {})
                theirs = _by_seed(study, variant_of(other, start), number).get(arch, {})
                theirs = _distances(theirs) if centred else theirs
                pairs = [mine[seed] - theirs[seed] for seed in mine if seed in theirs]
                if pairs or not made:  # of trainings that were made, and have nothing to compare, nothing is asked
                    yield Sample(arch, tuple(pairs), against=other + start.replace("-theta0-", ", theta0 "))


def _distances(values: dict[int, float]) -> dict[int, float]:
    mean = sum(values.values()) / len(values) if values else 0.0
    return {seed: abs(value - mean) for seed, value in values.items()}


def _by_seed(study: Study, variant: str, number: Callable[[GateTrace], float | None]) -> dict[str, dict[int, float]]:
    """Architecture -> seed -> number, if it exists."""
    found: dict[str, dict[int, float]] = {}
    for trace in traces_of(study, variant):
        value = number(trace)
        if value is not None:
            found.setdefault(trace.record.arch, {})[trace.record.seed] = value
    return found
