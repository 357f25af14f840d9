"""The bar of a run: what it shows in 80 columns, where it begins, and what it says of the time left."""

import io
import re

import pytest
from networks import a_run, a_trainer
from rich.console import Console

from layerprune.system.progress import Progress

LONGEST = "epoch 100 of 200  loss 12.3456  val 99.99 %  sections 110"


@pytest.fixture
def clock() -> list[float]:
    """Seconds now; a test sets them."""
    return [0.0]


@pytest.fixture
def bar(clock: list[float]) -> Progress:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    found = Progress("laptop/cifar10/preact-resnet-20/stochastic-depth/initial-scale-0.5/seed0", console)
    found.bar.get_time = lambda: clock[0]
    return found


def line(bar: Progress) -> str:
    console = bar.bar.console
    with console.capture() as shown:
        console.print(bar.bar.get_renderable())
    (found,) = shown.get().splitlines()
    return found


def test_text_bar_and_time_left_share_eighty_columns(bar: Progress) -> None:
    bar.report(100, 200, LONGEST)
    assert re.fullmatch(rf"{LONGEST} [━╸╺ ]{{8,}} -:--:--", line(bar)) and len(line(bar)) == 80


def test_a_bar_that_resumes_begins_where_it_is(bar: Progress, clock: list[float]) -> None:
    """Steps 800 to 820 took ten seconds: 90 are left for 180 steps. The 800 before count for nothing."""
    for done, seconds in ((800, 3.0), (810, 8.0), (820, 13.0)):
        clock[0] = seconds
        bar.report(done, 1000, "epoch 9 of 10")
    task = bar.bar.tasks[0]
    assert (task.completed, task.total) == (820, 1000)
    assert task.speed == pytest.approx(2) and task.time_remaining == 90
    assert line(bar).count("━") > 40  # of about 58


@pytest.mark.parametrize("again", [(0, 1000), (5, 300)])
def test_another_training_begins_another_bar(bar: Progress, clock: list[float], again: tuple[int, int]) -> None:
    """Fine-tuning after a training, or a parent's run before one."""
    bar.report(0, 1000, "")
    clock[0] = 5.0
    bar.report(900, 1000, "")
    bar.report(*again, "")
    assert (bar.bar.tasks[0].completed, bar.bar.tasks[0].total) == again
    assert bar.bar.tasks[0].speed is None


def test_a_training_reports_before_its_first_step_and_names_the_epoch() -> None:
    trainer = a_trainer(a_run("dense", duration="3ep"))
    told = []
    object.__setattr__(trainer.job, "report", lambda *words: told.append(words))
    trainer.run()
    assert told[0][0] == 0 and told[0][2].startswith("epoch 1 of 3  loss -  val ")
    total = trainer.job.steps_total
    assert {words[1] for words in told} == {total} and told[-1][0] == total
    ends = [text.split("  ")[0] for done, _, text in told if done % (total // 3) == 0]
    assert ends == ["epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3", "epoch 3 of 3"]


def test_without_a_terminal_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("a run") as progress:
        progress.report(1, 2, "half")
        progress.say("a line")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "a line\n")
