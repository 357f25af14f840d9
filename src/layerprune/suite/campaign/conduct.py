"""The campaign itself: jobs side by side, the next one as soon as one ends, and all stopped in good time.

A free place first measures a step of the kind of run that comes next, where that is not known yet.
"""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from layerprune.suite import config, store
from layerprune.suite.campaign import jobs, lanes, measuring
from layerprune.suite.campaign.estimates import Estimates, Kind
from layerprune.suite.campaign.lanes import Errand, Lanes
from layerprune.suite.campaign.opening import Opening, open_lanes
from layerprune.suite.campaign.places import AnyJob, Commands, Places, may_share_a_process
from layerprune.suite.campaign.schedule import choose
from layerprune.suite.campaign.todo import is_done, to_do, with_parents
from layerprune.suite.config import Preset
from layerprune.system.paths import RunKey
from layerprune.system.processes import Notice, noticed

STOP = 20.0
"""Seconds before the end of a campaign at which its runs are told to store their state."""
PATIENCE = 13.0
"""Seconds that they get for it; then the rest are killed and the archive is written."""
SHORTENED = ("diverged", "failed")
"""Runs with these statuses end early, and say nothing about how long others take."""
POLL = 0.1
"""Seconds between two looks at the jobs."""


@dataclass(frozen=True)
class Limits:
    """What a campaign may use: places for jobs, seconds, each run's threads and device (None: the preset's)."""

    jobs: int
    seconds: float
    threads: int = 1
    device: str | None = None
    fill: bool = False
    """Whether to begin a run that cannot finish in time if no other is left."""
    lanes: int | tuple[int, ...] | None = None
    """Runs at a time within one process, or several numbers to choose the fastest from; None: processes only."""
    beside: int = 1
    """Places for jobs while there are lanes."""


@dataclass(frozen=True)
class Outcome:
    """How a run of the campaign ended, what was forecast when it began, and the words of one that failed."""

    key: RunKey
    how: Literal["made", "stopped", "failed"]
    seconds: float
    forecast: float
    words: str = ""


