"""A study on a SLURM cluster, a real one of a single node: through sbatch, with GPUs asked for, and a job cancelled."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY, copy_presets, run_process

from layerprune import paths, record
from layerprune.paths import RunKey

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

SCRIPT = REPOSITORY / "tests" / "slurm" / "cluster.sh"
RUN = RunKey("cluster", "digits", "lenet-300-100", "dense", "default", 0)


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
def profile(tmp_path: Path) -> Path:
    """profiles/slurm with less memory: no small machine has what a GPU's node has."""
    text = (REPOSITORY / "profiles" / "slurm" / "config.yaml").read_text()
    assert text.count("mem_mb=8000") == 1
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "config.yaml").write_text(text.replace("mem_mb=8000", "mem_mb=500"))
    return tmp_path / "profile"


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


def test_a_study_runs_through_sbatch_and_a_cancelled_run_goes_on(
    cluster: None, profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "study"
    copy_presets(study)
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(study))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["--workflow-profile", profile, "--slurm-init-seconds-before-status-checks", 2, "--latency-wait", 5]
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", study, *words]
    log = tmp_path / "log"
    with log.open("w") as stream:
        snakemake = subprocess.Popen(
            [*map(str, command), "--config", "preset=cluster"], cwd=study, stdout=stream, stderr=stream
        )
    try:
        wait_until(paths.state(RUN).exists, 120)
        (job,) = [number for number, comment in jobs("%i %k") if "dense" in comment]
        assert "gpu" in run_process(["scontrol", "show", "job", job]).stdout
        assert run_process(["scancel", job]).code == 0
        assert snakemake.wait(timeout=400) == 0, log.read_text()
    finally:
        if snakemake.poll() is None:
            snakemake.send_signal(signal.SIGINT)  # it cancels its jobs
            snakemake.wait(60)
    assert record.read(paths.record(RUN)).resumed == 1
    assert (study / "results" / "cluster" / "tables" / "digits.md").is_file()
    assert jobs("%i %T") == []
