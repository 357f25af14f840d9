"""A run's files: its old record goes first and its new one comes last: no record is ever beside the files of another
run.

Between them the network is written and read back, and what was read back is measured.
"""

import csv
import io

from layerprune.core.networks import storage
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.training.loop import Row
from layerprune.suite import record
from layerprune.suite.record import Files, Provenance, Record
from layerprune.suite.run.measure import energy_of, failed, is_healthy, measure, memory_of, smaller_network
from layerprune.suite.run.task import Task
from layerprune.suite.run.train import Trained
from layerprune.system import files, paths
from layerprune.system.files import sha256_of
from layerprune.system.paths import RunKey


def write(task: Task, key: RunKey, trained: Trained, made_by: Provenance, joules: float | None) -> Record:
    """Save the smaller network and the curves, measure what is read back, write the record.

    `joules` is what the machine says that the training took.
    """
    if task.group.first:
        network = smaller_network(trained) if is_healthy(trained) else trained.network
        _replace(key, network, _as_csv(trained.progress.rows))
    task.group.meet()
    smaller = storage.load(paths.arch(key), paths.weights(key)).to(task.device)
    spent = energy_of(task, trained, joules)
    made = measure(task, key, trained, smaller, _digests(key), made_by)
    return _finish(task, made.model_copy(update=spent | memory_of(task)))


def write_failed(task: Task, key: RunKey, reason: str, made_by: Provenance) -> Record:
    """The files of a run that could not start."""
    network = task.fresh_network()
    if task.group.first:
        _replace(key, network, "epoch,step\n")
    task.group.meet()
    return _finish(task, failed(task, key, reason, network, _digests(key), made_by))


def clear_up(key: RunKey) -> None:
    """Delete what a killed writer left, and fail now, not after the training, where results cannot be written."""
    for folder in (paths.run_folder(key), paths.state(key).parent):
        files.clear_unfinished(folder)
    files.check_writable(paths.run_folder(key))


def _replace(key: RunKey, network: SectionedNetwork, curves: str) -> None:
    paths.record(key).unlink(missing_ok=True)
    storage.save(network, paths.arch(key), paths.weights(key))
    files.write_text(paths.curves(key), curves)


def _digests(key: RunKey) -> Files:
    return Files(**{path.__name__: sha256_of(path(key)) for path in (paths.arch, paths.curves, paths.weights)})


def _finish(task: Task, made: Record) -> Record:
    task.group.meet()  # the files are read: nobody may replace them before
    return record.write(paths.record(made.key), made) if task.group.first else made.sealed()


def _as_csv(rows: list[Row]) -> str:
    """Curves as text; floats are written so that they read back exactly, missing values as nothing."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    return text.getvalue()
