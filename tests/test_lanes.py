"""Runs that share a process, a lane each, come out as if each had been made alone, and all of them end in good time."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import torch
from campaign_helpers import (
    DENSE,
    GATED,
    MAGNITUDE,
    RANDOM,
    RUNS,
    kill_group,
    make,
    numbers,
    run_key,
    start_campaign,
    wait_for,
    write_study,
)

from layerprune.suite import config, store
from layerprune.suite.campaign.host import Host
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

SEEDS = [run_key("dense", seed=seed) for seed in (0, 1)]


@pytest.fixture
def march(root: Path) -> Path:
    """A root with the preset and the plan `march`."""
    return write_study(root)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Numbers of runs that were made one after the other, without lanes."""
    runs = [*RUNS, *SEEDS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPRUNE_ROOT", str(write_study(tmp_path_factory.mktemp("alone"))))
        make(runs)
        return numbers(runs)


class Served:
    """A host that another thread talks to."""

    def __init__(self, count: int) -> None:
        self.messages: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self.answers: dict[Any, dict[str, Any]] = {}
        preset = config.load_preset("march")
        host = Host(preset, "cpu", 1, lambda answer: self.answers.update({answer["id"]: answer}))
        self.thread = threading.Thread(target=host.serve, args=(iter(self.messages.get, None),))
        self.thread.start()
        self.tell("open", count=count)

    def tell(self, what: str, **told: Any) -> None:
        self.messages.put({"do": what} | told)

    def run(self, *keys: RunKey) -> None:
        for key in keys:
            self.tell("run", id=str(key), run=str(key))

    def wait(self, *keys: RunKey) -> list[int]:
        """How these runs ended."""
        until = time.monotonic() + 120
        while not {str(key) for key in keys} <= self.answers.keys():
            assert time.monotonic() < until, self.answers
            time.sleep(0.02)
        return [self.answers[str(key)]["status"] for key in keys]

    def close(self) -> None:
        self.messages.put(None)
        self.thread.join()


@pytest.fixture
def served(march: Path) -> Iterator[Callable[[int], Served]]:
    """Opens lanes; they are closed with the test."""
    opened: list[Served] = []

    def serve(count: int) -> Served:
        opened.append(Served(count))
        return opened[-1]

    yield serve
    for each in opened:
        each.close()


# --- the same numbers -------------------------------------------------------------------------------------------


def test_runs_side_by_side_are_those_made_alone_and_say_that_they_were(
    served: Callable[[int], Served], alone: dict[str, dict]
) -> None:
    host = served(3)
    host.run(*SEEDS, GATED)
    assert host.wait(*SEEDS, GATED) == [0, 0, 0]
    host.run(MAGNITUDE, RANDOM)
    assert host.wait(MAGNITUDE, RANDOM) == [0, 0]
    made = [*RUNS, *SEEDS]
    assert numbers(made) == {str(key): alone[str(key)] for key in made}
    assert {store.find(key).provenance.lanes for key in made} == {3}


# --- the end ----------------------------------------------------------------------------------------------------


def test_told_to_end_every_lane_stores_where_it_is_and_others_go_on_from_there(
    served: Callable[[int], Served], alone: dict[str, dict]
) -> None:
    first = served(2)
    first.run(*SEEDS)
    for key in SEEDS:
        wait_for(paths.state(key))
    first.tell("end")
    assert first.wait(*SEEDS) == [75, 75]
    second = served(2)
    second.run(*SEEDS)
    assert second.wait(*SEEDS) == [0, 0]
    assert [store.find(key).resumed for key in SEEDS] == [1, 1]
    assert numbers(SEEDS) == {str(key): alone[str(key)] for key in SEEDS}


def test_a_campaign_in_lanes_killed_at_random_moments_ends_with_the_same_numbers(
    march: Path, alone: dict[str, dict]
) -> None:
    plan = "{preset: march, runs: [{dataset: digits, arch: lenet-300-100, method: [dense, gated, random], seeds: 0}]}"
    files.write_text(paths.campaign_file("march"), plan)
    words = ["--minutes", "5", "--lanes", "2"]
    for path, longest in ((paths.state(DENSE), 0.5), (paths.state(GATED), 2.0)):
        process = start_campaign(march, *words)
        wait_for(path)
        time.sleep(random.uniform(0, longest))
        kill_group(process)
    process = start_campaign(march, *words)
    printed, told = process.communicate()
    assert process.returncode == 0, told
    runs = [DENSE, GATED, RANDOM]
    assert numbers(runs) == {str(key): alone[str(key)] for key in runs}
    assert torch.get_num_threads() == 1
