"""GPUs are lent one by one: to as many runs as may share them, to the next when one dies. No GPU is needed."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from layerprune.errors import LayerpruneError
from layerprune.system import devices

CUDA = torch.device("cuda")
HOLDER = """
import sys, time, torch
from layerprune.system import devices
devices.gpus = lambda: ["one", "two"]
with devices.borrowed(torch.device("cuda"), 1, print) as device:
    print(device, flush=True)
    time.sleep(600)
"""


def silent(line: str) -> None:
    raise AssertionError(f"nothing is to be said: {line}")


@pytest.fixture(autouse=True)
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs, and a folder for temporary files that is nobody else's."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # where tempfile remembers the folder
    monkeypatch.setattr(devices, "gpus", lambda: ["one", "two"])
    monkeypatch.setattr(devices, "SECONDS_BETWEEN_TRIES", 0.01)


@pytest.fixture
def holders() -> Iterator[list[subprocess.Popen]]:
    """Two other processes, a GPU each."""
    command = [sys.executable, "-c", HOLDER]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    try:
        assert sorted(each.stdout.readline().strip() for each in started) == ["cuda:0", "cuda:1"]
        yield started
    finally:
        for each in started:
            each.kill()
            each.communicate()


def test_a_cpu_is_lent_to_everybody() -> None:
    with devices.borrowed(torch.device("cpu"), 1, silent) as device, devices.borrowed(device, 1, silent) as again:
        assert device == again == torch.device("cpu")


def test_runs_spread_over_the_gpus_before_they_share_one() -> None:
    with ExitStack() as stack:
        lent = [stack.enter_context(devices.borrowed(CUDA, 2, silent)) for _ in range(4)]
        assert [device.index for device in lent] == [0, 1, 0, 1]


def test_a_gpu_that_is_given_back_is_lent_again() -> None:
    with devices.borrowed(CUDA, 1, silent):
        for _ in range(2):
            with devices.borrowed(CUDA, 1, silent) as second:
                assert second.index == 1


def test_a_numbered_gpu_is_waited_for_though_another_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with ExitStack() as first:
        first.enter_context(devices.borrowed(torch.device("cuda:1"), 1, silent))
        monkeypatch.setattr(devices.time, "sleep", lambda seconds: first.close())  # meanwhile the other run ends
        with devices.borrowed(torch.device("cuda:1"), 1, said.append) as device:
            assert device.index == 1
    assert said == ["GPU 1 is taken by other runs (1 at a time); waiting"]


def test_a_run_that_is_killed_frees_its_gpu_and_the_wait_is_told_once(holders: list[subprocess.Popen]) -> None:
    said: list[str] = []
    tries = []

    def kill_one_at_the_third_try(seconds: float) -> None:
        tries.append(seconds)
        if len(tries) == 3:
            holders[0].send_signal(signal.SIGKILL)
            holders[0].wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices.time, "sleep", kill_one_at_the_third_try)
        with devices.borrowed(CUDA, 1, said.append) as device:
            assert device.type == "cuda" and len(tries) == 3
    assert said == ["all 2 GPUs are taken by other runs (1 at a time); waiting"]


def test_measuring_takes_every_place_on_every_gpu() -> None:
    said: list[str] = []
    with devices.whole_machine(CUDA, 2, silent):
        assert devices._free_place(devices.gpus(), [0, 1], range(2)) is None
    with devices.borrowed(CUDA, 2, silent) as device:
        assert device.index == 0
    with devices.whole_machine(torch.device("cpu"), 2, said.append):
        assert devices._free_place(devices.gpus(), [0], [0]) is not None  # measuring a CPU takes no GPU


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / f"layerprune-gpus-{os.getuid()}").write_text("in the way")
    with (
        pytest.raises(LayerpruneError, match=r"layerprune-gpus-.*: cannot write: "),
        devices.borrowed(CUDA, 1, silent),
    ):
        pass


class _Event:
    """Stands for an event of CUDA; notes what happens to it."""

    happened: ClassVar[list[tuple[str, int]]] = []
    made = 0

    def __init__(self, blocking: bool) -> None:
        assert blocking  # whoever waits leaves its core to others
        self.number = _Event.made
        _Event.made += 1

    def record(self) -> None:
        self.happened.append(("begun", self.number))

    def synchronize(self) -> None:
        self.happened.append(("awaited", self.number))


def test_a_thread_waits_for_work_that_lies_too_far_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    pace = devices.Pace(2, torch.device("cuda"))
    for _ in range(4):
        pace.keep()
    begun = [("begun", 0), ("begun", 1), ("begun", 2), ("awaited", 0), ("begun", 3), ("awaited", 1)]
    assert _Event.happened == begun
    devices.Pace(0, torch.device("cpu")).keep()
    assert _Event.happened == begun


def test_kernels_are_tried_only_within_the_context_whatever_happens_there() -> None:
    for before in (False, True):
        torch.backends.cudnn.benchmark = before
        with pytest.raises(ZeroDivisionError), devices.fastest_convolutions():
            assert torch.backends.cudnn.benchmark
            raise ZeroDivisionError
        assert torch.backends.cudnn.benchmark is before
    torch.backends.cudnn.benchmark = False


@pytest.mark.gpu
def test_gpus_have_lasting_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    names = devices.gpus()
    assert len(set(names)) == len(names) == torch.cuda.device_count()
    assert not any(name.isdigit() for name in names)
