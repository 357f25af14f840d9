"""The wheel: what it holds, and that the package works from it, far from the repository."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import REPOSITORY, Outcome, run_process

PACKAGE = REPOSITORY / "src" / "layerprune"

QUICK_START = """
import torch
import torchvision
import layerprune

torch.manual_seed(0)
model = torchvision.models.resnet18(num_classes=10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
sections = layerprune.find_sections(model, torch.zeros(1, 3, 32, 32))
pruner = layerprune.ConcurrentPruner(model, sections, optimizer, total_steps=4, target_depth=3, check_interval=1)
for _ in range(4):
    model(torch.randn(4, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    pruner.step()
smaller = pruner.export()
print(layerprune.__file__, len(layerprune.find_sections(smaller, torch.zeros(1, 3, 32, 32))))

from pathlib import Path
from layerprune.core.data import digits
from layerprune.analysis import literature
print(len(digits.load(Path()).train), len(literature.published("cifar10")) > 0)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what it is made of, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(PACKAGE, folder / "src" / "layerprune", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", "made"]
    done = run_process(command, cwd=folder)
    assert done.code == 0, done.stderr
    (made,) = (folder / "made").glob("layerprune-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The wheel unpacked, as an installer does it."""
    folder = wheel.parent.parent / "site"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder)
    return folder


def run_elsewhere(installed: Path, *words: str) -> Outcome:
    """Python with the unpacked wheel first on its path, in an empty folder."""
    folder = installed.parent / "elsewhere"
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    environment.pop("LAYERPRUNE_ROOT", None)
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_the_wheel_holds_every_file_of_the_package_and_says_that_it_is_typed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {f"layerprune/{path.relative_to(PACKAGE).as_posix()}" for path in files} <= names
    assert {"layerprune/py.typed", "layerprune/core/data/digits.npz", "layerprune/analysis/published.csv"} <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"layerprune"}


def test_the_source_archive_holds_the_package_alone_and_gives_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "src").symlink_to(wheel.parent.parent / "src")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path)  # a link would be one in the archive too, which new installers refuse
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "large.csv").touch()
    built = run_process([sys.executable, "-m", "hatchling", "build", "--target", "sdist"], cwd=tmp_path)
    assert built.code == 0, built.stderr
    (archive,) = (tmp_path / "dist").glob("layerprune-*.tar.gz")
    with tarfile.open(archive) as packed:
        assert {name.split("/")[1] for name in packed.getnames()} == {
            *("src", "pyproject.toml", "README.md", "LICENSE", "PKG-INFO"),
        }
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        archive,
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        "made",
    ]
    assert (done := run_process(list(map(str, command)), cwd=tmp_path)).code == 0, done.stderr
    (again,) = (tmp_path / "made").glob("*.whl")
    assert contents(again) == contents(wheel)


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def test_the_quick_start_and_the_files_of_the_package_work_from_the_wheel(installed: Path) -> None:
    done = run_elsewhere(installed, "-c", QUICK_START)
    assert done.code == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == f"{installed / 'layerprune' / '__init__.py'} 3" and second.endswith(" True")


def test_the_command_line_works_from_the_wheel_and_says_what_it_misses(installed: Path) -> None:
    listed = run_elsewhere(installed, "-m", "layerprune", "methods")
    assert listed.code == 0 and "gated  (trained)" in listed.stdout and "taylor  (scores)" in listed.stdout
    missing = run_elsewhere(installed, "-m", "layerprune", "plan", "--preset", "quick")
    assert missing.code == 2 and missing.stderr.strip() == (
        "layerprune: error: config/quick.yaml: no such preset, nor any other: there is no folder config here; "
        "go to a checkout of layerprune, or name one with LAYERPRUNE_ROOT"
    )
