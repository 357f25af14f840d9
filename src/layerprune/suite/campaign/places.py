"""Where a campaign's runs are made: in lanes, or each in a process of its own. Imports no torch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Protocol

from layerprune.core.data import catalog
from layerprune.core.methods import families
from layerprune.suite import config
from layerprune.suite.campaign.jobs import Job
from layerprune.suite.campaign.lanes import Lanes
from layerprune.suite.config import Preset
from layerprune.system.paths import RunKey

EAGERLY = ["--eager"]
"""Of `layerprune run`: of a run whose recorded steps are not to be trusted."""


FINE_TUNING = "fine-tuning"


class AnyJob(Protocol):
    """What a place is busy with."""

    @property
    def seconds(self) -> float: ...

    def status(self) -> int | None: ...

    def tell_to_end(self) -> None: ...

    def kill(self) -> None: ...

    def printed(self) -> str: ...


@dataclass
class Commands:
    """What is started for a run, and to measure the step that runs share."""

    run: Callable[[RunKey], list[str]]
    measure: Callable[[list[RunKey]], list[str]]


@dataclass
class Places:
    """Places for processes, and lanes while there are any; `apart` are runs that are not made in lanes."""

    preset: Preset
    commands: Commands
    processes: int
    beside: int = 1
    """Processes at a time while there are lanes."""
    lanes: Lanes | None = None
    apart: set[RunKey] = field(default_factory=set)
    eager: set[RunKey] = field(default_factory=set)
    _busy: dict[bool, list[AnyJob]] = field(default_factory=lambda: {True: [], False: []})
    """Jobs in lanes (True) and in processes."""

    def __post_init__(self) -> None:
        self._may_share = cache(partial(may_share_a_process, self.preset))

    def in_lane(self, key: RunKey) -> bool:
        """Whether a run is made in a lane."""
        return self.lanes is not None and key not in self.apart and self._may_share(key)

    def has_room(self, key: RunKey) -> bool:
        """Whether a run could begin now."""
        in_lane = self.in_lane(key)
        room = self.processes if self.lanes is None else self.lanes.count if in_lane else self.beside
        self._busy[in_lane] = [job for job in self._busy[in_lane] if job.status() is None]
        return len(self._busy[in_lane]) < room

    def run(self, key: RunKey) -> AnyJob:
        """Begin a run."""
        in_lane = self.in_lane(key)
        return self._begun(in_lane, self.lanes.run(key) if in_lane else Job(self._words(self.commands.run(key), key)))

    def measure(self, keys: list[RunKey]) -> AnyJob:
        """Measure the step that these runs share, where the first one would be made."""
        in_lane, words = self.in_lane(keys[0]), self._words(self.commands.measure(keys), keys[0])
        return self._begun(in_lane, self.lanes.measure(keys) if in_lane else Job(words))

    def _words(self, words: list[str], key: RunKey) -> list[str]:
        return [*words, *(EAGERLY if key in self.eager else [])]

    def _begun(self, in_lane: bool, job: AnyJob) -> AnyJob:
        self._busy[in_lane].append(job)
        return job

    def keep_apart(self, runs: Iterable[RunKey], way: str, eagerly: bool) -> None:
        """Runs that train in this way get processes, in which steps are computed `eagerly` or as they are."""
        those = {key for key in runs if way_of(key.method) == way}
        self.apart |= those
        self.eager |= those if eagerly else set()

    def try_again_apart(self, key: RunKey) -> None:
        """Give a run that crashed in its lane a process of its own, without graphs."""
        self.apart.add(key)
        self.eager.add(key)

    def close_lanes(self) -> None:
        if self.lanes is not None:
            self.lanes.close()
            self.lanes = None


def may_share_a_process(preset: Preset, key: RunKey) -> bool:
    """Whether a run needs nothing of a process that its neighbours would feel, nor measures times itself."""
    settings = config.resolve(preset, key)
    method = settings.method_settings()
    times = getattr(method, "cost", None) == "latency" or getattr(method, "target_latency", None) is not None
    return (
        catalog.asked_forms(settings.dataset, settings.source)[0].in_memory
        and settings.training.engine != "compiled"
        and preset.processes(key.dataset) == 1
        and families()[key.method] != "experiments"
        and not times
    )


def way_of(method: str) -> str:
    """The training method whose steps a run makes, whatever comes before them: what a self-test tries once."""
    family = families()[method]
    if family == "trained":
        return method
    return FINE_TUNING if family == "scores" or method == "by-index" else "dense"
