"""Two processes share a run: they decide what one would, lose nothing when one dies, and count every image once.

Networks without batch normalisation, whose statistics are each process's own, come out as from one process but for the
order of sums: gate parameters and losses within TOLERANCE, and the same sections gone at the same steps.
"""

import csv
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import warm

from layerprune.core.data import load
from layerprune.core.networks import storage
from layerprune.core.training.evaluate import evaluate
from layerprune.errors import LayerpruneError
from layerprune.suite import record
from layerprune.suite import run as running
from layerprune.system import paths, processes
from layerprune.system.paths import RunKey

TOLERANCE = {"theta": 1e-4, "train_loss": 1e-3, "val_loss": 1e-3}
SIZE = 2
PRESET = """
training: {duration: 6ep, batch_size: 64, lr: 0.01} # at 0.02 sums in another order grow past TOLERANCE
finetune: {duration: 2ep}
datasets:
  digits:
    archs:
      mlp-residual-6: {}
      resnet-8: # running statistics
        only: [gated]
        model: {width: 4, removable: shape-preserving}
        training: {duration: 3ep, augment: crop-flip}
        methods: {gated: {settings: {nu: 10.0, consolidate_at: 0.75}}}
    methods:
      dense: {}
      gated:
        settings: {nu: 0.003, theta_lr: 2.0, warmup: 1ep, check_interval: 5, checks: 2, consolidate_at: 0.8}
        variants:
          straight-through: {settings: {estimator: straight_through}}
          finite-difference: {settings: {estimator: finite_difference}}
          disarm: {settings: {estimator: disarm}}
          share: {settings: {nu: 0.05, drawn_share: 0.3, warmup_gates: open}}
          confirm: {settings: {confirm: 4}}
          network-price: {settings: {nu: 0.02, cost_scale: network}}
          spike-and-slab: {settings: {weight_prior: spike-and-slab, kappa: 0.01}}
          batch-gates: {settings: {gates: batch, estimator: finite_difference, drawn_share: 1.0}}
          long: {training: {duration: 40ep}}
      sss: {settings: {gamma: 0.3}}
      hard-concrete: {settings: {penalty: 0.1}}
      stochastic-depth: {settings: {keep: 3}}
      taylor: {settings: {keep: 2, removal: iterative, distill: 0.5}}
      gal: {}
"""
VARIANTS = ["default", "straight-through", "finite-difference", "disarm", "share"]
VARIANTS += ["confirm", "network-price", "spike-and-slab", "batch-gates"]
SHARED = [
    *[("gated", variant) for variant in VARIANTS],
    *[(method, "default") for method in ("sss", "hard-concrete", "stochastic-depth", "dense", "taylor")],
]


def key_of(method: str, variant: str = "default", arch: str = "mlp-residual-6") -> RunKey:
    return RunKey("ranks", "digits", arch, method, variant, 0)


KEYS = [*[key_of(*each) for each in SHARED], key_of("gated", arch="resnet-8")]


def make_root(folder: Path, state_seconds: int = 0) -> Path:
    (folder / "config").mkdir(parents=True)
    resources = f"resources: {{state_seconds: {state_seconds}, processes: 2}}"
    (folder / "config" / "ranks.yaml").write_text(f"{resources}\n{PRESET}")
    return folder


def make_runs(keys: list[RunKey]) -> None:
    for key in keys:
        running.run(key, "cpu", 1, lambda *_: None, lambda _: None)


