"""Versions of the code that a run's numbers depend on. Imports no torch.

Each method, architecture, data set and experiment has a constant VERSION in its own file, and RESULTS_VERSION covers
what they share: training, gates, surgery, measuring, seeding. A version is raised by hand when numbers change on
purpose; records made under another version are stale. The golden runs of tests/golden fail if numbers change without a
new version.
"""

from pathlib import Path

from layerprune.core import methods, networks
from layerprune.system.files import constant_in

RESULTS_VERSION = 1


def versions_of(dataset: str, arch: str, method: str) -> dict[str, int]:
    """The versions that a run's numbers depend on, by what they belong to: results, dataset, arch, method."""
    files = {"dataset": dataset_file(dataset), "arch": networks.arch_file(arch), "method": methods.method_file(method)}
    return {"results": RESULTS_VERSION} | {part: constant_in(file, "VERSION") for part, file in files.items()}


def dataset_file(dataset: str) -> Path:
    """The module that loads a data set."""
    return Path(__file__).parent / "data" / f"{dataset.replace('-', '_')}.py"
