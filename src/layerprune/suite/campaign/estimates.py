"""How long runs take: steps times a step measured here and now, corrected by the runs that have ended since.

A step is measured once for each kind of run: those that share what a step's time depends on, whatever their method.
Finished runs of the same kind tell how much longer or shorter a method's runs take than that.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from layerprune.suite import config
from layerprune.suite.config import Preset
from layerprune.system.paths import RunKey

SPEED = ("batch_size", "augment", "crop", "precision", "engine", "average", "nesterov", "decayed")
"""Settings of training that a step's time may depend on."""
Kind = tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """Seconds before the first step, seconds of a step, and the steps that each run of the kind still has to make."""

    start: float
    step: float
    steps: dict[RunKey, int]


def kind_of(preset: Preset, key: RunKey) -> Kind:
    """What runs share that a step's time depends on."""
    settings = config.resolve(preset, key)
    speed = {name: getattr(settings.training, name) for name in SPEED}
    return key.dataset, key.arch, settings.model.model_dump_json(), str(speed)


class Estimates:
    """Forecasts of a campaign's runs."""

    def __init__(self, preset: Preset, keys: Iterable[RunKey]) -> None:
        self.kinds = {key: kind_of(preset, key) for key in keys}
        self.measured: dict[Kind, Measured] = {}
        self.ratios: list[tuple[RunKey, float]] = []

    def plain(self, key: RunKey) -> float | None:
        """Seconds by the measured step alone; None where it was not measured."""
        measured = self.measured.get(self.kinds[key])
        return None if measured is None else measured.start + measured.steps[key] * measured.step

    def seconds(self, key: RunKey) -> float | None:
        """The forecast; None where the run's kind was not measured."""
        plain = self.plain(key)
        return None if plain is None else plain * self._ratio(key)

    def learn(self, key: RunKey, seconds: float) -> None:
        """Note how long a run took."""
        if plain := self.plain(key):
            self.ratios.append((key, seconds / plain))

    def of_kind(self, kind: Kind) -> list[RunKey]:
        return [key for key, own in self.kinds.items() if own == kind]

    def _ratio(self, key: RunKey) -> float:
        """Truth over forecast of the runs most like this one: its method's of its kind, its kind's, or all.

        Other methods can only lengthen a forecast: a gated run is short because its network shrinks.
        """
        kind = self.kinds[key]
        same = [(other.method, ratio) for other, ratio in self.ratios if self.kinds[other] == kind]
        if own := [ratio for method, ratio in same if method == key.method]:
            return statistics.median(own)
        others = [ratio for _, ratio in same or self.ratios]
        return max(1.0, statistics.median(others)) if others else 1.0
