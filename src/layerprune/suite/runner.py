"""One run on disk: parents, lock, resume state, and the four files of its folder, record.json last.

Rerunning a finished run does nothing; rerunning a killed one takes up its state. Two processes cannot run the same run,
unless torchrun started them to share it: then each has a device, and the first one writes the files.
"""

import csv
import io
import json
import math
import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from layerprune.core.data.registry import Reading, load
from layerprune.core.measure import count_depth, count_macs, count_params
from layerprune.core.methods import families
from layerprune.core.networks import storage
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.training.evaluate import Score, evaluate
from layerprune.core.training.loop import Row
from layerprune.core.training.state import StateFile
from layerprune.core.version import versions_of
from layerprune.errors import LayerpruneError, SettingError
from layerprune.suite import config, experiments, pretrained, provenance, record
from layerprune.suite.config import Preset, RunSettings
from layerprune.suite.execute import Finished, Parent, Report, Run, all_finite, certificate, execute, smaller_network
from layerprune.suite.pretrained import Weights
from layerprune.suite.record import Provenance, Record
from layerprune.system import files, paths, torchrun
from layerprune.system.cpu import cpu_name
from layerprune.system.devices import borrowed, choose_device
from layerprune.system.paths import RunKey
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup, joined
from layerprune.system.signals import Notice, noticed


@dataclass(frozen=True)
class Caller:
    """Who asks for runs: the device and threads they get, whom they tell, and the processes that share them."""

    device: str
    threads: int
    report: Report
    say: Callable[[str], None]
    group: ProcessGroup
    weights: Path | None = None
    """A file that the dense network is read from instead of being trained."""


def run(
    key: RunKey,
    device: str | None,
    threads: int | None,
    report: Report,
    say: Callable[[str], None],
    weights: Path | None = None,
) -> Record:
    """Make a run's files, its parents' first where they are missing, and return its record.

    With `weights` the dense network is not trained but read from this file.
    """
    preset = config.load_preset(key.preset)
    if weights is not None:
        _check_takes_weights(preset, key)
    chosen = device or preset.resources.device
    with _fellows(preset, chosen, say) as group:
        told = (report, say) if group.first else (lambda *_: None, lambda _: None)
        caller = Caller(chosen, _threads_of_a_process(threads) or preset.resources.threads, *told, group, weights)
        return _run(preset, key, caller)


def _check_takes_weights(preset: Preset, key: RunKey) -> None:
    if "dense" not in (key.method, *(parent.method for parent in config.prerequisites(preset, key))):
        raise LayerpruneError(f"--weights: '{key.method}' does not start from the dense network")


