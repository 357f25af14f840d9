"""Versions of the code that a run's numbers depend on. Imports no torch.

Each method, architecture, data set and experiment has a constant VERSION in its own file, and RESULTS_VERSION covers
what they share: training, gates, surgery, measuring, seeding. A version is raised by hand when numbers change on
purpose; records made under another version are stale. The golden runs of tests/golden fail if numbers change without a
new version.
"""

from pathlib import Path

from layerprune.core import methods, networks
from layerprune.errors import LayerpruneError
from layerprune.system.files import constant_in

RESULTS_VERSION = 1


def versions_of(dataset: str, arch: str, method: str) -> dict[str, int]:
    """The versions that a run's numbers depend on, by what they belong to: results, dataset, arch, method."""
    files = {"dataset": dataset_file(dataset), "arch": networks.arch_file(arch), "method": methods.method_file(method)}
    return {"results": RESULTS_VERSION} | {part: version_in(file) for part, file in files.items()}


def version_in(file: Path) -> int:
    """The VERSION of a method's, architecture's or data set's file. Raises LayerpruneError if it has none."""
    version = constant_in(file, "VERSION")
    if not isinstance(version, int) or isinstance(version, bool):
        given = "" if version is None else f", not {version!r}"
        raise LayerpruneError(f"{file}: must say which version it is, as in VERSION = 1{given}")
    return version


def dataset_file(dataset: str) -> Path:
    """The module that loads a data set."""
    return Path(__file__).parent / "data" / f"{dataset.replace('-', '_')}.py"
