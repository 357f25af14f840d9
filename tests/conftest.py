"""Fixtures for every test: a root folder of its own, the command line in a process, a small trained study."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import warm
from filelock import FileLock

REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True)
class Outcome:
    """What a finished process left: exit status and texts."""

    code: int
    stdout: str
    stderr: str


NUMBERS = ("bool", "int64", "float64")
LONG = ("workflow", "distributed", "lanes", "campaign", "mutation", "report", "docs", "notebook", "examples", "zoo")
"""Test files of seconds a test."""


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout under test."""
    return REPOSITORY


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty root of all files (LAYERPRUNE_ROOT) with the presets of config/ and of tests/presets/."""
    copy_presets(tmp_path)
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    return tmp_path


def copy_presets(folder: Path) -> None:
    """Copy every preset of the repository and of the tests to folder/config."""
    for source in (REPOSITORY / "config", REPOSITORY / "tests" / "presets"):
        shutil.copytree(source, folder / "config", dirs_exist_ok=True)


def environment_of_processes() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "COLUMNS": "120"}


def run_module(module: str, *words: object, cwd: Path, first: Callable[[], None] | None = None) -> Outcome:
    """`python -m MODULE WORDS...` as `run_process` runs it, without its start."""
    return Outcome(*warm.run_module(module, list(map(str, words)), cwd, environment_of_processes(), first))


def run_process(command: list[str], **options: object) -> Outcome:
    """Run a command with one thread and no terminal, in the environment of the moment."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment_of_processes(),
        stdin=subprocess.DEVNULL,
        timeout=580,
        **options,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def cli(root: Path) -> Callable[..., Outcome]:
    """Run `python -m layerprune WORDS...` on the test's own root."""
    return lambda *words: run_module("layerprune", *words, cwd=root)


@dataclass(frozen=True)
class Study:
    """A folder with presets and whatever snakemake has made of the preset `tiny` there."""

    folder: Path

    def snakemake(self, *words: str, preset: str = "tiny") -> Outcome:
        """Run snakemake WORDS... on a preset (`--config` takes all words after it, so it comes last)."""
        place = ["--snakefile", REPOSITORY / "Snakefile", "--directory", self.folder, "--cores", "2"]
        return run_module("snakemake", *place, *words, "--config", f"preset={preset}", cwd=self.folder)

    def copy(self, folder: Path) -> "Study":
        """The same study elsewhere, with the times of its files, to be changed at will."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Study(folder)

    def edit_preset(self, old: str, new: str) -> None:
        """Replace a text that stands once in config/tiny.yaml."""
        path = self.folder / "config" / "tiny.yaml"
        before = path.read_text()
        assert before.count(old) == 1
        path.write_text(before.replace(old, new))


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Study:
    """The preset `tiny`, really trained, with its tables and figures. Not to be changed: take a copy."""
    if worker_id == "master":
        return train_study(Study(tmp_path_factory.mktemp("study")))
    shared = tmp_path_factory.getbasetemp().parent / "study"
    with FileLock(f"{shared}.lock"):  # the first test process trains, the others wait for it
        return Study(shared) if shared.exists() else train_study(Study(shared))


def train_study(study: Study) -> Study:
    """Fill a study with the preset `tiny`; without an error only when all of it succeeds."""
    study.folder.mkdir(exist_ok=True)
    copy_presets(study.folder)
    outcome = study.snakemake()
    assert outcome.code == 0, outcome.stderr
    return study


@pytest.fixture(autouse=True)
def _text_is_not_ordered_among_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pyarrow is installed, pandas keeps text in its arrays, and these raise; a column without rows is text."""
    if "pandas" not in sys.modules:
        return
    from pandas.core.arrays.string_ import StringArray

    def compare(self: StringArray, other: Any, operator: Callable) -> Any:
        if operator.__name__ in ("lt", "le", "gt", "ge") and getattr(other, "dtype", None) in NUMBERS:
            raise TypeError(f"text {operator.__name__} {other.dtype}")
        return before(self, other, operator)

    before = StringArray._cmp_method
    monkeypatch.setattr(StringArray, "_cmp_method", compare)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tests share the cores: torch, where a test has loaded it, computes on one thread."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


# --- what this machine cannot test --------------------------------------------------------------------------


def _lacks_real_data(name: str = "mnist") -> str | None:
    folder = os.environ.get("LAYERPRUNE_DATA")
    if folder and Path(folder, name).exists():
        return None
    return f"real data is absent: set LAYERPRUNE_DATA to a folder with {name}"


def _lacks_gpu() -> str | None:
    import torch

    return None if torch.cuda.is_available() else "no CUDA device"


def find_browser() -> str | None:
    """Path of chromium, under any of its names."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for path in map(shutil.which, names) if path), None)


def _lacks_browser() -> str | None:
    return None if find_browser() else "no browser: install chromium (apt-get install chromium)"


def _lacks_latex() -> str | None:
    return None if shutil.which("pdflatex") else "no LaTeX: install texlive-latex-recommended (apt-get install)"


def _lacks_slurm() -> str | None:
    found = all(
        shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("slurmctld", "slurmd", "munged")
    )
    if not found:
        return "no SLURM: install slurm-wlm and munge (apt-get install --no-install-recommends slurm-wlm munge)"
    return None if Path("/dev/tty1").exists() else "no device files to stand for GPUs: /dev/tty0 and /dev/tty1"


def _lacks_patience() -> str | None:
    return None if os.environ.get("LAYERPRUNE_LONG_TESTS") else "takes many minutes: set LAYERPRUNE_LONG_TESTS=1"


LACKING: dict[str, Callable[..., str | None]] = {
    "real_data": _lacks_real_data,
    "gpu": _lacks_gpu,
    "browser": _lacks_browser,
    "latex": _lacks_latex,
    "slurm": _lacks_slurm,
    "long": _lacks_patience,
}


ASKED_FOR = {
    "slurm": "waits for a cluster's daemons",
    "bench": "tries every part of the benchmark",
    "mutation": "plants every fault that golden values must notice",
}
"""Marker -> why its tests run only when they are asked for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first: at the end no process waits for it alone."""
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONG)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a marked test, with the reason, where the machine lacks what it needs."""
    chosen = item.config.option.markexpr + item.config.option.keyword
    for marker, reason in ASKED_FOR.items():
        if item.get_closest_marker(marker) and marker not in chosen:
            pytest.skip(f"{reason}, for minutes: make test ARGS='-m {marker}'")
    for marker, lacking in LACKING.items():
        found = item.get_closest_marker(marker)
        if found and (reason := lacking(*found.args)):
            pytest.skip(reason)


Say = Callable[..., tuple[int, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """The exit status of a command, and what it said on stderr."""

    from layerprune import cli

    def say(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["layerprune", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, capsys.readouterr().err

    return say