def make_as_rank(rank: int, ports: list[int], root: str, keys: list[RunKey]) -> None:
    """The runs one after the other, each as if torchrun had just started the process for it."""
    place = {"RANK": rank, "WORLD_SIZE": SIZE, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": SIZE}
    os.environ |= {name: str(value) for name, value in place.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "LAYERPRUNE_ROOT": root}
    try:
        for key, port in zip(keys, ports, strict=True):
            os.environ["MASTER_PORT"] = str(port)
            make_runs([key])
    except LayerpruneError as error:
        Path(root, f"error{rank}").write_text(str(error))


def make_together(root: Path, keys: list[RunKey]) -> None:
    ports = free_ports(len(keys))
    started = [warm.CONTEXT.Process(target=make_as_rank, args=(rank, ports, str(root), keys)) for rank in range(SIZE)]
    for each in started:
        each.start()
    for each in started:
        each.join(120)
        each.kill()
        assert each.exitcode == 0


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same runs made by one process and by two."""
    alone, together = (make_root(tmp_path_factory.mktemp(name), 60) for name in ("alone", "together"))
    before = os.environ.get("LAYERPRUNE_ROOT")
    os.environ["LAYERPRUNE_ROOT"] = str(alone)
    try:
        make_runs(KEYS)
    finally:
        os.environ.pop("LAYERPRUNE_ROOT")
        os.environ |= {"LAYERPRUNE_ROOT": before} if before else {}
    make_together(together, KEYS)
    return alone, together


def read(root: Path, key: RunKey, monkeypatch: pytest.MonkeyPatch) -> tuple[record.Record, list[dict[str, str]]]:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(root))
    with paths.curves(key).open(newline="") as stream:
        return record.read(paths.record(key)), list(csv.DictReader(stream))


@pytest.mark.parametrize(("method", "variant"), SHARED)
def test_two_processes_decide_what_one_decides(
    roots: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, method: str, variant: str
) -> None:
    (alone, course), (together, shared) = (read(root, key_of(method, variant), monkeypatch) for root in roots)
    assert (alone.provenance.processes, together.provenance.processes) == (1, SIZE)
    for name in ("keep", "removed_step", "steps_total", "train_macs", "macs", "params", "status"):
        assert getattr(together, name) == getattr(alone, name), name
    numbers = {name: kind for name in course[0] for kind in TOLERANCE if name.startswith(kind)}
    assert numbers and len(course) == len(shared)
    for one, other in zip(course, shared, strict=True):
        for name, kind in numbers.items():
            assert bool(one[name]) == bool(other[name])
            if one[name]:
                assert float(other[name]) == pytest.approx(float(one[name]), abs=TOLERANCE[kind]), name


def test_with_running_statistics_sections_go_and_every_image_is_counted_once(
    roots: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = read(roots[1], KEYS[-1], monkeypatch)
    assert made.keep == [0] and made.removed_step[0] is not None and made.equivalence_gap < 1e-4
    network = storage.load(paths.arch(KEYS[-1]), paths.weights(KEYS[-1]))
    data = load("digits", Path())
    assert evaluate(network, data, data.test).accuracy == made.test_accuracy
    assert evaluate(network, data, data.validation).accuracy == made.val_accuracy


def test_a_method_that_cannot_be_shared_says_so(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    make_together(root, [key_of("gal")])
    for rank in range(SIZE):
        assert "'gal' cannot be shared by several processes" in (root / f"error{rank}").read_text()


# --- under torchrun, with deaths --------------------------------------------------------------------------------

LONG = key_of("gated", "long")


def together(root: Path, key: RunKey = LONG) -> subprocess.Popen:
    """The command of one run, which starts torchrun by itself."""
    words = ["--preset", "ranks", "--dataset", "digits", "--arch", key.arch, "--method", key.method]
    return subprocess.Popen(
        [sys.executable, "-m", "layerprune", "run", *words, "--variant", key.variant],
        env=os.environ | {"LAYERPRUNE_ROOT": str(root), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def worker_with_state(process: subprocess.Popen, root: Path) -> psutil.Process:
    """The second rank's process, once there is a state to go on from."""
    state = root / "state" / str(LONG) / "state.pt"
    deadline = time.monotonic() + 120
    while not state.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    return next(each for each in psutil.Process(process.pid).children() if each.environ().get("RANK") == "1")


@pytest.mark.long
def test_after_the_death_of_one_all_end_and_the_next_attempt_makes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturbed, undisturbed = make_root(tmp_path / "disturbed"), make_root(tmp_path / "undisturbed")
    first = together(disturbed)
    worker_with_state(first, disturbed).send_signal(signal.SIGKILL)
    died = time.monotonic()
    _, told = first.communicate(timeout=120)
    assert first.returncode == 128 + signal.SIGKILL and time.monotonic() - died < 60
    assert "another process of this run has died or does not answer" in told
    assert "Traceback" not in told
    for root in (disturbed, undisturbed):
        process = together(root)
        printed, told = process.communicate(timeout=240)
        assert process.returncode == 0, told
        assert printed.count("record.json") == 1, "only the first process speaks"
    (made, course), (again, undisturbed_course) = (read(root, LONG, monkeypatch) for root in (disturbed, undisturbed))
    assert made.resumed == 1 and again.resumed == 0
    assert made.comparable() | {"provenance": None} == again.comparable() | {"provenance": None}
    for one, other in zip(course, undisturbed_course, strict=True):
        assert one | {"wall_seconds": ""} == other | {"wall_seconds": ""}


@pytest.mark.slow
def test_told_to_end_all_end_with_their_state(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    process = together(root)
    worker_with_state(process, root)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == processes.REQUEUE, told
    assert "told to end (SIGTERM), state written" in told and "Traceback" not in told
    assert not (root / "results" / str(LONG) / "record.json").exists()


@pytest.mark.parametrize("told", [True, False], ids=["told to end", "left alone"])
def test_a_signal_that_meets_torchrun_within_a_call_is_no_failure(monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    def interrupted(_: object) -> None:
        before = signal.signal(signal.SIGTERM, lambda *_: None)
        try:
            if told:
                signal.raise_signal(signal.SIGTERM)
            raise RuntimeError("the store did not answer")
        finally:
            signal.signal(signal.SIGTERM, before)

    monkeypatch.setattr("torch.distributed.run.run", interrupted)
    monkeypatch.setattr(logging, "disable", lambda _: None)
    if told:
        assert processes.share(2, ["run"]) == processes.REQUEUE
        return
    with pytest.raises(RuntimeError, match="did not answer"):
        processes.share(2, ["run"])


@pytest.mark.slow
def test_a_mistake_is_one_line_of_each_process_and_the_exit_status_of_one(tmp_path: Path) -> None:
    process = together(make_root(tmp_path / "root"), key_of("gal", "default"))
    _, told = process.communicate(timeout=120)
    assert process.returncode == 2
    lines = [line for line in told.splitlines() if "'gal' cannot be shared by several processes" in line]
    assert len(lines) == SIZE and "Traceback" not in told