def _threads_of_a_process(threads: int | None) -> int | None:
    """This process's part of a run's threads."""
    place = torchrun.torchrun_place()
    return threads if threads is None or place is None else max(1, threads // place.local_size)


@contextmanager
def _fellows(preset: Preset, name: str, say: Callable[[str], None]) -> Iterator[ProcessGroup]:
    """The processes that torchrun started, each with the GPU of its number; or this one alone, still without a GPU."""
    place = torchrun.torchrun_place()
    if place is None or place.size == 1:
        yield SINGLE_PROCESS
        return
    device = choose_device(name)
    with ExitStack() as held:
        if device.type == "cuda":
            if place.local_rank == 0:  # one for all and in this order: two such runs never wait for each other
                for index in range(place.local_size):
                    gpu = choose_device(f"cuda:{index}")
                    held.enter_context(borrowed(gpu, preset.resources.runs_per_gpu, say))
            device = choose_device(f"cuda:{place.local_rank}")
            torch.cuda.set_device(device)
        yield held.enter_context(joined(place, device))


def _run(preset: Preset, key: RunKey, caller: Caller) -> Record:
    settings, group = config.resolve(preset, key), caller.group
    given = caller.weights if key.method == "dense" else None
    if given is not None:
        settings = pretrained.with_weights(settings, given.name)
    weights = pretrained.weights_of(settings, given.parent if given else config.data_root(preset))
    parents = config.prerequisites(preset, key)
    if caller.weights is not None:
        for dense in (parent for parent in parents if parent.method == "dense"):
            _run(preset, dense, caller)
    existing = up_to_date(preset, key, settings, weights)
    if not group.any(existing is None):
        caller.say(f"{paths.record(key)}: up to date, status {existing.status}")
        paths.state(key).unlink(missing_ok=True)  # left where a kill came between record and clearing up
        return existing
    for parent in parents:
        if group.any(not (paths.record(parent).exists() and paths.weights(parent).exists())):
            caller.say(f"{key} starts from {parent}, which is run first")
            _run(preset, parent, caller)
    torch.set_num_threads(caller.threads)
    with _alone_on(key, group):
        group.meet()
        made_meanwhile = up_to_date(preset, key, settings, weights)
        if not group.any(made_meanwhile is None):
            return made_meanwhile
        with _lent(preset, caller) as device, noticed() as notice:
            return _run_locked(preset, key, settings, weights, device, caller, notice)


def _alone_on(key: RunKey, group: ProcessGroup) -> AbstractContextManager[None]:
    """The lock on a run, held by the first process for all."""
    if not group.first:
        return nullcontext()
    return files.exclusive(paths.lock(key), "this run is being made by another process")


def _lent(preset: Preset, caller: Caller) -> AbstractContextManager[torch.device]:
    """The device to compute on: for a process alone a GPU with a free place, for one of several its own."""
    if caller.group.size > 1:
        return nullcontext(caller.group.device)
    return borrowed(choose_device(caller.device), preset.resources.runs_per_gpu, caller.say)


def up_to_date(preset: Preset, key: RunKey, settings: RunSettings, weights: Weights | None = None) -> Record | None:
    """The record of a run, where all its files exist and were made by this code with these settings and parents, and
    where it was not trained from these weights."""
    if not all(path(key).exists() for path in (paths.record, paths.curves, paths.arch, paths.weights)):
        return None
    existing = record.read(paths.record(key))
    made_by = existing.provenance
    same_code = made_by.versions == versions_of(key.dataset, key.arch, key.method)
    same_settings = made_by.config_digest == settings.digest()
    same_weights = _checksums(weights).items() <= made_by.data_checksums.items()
    same = same_code and same_settings and same_weights and _same_parents(preset, key, existing)
    return existing if same else None


def _same_parents(preset: Preset, key: RunKey, existing: Record) -> bool:
    """Whether the parents that are there are those that the run started from."""
    there = [parent for parent in config.prerequisites(preset, key) if paths.record(parent).exists()]
    recorded = existing.provenance.parents
    return all(recorded.get(str(parent)) == record.read(paths.record(parent)).digest() for parent in there)


def check_engine(engine: str, device: torch.device) -> None:
    """Fail before training where torch.compile does not work. Raises LayerpruneError."""
    if engine != "compiled":
        return
    try:
        torch.compile(lambda x: x + 1)(torch.ones(2, device=device))
    except RuntimeError as error:  # of torch's own kinds, which all derive from it
        raise LayerpruneError(
            "training.engine: compiled does not work here (on a CPU it needs a C++ compiler), use eager: "
            + " ".join(str(error).split())[:200]
        ) from None


def _run_locked(
    preset: Preset,
    key: RunKey,
    settings: RunSettings,
    weights: Weights | None,
    device: torch.device,
    caller: Caller,
    notice: Notice,
) -> Record:
    check_engine(settings.training.engine, device)
    group = caller.group
    if group.first:
        _clear_up(key)
    parents = _parents(preset, key)
    data = load(key.dataset, config.data_root(preset), device, reading(preset, key.dataset))
    state = StateFile(paths.state(key), _identity(key, settings, parents), preset.resources.state_seconds)
    task = Run(settings, data, device, parents, state, caller.report, notice, group)
    made_by = _provenance(task, key, weights)  # of now: preset and checkout may change while the run goes on
    broken = [name for name, parent in parents.items() if parent.record.status in ("diverged", "failed")]
    if broken:
        reason = f"its parent run '{broken[0]}' has status {parents[broken[0]].record.status}"
        made = _failed_record(task, key, reason, made_by)
    else:
        made = _finish(task, key, _execute(task, key, weights), made_by)
    group.meet()  # no process goes on to what needs this run before its record is there
    if group.first:
        state.delete()
    return made


def reading(preset: Preset, dataset: str) -> Reading:
    """How a preset's runs read a data set."""
    block = preset.datasets[dataset]
    return Reading(block.source, preset.resources.workers, preset.data.bad_images, block.decoder)


def _clear_up(key: RunKey) -> None:
    for folder in (paths.run_folder(key), paths.state(key).parent):
        files.clear_unfinished(folder)
    _check_writable(paths.run_folder(key))


def _execute(task: Run, key: RunKey, weights: Weights | None) -> Finished:
    try:
        if families()[key.method] == "experiments":
            return experiments.finished(task)
        return execute(task) if weights is None else pretrained.finished(task, weights)
    except SettingError as error:
        raise LayerpruneError(f"{paths.preset_file(key.preset)}: {key}: {error}") from None


def _check_writable(folder: Path) -> None:
    """Fail before training, not after it, when results cannot be written."""
    probe = folder / ".writable"
    files.write_text(probe, "")
    probe.unlink()


def _parents(preset: Preset, key: RunKey) -> dict[str, Parent]:
    return {each.method: _parent(each) for each in config.prerequisites(preset, key)}


def _parent(key: RunKey) -> Parent:
    return Parent(record.read(paths.record(key)), lambda: storage.load(paths.arch(key), paths.weights(key)))


def _identity(key: RunKey, settings: RunSettings, parents: dict[str, Parent]) -> str:
    versions = json.dumps(versions_of(key.dataset, key.arch, key.method))
    return "/".join([versions, settings.digest(), *(parent.record.digest() for parent in parents.values())])


# --- the record -----------------------------------------------------------------------------------------------


def _finish(task: Run, key: RunKey, finished: Finished, made_by: Provenance) -> Record:
    """Save the smaller network, read it back, measure what was read, write the record."""
    healthy = not finished.progress.diverged and all_finite(finished.network)
    if task.group.first:
        smaller = smaller_network(finished) if healthy else finished.network
        storage.save(smaller, paths.arch(key), paths.weights(key))
        files.write_text(paths.curves(key), _as_csv(finished.progress.rows))
    task.group.meet()
    smaller = storage.load(paths.arch(key), paths.weights(key)).to(task.device)
    made = _record(task, key, finished, smaller, healthy, made_by)
    if task.group.first:
        record.write(paths.record(key), made)
    return made


def _status(finished: Finished, healthy: bool) -> tuple[record.Status, str | None]:
    kept = sum(finished.outcome.keep)
    if not healthy:
        return "diverged", f"the loss or a weight was not finite at step {finished.progress.step}"
    if kept == 0:
        return "collapsed", "every section is gone"
    if finished.aims_to_prune and kept == len(finished.outcome.keep):
        return "unpruned", "no section went"
    return "ok", None


def _record(
    task: Run, key: RunKey, finished: Finished, smaller: SectionedNetwork, healthy: bool, made_by: Provenance
) -> Record:
    status, reason = _status(finished, healthy)
    progress, start = finished.progress, finished.start
    validation, test = (_score(task, smaller, split) if healthy else None for split in ("validation", "test"))
    steps_per_epoch = -(-len(task.data.train) // task.settings.training.batch_size)
    return Record(
        **_identifiers(task, key),
        status=status,
        reason=reason,
        val_accuracy=validation.accuracy if validation else None,
        test_accuracy=test.accuracy if test else None,
        val_top5_accuracy=validation.top5 if validation else None,
        test_top5_accuracy=test.top5 if test else None,
        val_accuracy_before_finetune=start.before_finetune,
        **_sizes(task, smaller),
        keep=finished.outcome.keep,
        removed_step=progress.removed_step,
        steps_total=progress.step,
        train_macs=progress.train_macs,
        train_macs_own=progress.train_macs - finished.spent_before[0],
        epochs=progress.step / steps_per_epoch,
        wall_seconds=progress.wall_seconds,
        wall_seconds_own=max(0.0, progress.wall_seconds - finished.spent_before[1]),
        equivalence_gap=_finite(certificate(task, finished, smaller)) if healthy else None,
        details=_finite(start.details | finished.outcome.details | _left_out(task)),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        resumed=progress.resumed,
        provenance=made_by,
    )


def _left_out(task: Run) -> dict:
    """The damaged images that any of the run's processes met, and what is wrong with them."""
    found = {name: reason for each in task.group.everyones(task.data.left_out) for name, reason in each.items()}
    return {"images_left_out": found} if found else {}


def _score(task: Run, network: SectionedNetwork, split: str) -> Score:
    return evaluate(network, task.data, getattr(task.data, split), group=task.group)


def _finite(value: Any) -> Any:
    """Plain data as JSON can hold it: None in place of NaN and infinity, which diverged runs leave."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _failed_record(task: Run, key: RunKey, reason: str, made_by: Provenance) -> Record:
    """A run that could not start is data too: the untrained network, and why."""
    network = task.fresh_network()
    count = len(network.sections)
    made = Record(
        **_identifiers(task, key),
        status="failed",
        reason=reason,
        val_accuracy=None,
        test_accuracy=None,
        **_sizes(task, network),
        keep=[1] * count,
        removed_step=[None] * count,
        steps_total=0,
        train_macs=0,
        train_macs_own=0,
        epochs=0,
        wall_seconds=0,
        wall_seconds_own=0,
        equivalence_gap=None,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        provenance=made_by,
    )
    if task.group.first:
        storage.save(network, paths.arch(key), paths.weights(key))
        files.write_text(paths.curves(key), "epoch,step\n")
        record.write(paths.record(key), made)
    return made


def _identifiers(task: Run, key: RunKey) -> dict:
    return {
        "preset": key.preset,
        "dataset": key.dataset,
        "data_source": task.data.source,
        "arch": key.arch,
        "method": key.method,
        "variant": key.variant,
        "seed": key.seed,
        "device": str(task.device.type),
    }


def _sizes(task: Run, network: SectionedNetwork) -> dict:
    whole = task.fresh_network()
    return {
        "sections_total": len(whole.sections),
        "depth": count_depth(network),
        "depth_dense": count_depth(whole),
        "macs": count_macs(network, network.input_shape),
        "macs_dense": count_macs(whole, whole.input_shape),
        "params": count_params(network),
        "params_dense": count_params(whole),
    }


def _checksums(weights: Weights | None) -> dict[str, str]:
    """What a record tells of the file that its network was read from."""
    return {f"weights/{weights.path.name}": weights.checksum} if weights is not None else {}


def _provenance(task: Run, key: RunKey, weights: Weights | None) -> Provenance:
    return Provenance(
        commit=provenance.commit(),
        dirty_digest=provenance.dirty_digest(),
        versions=versions_of(key.dataset, key.arch, key.method),
        config_digest=task.settings.digest(),
        config=task.settings.model_dump(mode="json"),
        data_checksums=task.data.checksums | _checksums(weights),
        lock_digest=provenance.lock_digest(),
        parents={str(_key_of(parent.record)): parent.record.digest() for parent in task.parents.values()},
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda if task.device.type == "cuda" else None,
        gpu=torch.cuda.get_device_name(task.device) if task.device.type == "cuda" else None,
        cpu=cpu_name(),
        threads=torch.get_num_threads(),
        processes=task.group.size,
        cpu_kernels=torch.backends.cpu.get_cpu_capability(),
    )


def _key_of(made: Record) -> RunKey:
    return RunKey(made.preset, made.dataset, made.arch, made.method, made.variant, made.seed)


def _as_csv(rows: list[Row]) -> str:
    """Curves as text; floats are written so that they read back exactly, missing values as nothing."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    return text.getvalue()
