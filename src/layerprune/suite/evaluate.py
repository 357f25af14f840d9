"""Measure a run's network again, from its weights, and compare with its record. Trains nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from layerprune.core.data.dataset import DataSet
from layerprune.core.data.loading import load
from layerprune.core.networks import layout, storage
from layerprune.core.training.evaluate import evaluate
from layerprune.errors import LayerpruneError
from layerprune.suite import config, current, store
from layerprune.suite.config import Preset
from layerprune.suite.record import Record
from layerprune.suite.run.prepare import reading
from layerprune.system import paths
from layerprune.system.devices import exact_float32
from layerprune.system.paths import RunKey

ROUNDING = 0.001
"""Share of the images whose class may turn with the rounding of another CPU or of a GPU."""


@dataclass(frozen=True)
class Again:
    """Test accuracies in [0, 1], the recorded and today's, and the number of test images."""

    recorded: float
    found: float
    images: int
    half_precision: bool = False
    """Whether the weights were stored rounded."""

    @property
    def differing(self) -> int:
        """By how many images they differ."""
        return round(abs(self.found - self.recorded) * self.images)

    @property
    def agrees(self) -> bool:
        """Whether they are equal up to rounding."""
        return self.differing <= ROUNDING * self.images

    def __str__(self) -> str:
        half = " from weights in half precision" if self.half_precision else ""
        told = f"test accuracy {100 * self.found:.2f} %{half}, recorded {100 * self.recorded:.2f} %"
        if self.differing == 0:
            return f"{told}: the same"
        verdict = "within rounding" if self.agrees else "NOT the recorded accuracy"
        return f"{told}: differs by {self.differing} of {self.images} images, {verdict}"


def evaluate_again(key: RunKey, device: torch.device, threads: int, say: Callable[[str], None]) -> Again:
    """Test accuracy of a run's network, from rounded weights where the trained ones are absent.

    Raises LayerpruneError if record, weights or data are absent or differ from those of the run.
    """
    preset = config.load_preset(key.preset)
    config.resolve(preset, key)  # a run that the preset does not have is said to be none
    made, path = store.find(key), store.weights(key)
    if made is None or made.test_accuracy is None:
        raise LayerpruneError(f"{key}: no record with a test accuracy, in its folder or in the store")
    path = path or store.half_weights(made)
    if path is None:
        raise LayerpruneError(f"{key}: no weights, in its folder or in the store ({paths.stored_weights(key)}): run it")
    for difference in current.differences(preset, made):
        say(f"{key}: {difference.kind}: {difference.message}")
    torch.set_num_threads(threads)
    data = _data_of(preset, made, device)
    found = _accuracy(key, path, data, device)
    return Again(made.test_accuracy, found, len(data.test), half_precision=path == paths.half_weights(key))


def measure(key: RunKey) -> Callable[[Path], float]:
    """What measures the test accuracy of a run's network with a file's weights, on the CPU with one thread.

    Raises LayerpruneError if the data are absent or differ from those of the run.
    """
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    data = _data_of(config.load_preset(key.preset), store.find(key), cpu)
    return lambda weights: _accuracy(key, weights, data, cpu)


def _data_of(preset: Preset, made: Record, device: torch.device) -> DataSet:
    data = load(made.dataset, config.data_root(preset), device, reading(preset, made.dataset))
    if data.checksums != current.of_data(made.provenance.data_checksums):
        raise LayerpruneError(f"{made.key}: recorded on {made.data_source}, the data here differ ({data.source})")
    return data


def _accuracy(key: RunKey, weights: Path, data: DataSet, device: torch.device) -> float:
    exact_float32()
    network = storage.described(store.arch(key), paths.arch(key))
    storage.load_weights(network, weights)  # whose numbers become float32, whatever they are in the file
    return evaluate(layout.place(network, device), data, data.test).accuracy
