"""A run that was killed goes on where it was, and ends with the same numbers, bit for bit.

Runs are made by the real command line in processes that are really killed (SIGKILL). They are forked from a server
that has imported the package once. State is written after every epoch here (10 s pass between two writes otherwise).
"""

import csv
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import warm

from layerprune import cli
from layerprune.core.training.loop import Trainer
from layerprune.core.training.state import StateFile
from layerprune.errors import LayerpruneError
from layerprune.suite import config, record
from layerprune.suite import run as running
from layerprune.system import files, paths, processes
from layerprune.system.paths import RunKey

PRESET = """
resources: {state_seconds: 0}
training: {duration: 6ep, batch_size: 64, lr: 0.02}
finetune: {duration: 3ep}
datasets:
  digits:
    archs:
      mlp-residual-6: {}
      resnet-8: # running statistics, an image's own augmentation
        only: [gated]
        model: {removable: shape-preserving}
        training: {duration: 3ep, augment: crop-flip, schedule: linear}
        methods: {gated: {settings: {nu: 10.0, consolidate_at: 0.75}}}
    methods:
      dense: {}
      gated:
        settings: {nu: 0.003, theta_lr: 2.0, warmup: 1ep, check_interval: 5, checks: 2, consolidate_at: 0.8}
        variants:
          straight-through: {settings: {estimator: straight_through}}
          finite-difference: {settings: {estimator: finite_difference}}
          disarm: {settings: {estimator: disarm}}
          macs: {settings: {cost: macs}, training: {augment: shift, schedule: step, lr_warmup: 10it}}
          bf16: {training: {precision: bf16}}
          share: {settings: {drawn_share: 0.25, warmup_gates: open}}
      epsilon-resnet: {settings: {epsilon: 1.0, start: 0.3, patience: 1ep}}
      gal: {settings: {search: 2ep, penalty: 1.0, imitation: 0.1}}
      magnitude: {settings: {keep: 2, removal: iterative, distill: 0.5}}
      sss: {settings: {gamma: 0.15}}
      hard-concrete: {settings: {penalty: 0.1}}
      stochastic-depth: {settings: {keep: 3}}
      random: {settings: {keep: 3}}
      taylor: {settings: {keep: matched}}
      by-index: {settings: {keep_list: [1, 0, 1, 1, 0, 1]}}
      scratch-e: {}
      scratch-b: {}
"""
STEPS = 6 * 20
MOMENTS = sorted(random.Random(5).sample(range(1, STEPS), 5))


def run_key(method: str, variant: str = "default") -> RunKey:
    return RunKey("resume", "digits", "mlp-residual-6", method, variant, 0)


GATED = run_key("gated")


def make_root(folder: Path) -> Path:
    """A root with the preset above and no results."""
    config_folder = folder / "config"
    config_folder.mkdir(parents=True)
    (config_folder / "resume.yaml").write_text(PRESET)
    return folder


