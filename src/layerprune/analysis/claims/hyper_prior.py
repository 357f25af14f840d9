"""C5: the flattening hyper-prior against other priors of the same slope at the start."""

from collections.abc import Callable, Iterator

from layerprune.analysis.claims.sample import Sample
from layerprune.analysis.frames import Study
from layerprune.analysis.gate_traces import GateTrace, archs_with, traces_of
from layerprune.analysis.prior_variants import PRIORS, premature_share, starts, variant_of

FLATTENING = PRIORS[0]
OTHERS = tuple(prior for prior in PRIORS[1:] if prior != "none")  # which removes nothing but by chance


def premature_removals(study: Study) -> list[Sample]:
    """Share of a run's removals of sections that were then worth more than the median section."""
    found = _by_seed(study, variant_of(FLATTENING), premature_share)
    return [Sample(arch, tuple(found.get(arch, {}).values())) for arch in archs_with(study, variant_of(FLATTENING))]


def premature_against_other_priors(study: Study) -> list[Sample]:
    """The same share under flattening minus that under another prior, by seed."""
    return list(_against(study, premature_share))


def premature_from_other_starts(study: Study) -> list[Sample]:
    """The same difference where theta starts elsewhere."""
    return [sample for start in starts(study) if start for sample in _against(study, premature_share, start=start)]


def spread_against_other_priors(study: Study) -> list[Sample]:
    """Distance of a seed's share of sections left from the mean over seeds: under flattening minus under another."""
    return list(_against(study, lambda trace: sum(trace.record.keep) / len(trace.record.keep), centred=True))


def _against(
    study: Study, number: Callable[[GateTrace], float | None], centred: bool = False, start: str = ""
) -> Iterator[Sample]:
    own = _by_seed(study, variant_of(FLATTENING, start), number)
    for arch in archs_with(study, variant_of(FLATTENING, start)):
        mine = _distances(own.get(arch, {})) if centred else own.get(arch, {})
        for other in OTHERS:
            if arch in archs_with(study, variant_of(other, start)):
                theirs = _by_seed(study, variant_of(other, start), number).get(arch, {})
                theirs = _distances(theirs) if centred else theirs
                pairs = [mine[seed] - theirs[seed] for seed in mine if seed in theirs]
                yield Sample(arch, tuple(pairs), against=other + start.replace("-theta0-", ", theta0 "))


def _distances(values: dict[int, float]) -> dict[int, float]:
    mean = sum(values.values()) / len(values) if values else 0.0
    return {seed: abs(value - mean) for seed, value in values.items()}


def _by_seed(study: Study, variant: str, number: Callable[[GateTrace], float | None]) -> dict[str, dict[int, float]]:
    """Architecture -> seed -> number, where there is one."""
    found: dict[str, dict[int, float]] = {}
    for trace in traces_of(study, variant):
        value = number(trace)
        if value is not None:
            found.setdefault(trace.record.arch, {})[trace.record.seed] = value
    return found