@dataclass
class Campaign:
    """A campaign on its way through `planned`, which are runs of one preset by priority."""

    preset: Preset
    planned: list[RunKey]
    limits: Limits
    say: Callable[[str], None]
    commands: Commands | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    opening: Opening | None = None
    interrupted: bool = False
    waiting: list[RunKey] = field(default_factory=list)
    running: dict[RunKey, tuple[AnyJob, float]] = field(default_factory=dict)
    measurements: dict[Kind, AnyJob] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        everything = with_parents(self.preset, self.planned)
        self.parents = {key: set(config.prerequisites(self.preset, key)) for key in everything}
        self.estimates = Estimates(self.preset, everything)
        commands = self.commands or commands_of(self.preset, self.limits)
        self.places = Places(self.preset, commands, self.limits.jobs, self.limits.beside)
        self.waiting = to_do(self.preset, self.planned)
        self.order = {key: place for place, key in enumerate(self.waiting)}

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    @property
    def left(self) -> float:
        """Seconds until runs are told to end."""
        return self.limits.seconds - STOP - self.elapsed

    def conduct(self) -> None:
        """Make runs until the time is up, nothing that fits is left, or SIGTERM or SIGINT arrives."""
        with noticed(signal.SIGTERM, signal.SIGINT) as notice:
            try:
                self._open_lanes(notice)
                while self.left > 0 and not notice and self._goes_on():
                    time.sleep(POLL)
            finally:
                self.interrupted = bool(notice)
                self._stop()
                self.places.close_lanes()

    def _open_lanes(self, notice: Notice) -> None:
        """Of a plan of which anything may be made in lanes."""
        able = [key for key in self.waiting if may_share_a_process(self.preset, key)]
        if self.limits.lanes is None or not able:
            return
        device = self.limits.device or self.preset.resources.device
        self.say("opening lanes")
        host = self.places.lanes = Lanes(lanes.command(able[0].preset, device, self.limits.threads))
        self.opening = open_lanes(host, self.places, able, self.limits.lanes, lambda: self.left > 0 and not notice)
        for line in self.opening.lines:
            self.say(line)
        if host.status() is not None:
            self._lose_lanes(host.printed())

    def unmade(self) -> list[RunKey]:
        """Runs that are still to be made, by priority."""
        return to_do(self.preset, self.planned)

    def _goes_on(self) -> bool:
        """One look at the jobs, and new ones in free places; returns whether there are any."""
        self._collect()
        if not self.waiting and not self.running:
            self._look_again()
        while self._begin_next():
            pass
        return bool(self.running or self.measurements)

    def _look_again(self) -> None:
        """Runs that became stale because a parent was made again, unless they were already tried."""
        tried = {outcome.key for outcome in self.outcomes}
        again = [key for key in self.unmade() if key not in tried] if tried else []
        self.waiting = [key for key in again if not self.parents[key] & self._unsuccessful()]
        self.order = {key: place for place, key in enumerate(self.waiting)}

    # --- beginning ------------------------------------------------------------------------------------------------

    def _begin_next(self) -> bool:
        """Begin the first run that fits; while its step is being measured, free places measure other steps."""
        candidates = [key for key in self.waiting if self.places.has_room(key)]
        unmeasured = [key for key in candidates if self.estimates.kinds[key] not in self.measurements]
        key = self._choose(candidates)
        if key is not None and (forecast := self.estimates.seconds(key)) is not None:
            self._begin(key, forecast)
        elif (key := self._choose([key for key in unmeasured if self.estimates.seconds(key) is None])) is not None:
            self._measure(key)
        return key is not None

    def _choose(self, candidates: list[RunKey]) -> RunKey | None:
        unmade = {*self.waiting, *self.running, *self._unsuccessful()}
        return choose(candidates, self.parents, unmade, self.estimates.seconds, self.left, self.limits.fill)

    def _unsuccessful(self) -> set[RunKey]:
        return {outcome.key for outcome in self.outcomes if outcome.how != "made"}

    def _measure(self, key: RunKey) -> None:
        kind = self.estimates.kinds[key]
        alike = [key, *(other for other in self.estimates.of_kind(kind) if other != key)]
        self.say(f"measuring a training step of {key.arch} on {key.dataset}")
        self.measurements[kind] = self.places.measure(alike)

    def _begin(self, key: RunKey, forecast: float) -> None:
        self.waiting.remove(key)
        self.say(f"{key}: begins, about {forecast:.0f} s; {max(0.0, self.left):.0f} s are left")
        self.running[key] = self.places.run(key), forecast

    # --- ending ---------------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        for kind, job in list(self.measurements.items()):
            if (status := job.status()) is not None:
                del self.measurements[kind]
                self._measured(kind, job, status)
        for key, (job, forecast) in list(self.running.items()):
            if (status := job.status()) is not None:
                del self.running[key]
                self._ended(key, job, status, forecast)

    def _measured(self, kind: Kind, job: AnyJob, status: int) -> None:
        words = job.printed()
        if status == 0 and (measured := measuring.parsed(words, job.seconds)) is not None:
            self.estimates.measured[kind] = measured
            return
        if isinstance(job, Errand) and status == lanes.LOST:
            self._lose_lanes(words)
            return
        if isinstance(job, Errand):
            for key in self.estimates.of_kind(kind):
                self.places.try_again_apart(key)
            self._remark(f"measuring a step broke down in a lane, and is tried again in a process:\n{words}")
            return
        for key in [each for each in self.waiting if self.estimates.kinds[each] == kind]:
            self.waiting.remove(key)
            self._note(Outcome(key, "failed", 0.0, 0.0, f"its training step could not be measured:\n{words}"))

    def _ended(self, key: RunKey, job: AnyJob, status: int, forecast: float) -> None:
        words = job.printed()
        if isinstance(job, Errand) and status in (lanes.CRASHED, lanes.LOST):
            self._leaves_its_lane(key, status, words)
        elif jobs.was_stopped(status):
            self._note(Outcome(key, "stopped", job.seconds, forecast))
        elif status == 0 and is_done(self.preset, key):
            if store.find(key).status not in SHORTENED:
                self.estimates.learn(key, job.seconds)
            self._note(Outcome(key, "made", job.seconds, forecast))
        else:
            self._note(Outcome(key, "failed", job.seconds, forecast, f"exit status {status}\n{words}"))

    def _leaves_its_lane(self, key: RunKey, status: int, words: str) -> None:
        """A run whose lane, or all lanes, broke down is tried once more, in a process of its own."""
        if status == lanes.CRASHED:
            self.places.try_again_apart(key)
            self._remark(f"{key} broke down in its lane and is tried again in a process of its own, eagerly:\n{words}")
        else:
            self._lose_lanes(words)
        self.waiting = sorted([*self.waiting, key], key=self.order.__getitem__)

    def _lose_lanes(self, words: str) -> None:
        if self.places.lanes is not None:
            self._remark(f"the lanes broke down; all runs have processes of their own now:\n{words}")
            self.places.close_lanes()

    def _remark(self, text: str) -> None:
        self.remarks.append(text)
        self.say(text)

    def _note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        last = outcome.words.splitlines()[-1:]
        self.say(": ".join([f"{outcome.key}: {outcome.how} after {outcome.seconds:.0f} s", *last]))

    def _stop(self) -> None:
        """Tell every job to end, and end those that do not."""
        everything = [*self.measurements.values(), *(job for job, _ in self.running.values())]
        for job in everything:
            job.tell_to_end()
        until = time.monotonic() + PATIENCE
        while any(job.status() is None for job in everything) and time.monotonic() < until:
            time.sleep(POLL)
        for job in everything:
            if job.status() is None:
                job.kill()
        self.measurements.clear()
        for key, (job, forecast) in self.running.items():
            self._stopped(key, job, forecast)
        self.running.clear()

    def _stopped(self, key: RunKey, job: AnyJob, forecast: float) -> None:
        """A run that was told to end: it may have finished just then, or been too slow to store its state."""
        if job.status() == -signal.SIGKILL:
            self._note(Outcome(key, "stopped", job.seconds, forecast, "ended without storing where it was"))
        else:
            self._ended(key, job, job.status(), forecast)


def commands_of(preset: Preset, limits: Limits) -> Commands:
    """The package's own processes."""
    device = limits.device or preset.resources.device
    return Commands(
        run=lambda key: jobs.run_command(key, limits.device, limits.threads),
        measure=lambda keys: measuring.command(device, limits.threads, keys),
    )
