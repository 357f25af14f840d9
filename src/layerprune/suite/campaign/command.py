"""`layerprune campaign`: a campaign, its archive and its summary; or a forecast of them."""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from layerprune.errors import LayerpruneError
from layerprune.suite import config
from layerprune.suite.campaign import archive, measuring, opening, parts, summary
from layerprune.suite.campaign.conduct import STOP, Campaign, Limits, Outcome, commands_of
from layerprune.suite.campaign.estimates import Estimates
from layerprune.suite.campaign.jobs import Job
from layerprune.suite.campaign.parts import Part
from layerprune.suite.campaign.plan import runs_of
from layerprune.suite.campaign.schedule import simulate
from layerprune.suite.campaign.todo import is_done, to_do
from layerprune.suite.config import Preset
from layerprune.system import files, paths, processes
from layerprune.system.paths import RunKey

Say = Callable[[str], None]
WHOLE = Part()


@dataclass(frozen=True)
class Result:
    """What a campaign achieved."""

    summary: str
    archive: Path
    interrupted: bool
    failed: list[Outcome]


def conduct(name: str, limits: Limits, folder: Path | None, say: Say, part: Part = WHOLE) -> Result:
    """Make what fits of the plan config/campaigns/<name>.yaml, or of a part, and write the archive into `folder`."""
    preset, planned = _read(name, part)
    campaign = Campaign(preset, planned, _checked(limits), say)
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = (folder or paths.campaign_archives()) / f"{part.label(name)}-{moment}.tar.gz"
    files.check_writable(target.parent)  # now, not after hours
    campaign.conduct()
    text = _pack(part.label(name), campaign, target)
    failed = [outcome for outcome in campaign.outcomes if outcome.how == "failed"]
    return Result(text, target, campaign.interrupted, failed)


def _pack(name: str, campaign: Campaign, target: Path) -> str:
    """The campaign's own runs first, then those that an earlier campaign, perhaps killed, left in their folders."""
    own = [outcome.key for outcome in campaign.outcomes if outcome.how == "made"]
    done = [key for key in dict.fromkeys([*own, *campaign.parents]) if is_done(campaign.preset, key)]
    made = [key for key in done if key in own or archive.is_only_in_folder(key)]
    return archive.write(target, campaign.preset, made, campaign.unmade(), partial(summary.of_campaign, name, campaign))


def rehearse(name: str, limits: Limits, say: Say, part: Part = WHOLE) -> str:
    """A forecast of a campaign: steps are measured, nothing is run."""
    if limits.lanes is not None:
        raise LayerpruneError("--dry-run: forecasts runs in processes (--jobs); leave --lanes out")
    preset, planned = _read(name, part)
    runs, budget = to_do(preset, planned), _checked(limits).seconds - STOP
    estimates = Estimates(preset, runs)
    for key in runs:
        if estimates.seconds(key) is None:
            _measure(estimates, preset, limits, key, say)
    seconds = {key: estimates.seconds(key) for key in runs}
    parents = {key: set(config.prerequisites(preset, key)) for key in runs}
    return summary.of_dry_run(simulate(runs, parents, seconds, limits.jobs, budget, limits.fill), runs, budget)


def _measure(estimates: Estimates, preset: Preset, limits: Limits, key: RunKey, say: Say) -> None:
    kind = estimates.kinds[key]
    say(f"measuring a training step of {key.arch} on {key.dataset}")
    job = Job(commands_of(preset, limits).measure([key, *(each for each in estimates.of_kind(kind) if each != key)]))
    status, seconds, words = job.process.wait(), job.seconds, job.printed()
    measured = measuring.parsed(words, seconds) if status == 0 else None
    if measured is None:
        raise LayerpruneError(f"{key}: its training step could not be measured: {words}")
    estimates.measured[kind] = measured


def _read(name: str, part: Part) -> tuple[Preset, list[RunKey]]:
    plan = config.load_campaign(name)
    preset = config.load_preset(plan.preset)
    return preset, parts.runs_in(part, preset, runs_of(plan, preset, name))


LONGEST = 366 * 86_400.0
"""Seconds of a campaign."""


def _checked(limits: Limits) -> Limits:
    if not limits.seconds <= LONGEST:  # as is not a number
        raise LayerpruneError(f"--minutes: must be at most {LONGEST / 60:,.0f}, not {limits.seconds / 60:g}")
    if limits.seconds <= STOP:
        raise LayerpruneError(
            f"--minutes: {limits.seconds / 60:g} is too short: "
            f"the last {STOP:.0f} seconds are for states and the archive"
        )
    return limits


def limits_of(
    name: str, minutes: float, jobs: int | None, device: str | None, fill: bool, lanes: str | None = None
) -> Limits:
    """The limits of a campaign whose preset says how many threads a run has, and how many runs share a GPU."""
    resources = config.load_preset(config.load_campaign(name).preset).resources
    places = max(1, _cores() // resources.threads)
    gpus = _gpus(device or resources.device)
    most = min(places, gpus * resources.runs_per_gpu) if gpus else places
    counts = tuple(count for count in opening.COUNTS if gpus or count <= places)
    return Limits(jobs or most, 60 * minutes, resources.threads, device, fill, _lanes(lanes, counts), jobs or 1)


def _lanes(told: str | None, counts: tuple[int, ...]) -> int | tuple[int, ...] | None:
    if told is None or told == "auto":
        return counts if told else None
    if not re.fullmatch("[1-9][0-9]{0,2}", told):
        raise LayerpruneError(f"--lanes: '{told}' is neither a number from 1 to 999 nor auto")
    return int(told)


def _cores() -> int:
    """Cores that this process may use: a scheduler often grants only part of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus(device: str) -> int:
    """How many GPUs the runs may share out among them; 0 where they run on the CPU."""
    if device == "cpu":
        return 0
    if device.startswith("cuda:"):
        return 1
    return processes.gpus_given()
