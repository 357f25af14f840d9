"""The dense network read from a file of weights instead of trained: a run like any other, for others to start from."""

from dataclasses import dataclass
from pathlib import Path

from layerprune.config import RunSettings, TrainingSettings
from layerprune.data.checksums import sha256
from layerprune.errors import LayerpruneError
from layerprune.execute import Finished, Run, Start
from layerprune.measure.counting import count_macs, section_macs, section_params
from layerprune.methods.base import Context, Outcome, TrainingMethod
from layerprune.models.layouts.pretrained import load_pretrained
from layerprune.models.sections import SectionedNetwork
from layerprune.training.evaluate import evaluate
from layerprune.training.loop import Progress


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
    validation = evaluate(network, run.data, run.data.validation, ranks=run.ranks)
    macs = count_macs(network, network.input_shape)
    progress = Progress(
        train_macs=3 * macs * _examples(run.settings.training, len(run.data.train)),
        removed_step=[None] * len(network.sections),
    )
    row = {"epoch": 0, "step": 0, "lr": None, "train_loss": None, "val_loss": validation.loss}
    row |= {"val_accuracy": validation.accuracy, "sections_alive": len(network.sections), "macs": macs}
    progress.rows.append(row | {"train_macs": progress.train_macs, "wall_seconds": 0.0})
    details = {"pretrained": {"file": weights.path.name, "sha256": weights.checksum, "billed": "as trained here"}}
    start = Start(network, _method(run, network), run.settings.training, 0, progress, details=details)
    return Finished(network, Outcome(network.keep()), progress, start, (0, 0.0), aims_to_prune=False)


def _method(run: Run, network: SectionedNetwork) -> TrainingMethod:
    context = Context(
        examples=len(run.data.train),
        batch_size=run.settings.training.batch_size,
        steps_per_epoch=-(-len(run.data.train) // run.settings.training.batch_size),
        steps_total=0,
        seed=run.settings.seed,
        device=run.device,
        section_macs=tuple(section_macs(network)),
        section_params=tuple(section_params(network)),
    )
    return TrainingMethod(run.method_settings, network, context)


def _examples(training: TrainingSettings, in_an_epoch: int) -> int:
    """How many examples the preset's own training would see."""
    count, unit = int(training.duration[:-2]), training.duration[-2:]
    return count * (in_an_epoch if unit == "ep" else training.batch_size)
