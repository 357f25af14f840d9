"""The dense network read from a file of weights instead of trained: a run like any other, for others to start from."""

from dataclasses import dataclass
from pathlib import Path

from layerprune.core.data.checksums import sha256
from layerprune.core.measure import count_macs
from layerprune.core.networks.pretrained import load_pretrained
from layerprune.core.settings import TrainingSettings
from layerprune.errors import LayerpruneError
from layerprune.suite import untrained
from layerprune.suite.config import RunSettings
from layerprune.suite.execute import Finished, Run


@dataclass(frozen=True)
class Weights:
    """A file of weights and the SHA-256 of its content."""

    path: Path
    checksum: str


def weights_of(settings: RunSettings, folder: Path) -> Weights | None:
    """The file that a run's settings name, in `folder` unless its path is absolute; None for a run that trains.

    Raises LayerpruneError where it cannot be read.
    """
    name = getattr(settings.method_settings(), "weights", None)
    if name is None:
        return None
    path = folder / name
    try:
        return Weights(path, sha256(path.read_bytes()))
    except OSError as error:
        raise LayerpruneError(f"{path}: cannot read these weights: {error.strerror}") from None


def with_weights(settings: RunSettings, name: str) -> RunSettings:
    """A dense run's settings with a file of weights."""
    return settings.model_copy(update={"settings": settings.settings | {"weights": name}})


def finished(run: Run, weights: Weights) -> Finished:
    """The network of the file as if it had just been trained. Raises LayerpruneError where the file does not fit.

    Nobody knows what its training cost: it is billed as the preset's own, so that rivals that start from it are not
    taken to be cheaper than those that train.
    """
    network = run.fresh_network()
    load_pretrained(network, weights.path)
    macs = count_macs(network, network.input_shape)
    bill = 3 * macs * _examples(run.settings.training, len(run.data.train)), 0.0
    details = {"pretrained": {"file": weights.path.name, "sha256": weights.checksum, "billed": "as trained here"}}
    return untrained.finished(run, network, bill, (0, 0.0), details)


def _examples(training: TrainingSettings, in_an_epoch: int) -> int:
    """How many examples the preset's own training would see."""
    count, unit = int(training.duration[:-2]), training.duration[-2:]
    return count * (in_an_epoch if unit == "ep" else training.batch_size)
