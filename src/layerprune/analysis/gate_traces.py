"""Traces of gates: what gated trainings with the setting `watch` noted at every check, as arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from layerprune.analysis import statistics
from layerprune.analysis.frames import KEY, Study
from layerprune.core.settings import GatedSettings
from layerprune.suite import store
from layerprune.suite.record import Record
from layerprune.system.paths import RunKey

AVERAGED = 3
"""Checks over whose batches the losses at theta and at theta rounded are averaged."""
DECIDED = 0.01
"""Theta this near to 0 or 1 counts as decided."""


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

    @property
    def price(self) -> float:
        """nu, of sections that all cost alike."""
        return self.record.details["nu"]

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
