"""Processes that share a run: what they sum, what they compare, and what they say when one of them dies."""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from together import Answers, run_together

from layerprune.errors import LayerpruneError
from layerprune.system import processes
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup, lost
from layerprune.system.processes import TorchrunPlace

# --- in the processes -----------------------------------------------------------------------------------------


def sums(group: ProcessGroup) -> list:
    whole, parts = torch.tensor([1.0 + group.rank]), torch.full((2, 3), 10.0 * group.rank)
    group.add_up(whole, parts)
    return [whole.tolist(), parts.tolist()]


def flags(group: ProcessGroup) -> list:
    return [group.any(False), group.any(group.rank == 1), group.any(True)]


def agreement(group: ProcessGroup) -> list:
    group.agree("the same", [1, 2, None])
    return ["agreed"]


def disagreement(group: ProcessGroup) -> list:
    group.agree("sections to remove", [3, group.rank])
    return ["agreed"]


def death(group: ProcessGroup) -> list:
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    group.add_up(torch.ones(1))
    return ["nothing noticed"]


# --- here -----------------------------------------------------------------------------------------------------


@pytest.fixture
def together(tmp_path: Path) -> Callable[[Callable], Answers]:
    """Run a task in two processes; what each answered, None for one that died."""
    return partial(run_together, folder=tmp_path)


def test_sums_are_over_all_processes(together: Callable) -> None:
    assert together(sums).texts == ["[[3.0], [[10.0, 10.0, 10.0], [10.0, 10.0, 10.0]]]"] * 2


def test_a_flag_that_one_raises_is_up_for_all(together: Callable) -> None:
    assert together(flags).texts == ["[False, True, True]"] * 2


def test_who_agrees_goes_on_and_who_does_not_is_told_what_differs(together: Callable) -> None:
    assert together(agreement).texts == ["['agreed']"] * 2
    for rank, text in enumerate(together(disagreement).texts):
        assert text.startswith("error: the processes of this run disagree on sections to remove: rank 1")
        assert text.endswith(f"rank {rank} has [3, {rank}]")


def test_when_one_dies_the_other_ends_within_a_minute_with_one_line(together: Callable) -> None:
    answers = together(death)
    survivor, dead = answers.texts
    assert dead is None and answers.seconds < 60
    assert survivor.startswith("error: rank 0 of 2: another process of this run has died or does not answer")
    assert "\n" not in survivor


def test_alone_nothing_is_changed_and_everything_agrees() -> None:
    values = torch.tensor([1.0, 2.0])
    SINGLE_PROCESS.add_up(values)
    SINGLE_PROCESS.agree("anything", [1])
    assert (
        values.tolist() == [1.0, 2.0]
        and not SINGLE_PROCESS.any(False)
        and SINGLE_PROCESS.any(True)
        and SINGLE_PROCESS.first
    )


@pytest.mark.parametrize("count", [0, 1, 2, 7, 128])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_example_is_one_processs(count: int, size: int) -> None:
    parts = [torch.arange(count)[ProcessGroup(rank, size).mine(count)] for rank in range(size)]
    assert sorted(torch.cat(parts).tolist()) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_reason_of_a_loss_is_one_line() -> None:
    assert str(lost(ProcessGroup(1, 4), RuntimeError("Connection closed by peer\nstack"))).endswith(
        "rank 1 of 4: another process of this run has died or does not answer: Connection closed by peer"
    )


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, None),
        ({"RANK": "3"}, None),  # some clusters set it for other purposes
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, TorchrunPlace(3, 4, 1, 2)),
    ],
)
def test_the_place_is_what_torchrun_says(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], place: TorchrunPlace | None
) -> None:
    set_place(monkeypatch, environment)
    assert processes.torchrun_place() == place


@pytest.mark.parametrize(
    "environment",
    [{"WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}],
    ids=["half", "no number"],
)
def test_half_of_a_place_is_refused(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    set_place(monkeypatch, environment)
    with pytest.raises(LayerpruneError, match="LOCAL_RANK"):
        processes.torchrun_place()


def set_place(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
