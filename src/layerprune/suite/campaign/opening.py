"""Before lanes open: which ways of training can be trusted in them here, and how many lanes are fastest."""

import json
import math
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

from layerprune.suite import config
from layerprune.suite.campaign.lanes import Errand, Lanes
from layerprune.suite.campaign.places import Places, way_of
from layerprune.suite.config import Preset
from layerprune.system.paths import RunKey

COUNTS = (1, 2, 4, 8, 12)
"""Lanes that are tried."""
SECONDS = 5.0
"""That each number of lanes is tried."""
UNTRIED = 4
"""Lanes where trying failed."""
POLL = 0.1


@dataclass
class Opening:
    """What was found; both are empty where nothing was tried. Lines are for the summary."""

    lines: list[str] = field(default_factory=list)
    count: int = 0


def open_lanes(
    host: Lanes, places: Places, runs: list[RunKey], lanes: int | tuple[int, ...], goes_on: Callable[[], bool]
) -> Opening:
    """Test, choose a number if `lanes` has several, and open. Runs whose recorded steps cannot be trusted lose their
    lanes.

    Waits no longer than `goes_on`, and without the process not at all.
    """
    found = Opening()
    if not _warmed_up(host, places.preset, runs, goes_on):
        return found
    for way, errand in _tests(host, places.preset, runs).items():
        status = _wait(errand, goes_on)
        if status is None:
            return found
        _judge(way, errand, places, runs, found)
    found.count = lanes if isinstance(lanes, int) else _fastest(host, runs[0], lanes, goes_on, found)
    host.open(found.count)
    return found


def _wait(errand: Errand, goes_on: Callable[[], bool]) -> int | None:
    while (status := errand.status()) is None and goes_on():
        time.sleep(POLL)
    return status


def _warmed_up(host: Lanes, preset: Preset, runs: Iterable[RunKey], goes_on: Callable[[], bool]) -> bool:
    """Let the device choose kernels for each network whose steps are recorded, one after the other; False: time is up,
    or the process has gone. A network that fails here says so in its runs.
    """
    first: dict[Hashable, RunKey] = {}
    for key in runs:
        if config.resolve(preset, key).training.engine == "graphs":
            first.setdefault((key.dataset, key.arch), key)
    return all(_wait(host.ask("warm_up", run=str(key)), goes_on) is not None for key in first.values())


# --- the self-test --------------------------------------------------------------------------------------------------


def _tests(host: Lanes, preset: Preset, runs: Iterable[RunKey]) -> dict[str, Errand]:
    """Begin a test for each way of training whose steps are recorded: side by side, as they will be."""
    first: dict[str, RunKey] = {}
    for key in runs:
        if config.resolve(preset, key).training.engine == "graphs":
            first.setdefault(way_of(key.method), key)
    if first:
        host.open(len(first))
    return {way: host.ask("check", run=str(key)) for way, key in first.items()}


def _judge(way: str, errand: Errand, places: Places, runs: Iterable[RunKey], found: Opening) -> None:
    verdict = json.loads(errand.printed()) if errand.status() == 0 else {"apart": math.nan, "bound": 0.0}
    if verdict["apart"] is None:
        found.lines.append(f"{way}: steps are not recorded; in processes beside the lanes")
        places.keep_apart(runs, way, eagerly=False)
    elif verdict["apart"] <= verdict["bound"]:
        found.lines.append(f"{way}: recorded steps agree with eager ones ({verdict['apart']:.1e} apart)")
    else:
        why = f"{verdict['apart']:.1e} apart" if errand.status() == 0 else _last_line(errand)
        found.lines.append(
            f"{way}: recorded steps DIFFER from eager ones ({why}); eagerly, in processes beside the lanes"
        )
        places.keep_apart(runs, way, eagerly=True)


def _last_line(errand: Errand) -> str:
    return next(iter(errand.printed().strip().splitlines()[-1:]), "no reason was told")


# --- the number of lanes --------------------------------------------------------------------------------------------


def _fastest(host: Lanes, key: RunKey, counts: tuple[int, ...], goes_on: Callable[[], bool], found: Opening) -> int:
    errand = host.ask("sweep", run=str(key), counts=counts, seconds=SECONDS)
    if _wait(errand, goes_on) != 0:
        count = max((each for each in counts if each <= UNTRIED), default=1)
        found.lines.append(f"lanes: their number could not be tried ({_last_line(errand)}); {count}")
        return count
    speeds = {int(count): speed for count, speed in json.loads(errand.printed())}
    best = max(speeds, key=speeds.__getitem__)
    told = ", ".join(f"{count}: {speed:,.0f}" for count, speed in speeds.items())
    found.lines.append(f"lanes, dense {key.arch} on {key.dataset}, images/s by their number: {told}; chosen: {best}")
    return best
