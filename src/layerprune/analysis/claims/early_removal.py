"""C1: when sections leave."""

from collections.abc import Callable

from layerprune.analysis.claims.sample import Sample, gated_runs
from layerprune.analysis.frames import KEY, Study
from layerprune.core.settings import GatedSettings
from layerprune.suite import store
from layerprune.system.paths import RunKey


def removed_before_quarter(study: Study) -> list[Sample]:
    """Share of a run's removals that came in the first quarter of its steps."""
    return _shares(study, lambda run: run["steps_total"] / 4)


def removed_before_half(study: Study) -> list[Sample]:
    """Share of a run's removals that came in the first half of its steps."""
    return _shares(study, lambda run: run["steps_total"] / 2)


def removed_before_consolidation(study: Study) -> list[Sample]:
    """Share of a run's removals that came before theta was rounded: those that theta decided by itself."""
    return _shares(study, _consolidation)


def _shares(study: Study, moment: Callable[[dict], float]) -> list[Sample]:
    samples = []
    for arch, runs in gated_runs(study):
        removals = [
            (run, [step for step in run["removed_step"] if step is not None]) for run in runs.to_dict("records")
        ]
        shares = [sum(step < moment(run) for step in steps) / len(steps) for run, steps in removals if steps]
        if shares or runs.empty:  # where nothing went there is nothing to ask
            samples.append(Sample(arch, tuple(shares)))
    return samples


def _consolidation(run: dict) -> float:
    """Half a check before the step of rounding, which falls on the check nearest to `consolidate_at`."""
    settings = store.find(RunKey(**{name: run[name] for name in KEY})).provenance.config["settings"]
    interval = settings.get("check_interval", GatedSettings().check_interval)
    return run["consolidate_at"] * run["steps_total"] - interval / 2