# --- processes that die ---------------------------------------------------------------------------------------


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_call(owner: Any, name: str, number: int, action: Callable[..., None]) -> None:
    """Let `action` see the arguments of the `number`-th call (from 1) of owner.name before it happens."""
    original, calls = getattr(owner, name), iter(range(1, 10**9))

    def counted(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            action(*arguments)
        return original(*arguments, **options)

    setattr(owner, name, counted)


def die_at_step(number: int) -> None:
    before_call(Trainer, "_step", number, lambda *_: die())


def die_after_removal() -> None:
    """Between a removal in the network and the end of its epoch, when the state knows nothing of it."""
    remove = Trainer._remove

    def remove_and_die(trainer: Trainer, indices: list[int]) -> None:
        remove(trainer, indices)
        if indices:
            die()

    Trainer._remove = remove_and_die


def die_half_written(number: int) -> None:
    """While the file of the `number`-th write is on its way to the disk, with half of its bytes there."""

    def halve(descriptor: int) -> None:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        die()

    before_call(files.os, "fsync", number, halve)


def die_before_clearing_up(number: int) -> None:
    before_call(StateFile, "delete", number, lambda *_: die())


def be_told_to_end_at_step(number: int) -> None:
    before_call(Trainer, "_step", number, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def be_told_twice_at_step(number: int) -> None:
    be_told_to_end_at_step(number)
    be_told_to_end_at_step(number)


def find_no_room_from_step(number: int) -> None:
    """From then on files of over 50 kB cannot be written, as on a full disk."""

    def fill(*_: Any) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    before_call(Trainer, "_step", number, fill)


def find_no_room_and_be_told_to_end_at_step(number: int) -> None:
    find_no_room_from_step(number)
    be_told_to_end_at_step(number)


def wait_at_step(number: int) -> None:
    """Say `started` and wait for `go`, both files in the root."""

    def wait(*_: Any) -> None:
        (paths.root() / "started").touch()
        while not (paths.root() / "go").exists():
            time.sleep(0.02)

    before_call(Trainer, "_step", number, wait)


def child(root: str, key: RunKey, disturb: Callable[..., None] | None, arguments: tuple) -> None:
    """In a process of its own: the command line on one run, its output in files."""
    os.environ["LAYERPRUNE_ROOT"] = root
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{root}/{name}.{os.getpid()}", os.O_WRONLY | os.O_CREAT), descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    if disturb is not None:
        disturb(*arguments)
    names = ("preset", "dataset", "arch", "method", "variant", "seed")
    words = [word for name in names for word in (f"--{name}", str(getattr(key, name)))]
    sys.argv = ["layerprune", "run", *words, "--device", "cpu", "--threads", "1"]
    cli.main()


@dataclass
class Process:
    """A started command line."""

    handle: multiprocessing.Process
    root: Path

    def end(self) -> int:
        """Exit status; -9 when it was killed."""
        self.handle.join(120)
        assert self.handle.exitcode is not None, "still running"
        print(self.stderr())  # pytest shows it when the test fails
        return self.handle.exitcode

    def stderr(self) -> str:
        return (self.root / f"stderr.{self.handle.pid}").read_text()


@pytest.fixture(scope="module")
def start() -> Callable[..., Process]:
    def start_process(root: Path, key: RunKey, disturb: Callable | None = None, *arguments: Any) -> Process:
        handle = warm.CONTEXT.Process(target=child, args=(str(root), key, disturb, arguments))
        handle.start()
        return Process(handle, root)

    return start_process


# --- what must be equal ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Files:
    """What two equal runs have in common."""

    record: dict[str, Any]
    curves: list[dict[str, str]]
    weights: bytes
    arch: str


def files_of(key: RunKey) -> Files:
    with open(paths.curves(key), newline="") as stream:
        curves = [
            {name: value for name, value in row.items() if name != "wall_seconds"} for row in csv.DictReader(stream)
        ]
    comparable = record.read(paths.record(key)).comparable()
    for name in ("commit", "dirty_digest"):  # who edits the checkout while the tests run changes no result
        del comparable["provenance"][name]
    return Files(comparable, curves, paths.weights(key).read_bytes(), paths.arch(key).read_text())


def assert_nothing_left(key: RunKey) -> None:
    """Four files of the run, none half-written; of the state folder at most the lock."""
    left = {path.name for path in paths.run_folder(key).iterdir()}
    assert left == {"record.json", "curves.csv", "arch.json", "weights.safetensors"}
    assert {path.name for path in paths.state(key).parent.iterdir()} <= {"lock"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, start: Callable[..., Process]) -> Path:
    """A root with a dense run and a gated one that nobody disturbed."""
    root = make_root(tmp_path_factory.mktemp("undisturbed"))
    for key in (run_key("dense"), GATED):
        assert start(root, key).end() == 0
    return root


@pytest.fixture
def expected(undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[RunKey], Files]:
    def of(key: RunKey) -> Files:
        with monkeypatch.context() as patch:
            patch.setenv("LAYERPRUNE_ROOT", str(undisturbed))
            return files_of(key)

    return of


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    return make_root(tmp_path)


# --- SIGKILL --------------------------------------------------------------------------------------------------


def test_the_disturbed_run_removes_sections_while_it_trains(expected: Callable) -> None:
    removed = [step for step in expected(GATED).record["removed_step"] if step is not None]
    assert removed and 20 < min(removed) < max(removed) < STEPS


@pytest.mark.parametrize("step", MOMENTS)
def test_killed_at_a_random_step_it_ends_the_same(root: Path, start: Callable, expected: Callable, step: int) -> None:
    assert start(root, GATED, die_at_step, step).end() == -signal.SIGKILL
    assert not paths.record(GATED).exists()
    assert start(root, GATED).end() == 0
    assert files_of(GATED) == expected(GATED)
    assert record.read(paths.record(GATED)).resumed == (1 if step > 20 else 0)
    assert_nothing_left(GATED)


def test_killed_across_a_removal_it_ends_the_same(root: Path, start: Callable, expected: Callable) -> None:
    assert start(root, GATED, die_after_removal).end() == -signal.SIGKILL
    assert start(root, GATED).end() == 0
    assert files_of(GATED) == expected(GATED)


def test_killed_again_and_again_it_ends_the_same(root: Path, start: Callable, expected: Callable) -> None:
    for step in (25, 30, 45):  # each counted from the start of its own process
        assert start(root, GATED, die_at_step, step).end() == -signal.SIGKILL
    assert start(root, GATED).end() == 0
    assert record.read(paths.record(GATED)).resumed == 3
    assert files_of(GATED) == expected(GATED)


# The first write tests the folder, then follow the states of six epochs, weights, arch, curves and record.
@pytest.mark.parametrize("number", [2, 4, 8, 11], ids=["first state", "later state", "weights", "record"])
def test_killed_while_a_file_is_written_it_ends_the_same(
    root: Path, start: Callable, expected: Callable, number: int
) -> None:
    assert start(root, GATED, die_half_written, number).end() == -signal.SIGKILL
    assert not paths.record(GATED).exists()
    assert start(root, GATED).end() == 0
    assert files_of(GATED) == expected(GATED)
    assert_nothing_left(GATED)


def test_killed_after_its_record_was_written_it_is_done(root: Path, start: Callable, expected: Callable) -> None:
    assert start(root, GATED, die_before_clearing_up, 1).end() == -signal.SIGKILL
    assert paths.state(GATED).exists()
    again = start(root, GATED)
    assert again.end() == 0
    assert "up to date" in again.stderr()
    assert files_of(GATED) == expected(GATED)
    assert_nothing_left(GATED)


def test_a_killed_fine_tuning_ends_the_same(root: Path, undisturbed: Path, start: Callable) -> None:
    key = run_key("random")
    shutil.copytree(undisturbed / "results", root / "results")
    assert start(root, key).end() == 0
    expected = files_of(key)
    shutil.rmtree(paths.run_folder(key))
    assert start(root, key, die_at_step, 30).end() == -signal.SIGKILL
    assert start(root, key).end() == 0
    assert record.read(paths.record(key)).resumed == 1
    assert files_of(key) == expected


# --- a full disk ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("disturb", [find_no_room_from_step, find_no_room_and_be_told_to_end_at_step])
def test_without_room_for_a_state_the_one_before_it_stays_and_goes_on(
    root: Path, start: Callable, expected: Callable, disturb: Callable
) -> None:
    stopped = start(root, GATED, disturb, 70)
    assert stopped.end() == 2
    (line,) = stopped.stderr().splitlines()
    assert line.startswith(f"layerprune: error: {paths.state(GATED)}: cannot write: ")
    assert [path.name for path in paths.state(GATED).parent.iterdir() if path.name != "lock"] == ["state.pt"]
    assert start(root, GATED).end() == 0
    assert files_of(GATED) == expected(GATED)
    assert record.read(paths.record(GATED)).resumed == 1


# --- SIGTERM --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 37, STEPS])
def test_told_to_end_it_writes_its_state_asks_to_be_tried_again_and_ends_the_same(
    root: Path, start: Callable, expected: Callable, step: int
) -> None:
    told = start(root, GATED, be_told_to_end_at_step, step)
    assert told.end() == processes.REQUEUE
    (line,) = [line for line in told.stderr().splitlines() if "SIGTERM" in line]
    assert str(paths.state(GATED)) in line and paths.state(GATED).exists() and not paths.record(GATED).exists()
    assert start(root, GATED).end() == 0
    assert files_of(GATED) == expected(GATED)
    assert record.read(paths.record(GATED)).resumed == 1
    assert_nothing_left(GATED)


def test_told_to_end_it_does_not_wait_for_the_next_write_that_is_due(root: Path, start: Callable) -> None:
    preset = paths.preset_file("resume")
    preset.write_text(preset.read_text().replace("state_seconds: 0", "state_seconds: 3600"))
    assert start(root, GATED, be_told_to_end_at_step, 50).end() == processes.REQUEUE
    assert paths.state(GATED).exists()


def test_told_to_end_a_second_time_it_ends_at_once(root: Path, start: Callable, expected: Callable) -> None:
    assert start(root, GATED, be_told_twice_at_step, 30).end() == -signal.SIGTERM
    assert start(root, GATED).end() == 0
    assert files_of(GATED) == expected(GATED)


# --- two at once ----------------------------------------------------------------------------------------------


def test_a_second_process_is_turned_away_and_the_first_unharmed(
    root: Path, start: Callable, expected: Callable
) -> None:
    first = start(root, GATED, wait_at_step, 30)
    while not (root / "started").exists():
        assert first.handle.is_alive()
        time.sleep(0.05)
    second = start(root, GATED)
    assert second.end() == 2
    (line,) = second.stderr().splitlines()
    assert str(paths.lock(GATED)) in line and "another process" in line
    (root / "go").touch()
    assert first.end() == 0
    assert files_of(GATED) == expected(GATED)


# --- every method's state -------------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def shared_root(undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_root(tmp_path_factory.mktemp("methods"))
    shutil.copytree(undisturbed / "results", root / "results")
    return root


def run_here(key: RunKey) -> None:
    running.run(key, "cpu", 1, lambda done, total, text: None, lambda line: None)


OTHERS = [
    *((method, "default") for method in ("dense", "sss", "hard-concrete", "stochastic-depth")),
    *((method, "default") for method in ("taylor", "by-index", "scratch-e", "scratch-b")),
    *((method, "default") for method in ("epsilon-resnet", "gal", "magnitude")),
    *(("gated", variant) for variant in ("straight-through", "finite-difference", "disarm", "macs", "bf16", "share")),
]


@pytest.mark.parametrize(("method", "variant"), OTHERS, ids=lambda part: part)
def test_every_method_resumes_from_what_it_stored(
    shared_root: Path, monkeypatch: pytest.MonkeyPatch, method: str, variant: str
) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(shared_root))
    assert_resumes(run_key(method, variant))


def test_a_network_with_batch_norm_resumes_through_a_removal(
    shared_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(shared_root))
    key = RunKey("resume", "digits", "resnet-8", "gated", "default", 0)
    assert_resumes(key)
    made = record.read(paths.record(key))
    assert made.keep == [0] and 0 < made.removed_step[0] < made.steps_total
    assert made.equivalence_gap < 1e-5


def assert_resumes(key: RunKey) -> None:
    """Stopped in its last epoch and then again, a run ends as it does undisturbed."""
    run_here(key)
    expected = files_of(key)
    epochs = int(expected.curves[-1]["epoch"])
    for stop in (epochs - 1, epochs):
        paths.record(key).unlink(missing_ok=True)
        epoch = Trainer._epoch

        def stopping(trainer: Trainer, epoch: Callable = epoch, stop: int = stop) -> None:
            if trainer.progress.epoch == stop - 1:
                raise Interrupted
            epoch(trainer)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(Trainer, "_epoch", stopping)
            run_here(key)
    run_here(key)
    assert record.read(paths.record(key)).resumed == 2
    assert files_of(key) == expected


# --- state that does not belong -------------------------------------------------------------------------------


def stop_after_an_epoch(monkeypatch: pytest.MonkeyPatch, key: RunKey) -> None:
    """Leave a state behind."""
    write = StateFile.write

    def write_and_stop(state: StateFile, content: dict) -> None:
        write(state, content)
        raise Interrupted

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(StateFile, "write", write_and_stop)
        run_here(key)


def test_state_of_other_settings_is_not_taken_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = run_key("dense")
    stop_after_an_epoch(monkeypatch, key)
    (root / "config" / "resume.yaml").write_text(PRESET.replace("lr: 0.02", "lr: 0.03"))
    run_here(key)
    assert record.read(paths.record(key)).resumed == 0


@pytest.mark.parametrize("content", [b"", b"\x80" * 5000, b"PK\x03\x04 cut short"], ids=["empty", "noise", "cut"])
def test_a_damaged_state_is_named_with_its_remedy(root: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    key = run_key("dense")
    paths.state(key).parent.mkdir(parents=True)
    paths.state(key).write_bytes(content)
    with pytest.raises(LayerpruneError, match=r"state\.pt: .*delete it to start this run over"):
        run_here(key)
    paths.state(key).unlink()
    run_here(key)
    assert (
        config.resolve(config.load_preset("resume"), key).digest()
        == files_of(key).record["provenance"]["config_digest"]
    )
