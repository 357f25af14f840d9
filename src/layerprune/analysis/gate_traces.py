"""Traces of gates: what gated trainings with the setting `watch` noted at every check, as arrays."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from layerprune.analysis import statistics
from layerprune.analysis.frames import KEY, Study
from layerprune.core.settings import GatedSettings
from layerprune.suite import store
from layerprune.suite.record import Record
from layerprune.system.paths import RunKey

AVERAGED = 3
"""Checks over whose batches a section's worth, and the losses at theta and at theta rounded, are averaged."""
DECIDED = 0.01
"""Theta this near to 0 or 1 counts as decided."""
PRIORS = ("flattening", "fixed", "beta", "l0", "none")
"""Priors of one slope at the start, under which gated is compared (claim C5)."""


@dataclass(frozen=True)
class GateTrace:
    """One training. Arrays [checks, sections], NaN for sections that are gone; but `step`, `lr` and losses [checks]."""

    record: Record
    settings: GatedSettings
    step: np.ndarray
    lr: np.ndarray
    loss: np.ndarray
    drawn: np.ndarray
    rounded: np.ndarray
    theta: np.ndarray
    norm: np.ndarray
    delta: np.ndarray
    gradient: np.ndarray
    benefit: np.ndarray
    decayed: np.ndarray | None = None
    """Norm of the weights under weight decay, where these are not all and the record has it."""

    @property
    def decaying(self) -> np.ndarray | None:
        """Norm of the weights under weight decay; None if the record does not have it."""
        all_decay = self.record.provenance.config["training"].get("decayed", "all") == "all"
        return self.norm if all_decay else self.decayed

    @property
    def price(self) -> float:
        return price_of_a_section(self.record, self.settings)

    @property
    def warmup(self) -> int:
        """Place of the first check at which theta may have moved."""
        moved = np.nanmax(np.abs(self.theta - self.settings.theta0), axis=1) > 0
        return int(np.argmax(moved)) if moved.any() else len(moved)

    @property
    def sampling(self) -> np.ndarray:
        """Probabilities with which gates were drawn."""
        size = self.record.provenance.config["training"]["batch_size"]
        floor = min(self.settings.side_floor / (self.settings.drawn_share * size), 0.5)
        return np.clip(self.theta, floor, 1 - floor)


def rounding_due(settings: GatedSettings, steps_total: float) -> float:
    """Half a check before the step at which theta is rounded, which falls on the check nearest to `consolidate_at`."""
    return settings.consolidate_at * steps_total - settings.check_interval / 2


def price_of_a_section(run: Record, settings: GatedSettings) -> float:
    """What nu charges for each of sections that all cost alike."""
    return run.details["nu"] / (run.sections_total if settings.cost_scale == "network" else 1)


# --- which there are ------------------------------------------------------------------------------------------------


def archs_with(study: Study, variant: str) -> list[str]:
    """Architectures on which gated has this variant."""
    runs = study.runs[(study.runs["method"] == "gated") & (study.runs["variant"] == variant)]
    return list(dict.fromkeys(runs["arch"]))


def traces_of(study: Study, variant: str) -> Iterator[GateTrace]:
    """The trainings of a variant of gated that came to an end with `watch` on."""
    chosen = study.runs[(study.runs["method"] == "gated") & (study.runs["variant"] == variant)]
    for run in chosen[statistics.counted(chosen)][KEY].to_dict("records"):
        found = store.find(RunKey(**run))
        if found.details.get("watch", {}).get("step"):
            yield _arrays(found)


def _arrays(found: Record) -> GateTrace:
    notes = {name: np.array(values, float) for name, values in found.details["watch"].items()}
    return GateTrace(found, GatedSettings.model_validate(found.provenance.config["settings"]), **notes)


def variant_of(prior: str, start: str = "") -> str:
    """The variant of gated that has this prior and a trace; `start` is one of `theta_starts`."""
    return f"prior-{prior}{start}"


