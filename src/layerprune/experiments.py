"""Experiments on a trained network: runs that train nothing and leave it as it is, but note what they measured."""

import importlib

from layerprune import untrained
from layerprune.data.batches import evaluation_batches
from layerprune.execute import CERTIFICATE_IMAGES, Finished, Run
from layerprune.methods import module_name
from layerprune.methods.experiments._subject import Subject
from layerprune.models.sections import SectionedNetwork
from layerprune.training.evaluate import batch_size, evaluate


def finished(run: Run) -> Finished:
    """Make the experiment on the dense network that the run starts from; its numbers are the record's details."""
    dense, network = run.parents["dense"].record, run.dense_network().eval()
    module = importlib.import_module(module_name(run.settings.method))
    details = module.measure(run.method_settings, _subject(run, network))
    spent = dense.train_macs, dense.wall_seconds
    return untrained.finished(run, network, spent, spent, details)


def _subject(run: Run, network: SectionedNetwork) -> Subject:
    data = run.data
    count = min(CERTIFICATE_IMAGES, batch_size(data))
    certified, _ = next(evaluation_batches(data.validation, data.mean, data.std, count))
    return Subject(
        network=network,
        seed=run.settings.seed,
        classes=data.classes,
        images_seen=len(data.validation),
        certified=certified,
        accuracy=lambda part: evaluate(part, data, data.validation, ranks=run.ranks).accuracy,
    )
