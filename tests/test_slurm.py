"""Studies on a SLURM cluster, a real one of a single node: through sbatch, with GPUs asked for, and a job cancelled."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from campaign_helpers import run_key, write_study
from conftest import REPOSITORY, copy_presets, run_process

from layerprune.suite import config, record, store
from layerprune.system import paths
from layerprune.system.paths import RunKey

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

SCRIPT = REPOSITORY / "tests" / "slurm" / "cluster.sh"
DENSE = RunKey("quick", "digits", "resnet-8", "dense", "default", 0)
SHARED = RunKey("shared", "digits", "lenet-300-100", "gated", "default", 0)
TOGETHER = """
training: {duration: 2ep, batch_size: 128, lr: 0.05}
datasets:
  digits:
    processes: 2
    archs: {lenet-300-100: {}}
    methods: {gated: {settings: {warmup: 1it}}}
data: {download: false}
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster of this machine alone, its commands first on the PATH."""
    folder = tempfile.mkdtemp(prefix="slurm-", dir="/tmp")  # a short path: sockets allow for 107 characters
    try:
        subprocess.run([SCRIPT, "up", folder], check=True, timeout=60)
        monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
        yield
    finally:
        subprocess.run([SCRIPT, "down", folder], check=True, timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's folder, beside it a profile for it."""
    folder = tmp_path / "study"
    copy_presets(folder)
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(folder))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return folder


def edit(path: Path, *changes: tuple[str, str]) -> str:
    """A file's text with changes, each of a text that stands there once."""
    text = path.read_text()
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@contextmanager
def snakemake(study: Path, *words: str, gpus: int = 1) -> Iterator[subprocess.Popen]:
    """Snakemake at work on a study with profiles/slurm, its output in study/log; cancelled where it is left early."""
    shipped = REPOSITORY / "profiles" / "slurm" / "config.yaml"
    # No small machine has the memory of a GPU's node.
    text = edit(shipped, ("train:mem_mb=8000", "train:mem_mb=500"), ("train:gpu=1", f"train:gpu={gpus}"))
    (study / "profile").mkdir()
    (study / "profile" / "config.yaml").write_text(text)
    options = ["--workflow-profile", study / "profile", "--latency-wait", 5]
    options += ["--slurm-init-seconds-before-status-checks", 2, "--directory", study]
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", *options, *words]
    with (study / "log").open("w") as log:
        process = subprocess.Popen(list(map(str, command)), cwd=study, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # it cancels its jobs
            process.wait(60)


def jobs(columns: str) -> list[list[str]]:
    """The queue: a list of these columns for each job."""
    done = run_process(["squeue", "--noheader", "--format", columns])
    assert done.code == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


@pytest.mark.parametrize(
    "methods",
    [
        pytest.param(["dense", "gated", "bn-scale"], id="a method and what it needs"),
        pytest.param(None, id="all of it", marks=[pytest.mark.long, pytest.mark.timeout(3000)]),
    ],
)
def test_quick_runs_through_sbatch_and_a_cancelled_run_goes_on(
    cluster: None, study: Path, methods: list[str] | None
) -> None:
    preset = study / "config" / "quick.yaml"
    preset.write_text(edit(preset, ("resources:\n", "resources:\n  state_seconds: 0\n")))
    planned = config.plan(config.load_preset("quick"), "quick")
    if methods is not None:
        planned = [replace(DENSE, method=method) for method in methods]
    target = paths.record(planned[-1]) if methods is not None else "all"
    with snakemake(study, target, "--config", "preset=quick") as process:
        wait_until(paths.state(DENSE).exists, 240)
        (job,) = [number for number, comment in jobs("%i %k") if "resnet-8" in comment and "dense" in comment]
        assert "gpu" in run_process(["scontrol", "show", "job", job]).stdout
        assert run_process(["scancel", job]).code == 0
        assert process.wait(timeout=2400) == 0, (study / "log").read_text()
    assert record.read(paths.record(DENSE)).resumed == 1
    assert planned and all(paths.record(key).is_file() for key in planned)
    assert methods is not None or (study / "results" / "quick" / "tables" / "digits.md").is_file()
    assert jobs("%i %T") == []


def test_a_run_of_two_devices_is_one_task_in_which_torchrun_starts_two_processes(cluster: None, study: Path) -> None:
    (study / "config" / "shared.yaml").write_text(TOGETHER)
    target = paths.record(SHARED)
    with snakemake(study, target, "--config", "preset=shared", gpus=2) as process:
        wait_until(lambda: any("gated" in comment for _, comment in jobs("%i %k")), 120)
        (job,) = [number for number, comment in jobs("%i %k") if "gated" in comment]
        told = run_process(["scontrol", "show", "job", job]).stdout
        assert "gres/gpu=2" in told or "gres:gpu:2" in told, told
        assert "NumTasks=1 " in told and "NumCPUs=2 " in told, told
        assert process.wait(timeout=300) == 0, (study / "log").read_text()
    assert record.read(target).provenance.processes == 2


def test_the_parts_of_a_plan_are_jobs_of_one_array(cluster: None, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the same time and in one folder; each leaves an archive of its own."""
    plan = "{preset: march, runs: [{dataset: digits, arch: lenet-300-100, method: [gated, random], seeds: [0, 1]}]}"
    write_study(study, plan=plan)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    script = REPOSITORY / "profiles" / "slurm" / "campaign.sh"
    options = ["--wait", "--array=1-2", "--cpus-per-task=1", "--gpus-per-task=1", "--mem=500", "--time=10"]
    done = run_process(list(map(str, ["sbatch", *options, script, "march", 8])), cwd=study)
    said = "".join(path.read_text() for path in study.glob("slurm-*.out"))
    assert done.code == 0, done.stderr + said
    assert said.count("3 runs made") == 2, said  # dense, which random starts from, too
    assert all(store.find(run_key(method, seed=seed)) for method in ("gated", "random") for seed in (0, 1))
    archives = sorted(path.name.rpartition("-")[0] for path in (study / "outbox").iterdir())
    assert archives == ["march-part1of2", "march-part2of2"]