def theta_starts(study: Study) -> list[str]:
    """Ends of such variants' names: "" for the default's start value of theta, as "-theta0-0.3" for another."""
    named = study.runs[study.runs["method"] == "gated"]["variant"].str.extract(rf"^prior-(?:{'|'.join(PRIORS)})(.*)$")
    return sorted(set(named[0].dropna()))


# --- what they say --------------------------------------------------------------------------------------------------


def objective(trace: GateTrace) -> tuple[np.ndarray, np.ndarray]:
    """J at theta and at theta rounded, at every check; of batches, averaged over AVERAGED checks."""
    theta = np.nan_to_num(trace.theta)
    drawn = _averaged(trace.drawn) + trace.price * theta.sum(1)
    return drawn, _averaged(trace.rounded) + trace.price * (theta >= 0.5).sum(1)


def _averaged(values: np.ndarray) -> np.ndarray:
    return np.array([values[max(0, place - AVERAGED + 1) : place + 1].mean() for place in range(len(values))])


def undecided_share(thetas: Sequence[float]) -> float:
    """Share of sections whose theta is neither 0 nor 1."""
    return sum(DECIDED < theta < 1 - DECIDED for theta in thetas) / len(thetas)


def too_early(trace: GateTrace) -> tuple[int, int]:
    """Of the sections that theta removed by itself: how many were worth more than the median of those that stayed, and
    how many there were.

    Not of those that went because theta was rounded, nor of a check at which all went. Worth: what opening a section
    lowers the loss by. It is measured twice, on the even and on the odd ones of the last 2 AVERAGED checks, and both
    have to say so: sections are worth little when they leave, and by one measurement alone many seem to be worth more
    than they are. Of those that stayed, because of many that leave together some are worth more than the median of
    all, whichever they are.
    """
    due = rounding_due(trace.settings, trace.record.steps_total)
    found = []
    for place, check in _removals(trace):
        stays = ~np.isnan(trace.benefit[check]) & ~_gone(trace, check)
        if trace.step[check] < due and stays.any():
            found.append(_worth_more(trace, place, stays, _twice(check)))
    return sum(found), len(found)


def too_early_share(trace: GateTrace) -> float | None:
    """The same as a share; None without such removals."""
    events, removals = too_early(trace)
    return events / removals if removals else None


def premature_share(trace: GateTrace) -> float | None:
    """Share of a run's removals, rounding's too, of sections that were worth more than the median of all there, by two
    measurements; None without removals."""
    return _share_of_removals(trace, _twice)


def premature_share_seen_once(trace: GateTrace) -> float | None:
    """The same by one measurement, on the last AVERAGED checks."""
    return _share_of_removals(trace, lambda check: (range(check, -1, -1),))


def _share_of_removals(trace: GateTrace, checks_of: Callable[[int], Sequence[Sequence[int]]]) -> float | None:
    """Share of removals that every measurement calls premature; `checks_of` gives their checks, the last one first."""
    found = [
        _worth_more(trace, place, ~np.isnan(trace.benefit[check]), checks_of(check))
        for place, check in _removals(trace)
    ]
    return float(np.mean(found)) if found else None


def _removals(trace: GateTrace) -> list[tuple[int, int]]:
    """Section and check of every removal."""
    at = {int(step): check for check, step in enumerate(trace.step)}
    return [(place, at[step]) for place, step in enumerate(trace.record.removed_step) if step in at]


def _gone(trace: GateTrace, check: int) -> np.ndarray:
    """Which sections have left with this check, or before."""
    return np.array([step is not None and step <= trace.step[check] for step in trace.record.removed_step])


def _twice(check: int) -> Sequence[Sequence[int]]:
    return range(check, -1, -2), range(check - 1, -1, -2)


def _worth_more(trace: GateTrace, place: int, others: np.ndarray, measurements: Sequence[Sequence[int]]) -> bool:
    """Whether every measurement finds the section worth more than the median of `others` [sections]."""
    for checks in filter(None, measurements):  # at the first check there is only one
        worth = trace.benefit[list(checks[:AVERAGED])].mean(0)
        if worth[place] <= np.median(worth[others]):
            return False
    return True
