"""One run: prepare -> train -> measure -> write, its parents first where they are missing.

Rerunning a finished run does nothing; rerunning an interrupted one resumes from its state. Two processes cannot run the
same run, unless torchrun started them to share it: then each has a device, and the first one writes the files.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from layerprune.errors import LayerpruneError, SettingError
from layerprune.suite import config
from layerprune.suite.config import Preset
from layerprune.suite.record import Record
from layerprune.suite.run import prepare
from layerprune.suite.run.prepare import Caller, Lane, Request
from layerprune.suite.run.task import Report, Task
from layerprune.suite.run.train import Trained, train
from layerprune.suite.run.write import clear_up, write, write_failed
from layerprune.system import energy, files, memory, paths
from layerprune.system.devices import exact_float32, fastest_convolutions
from layerprune.system.paths import RunKey
from layerprune.system.process_group import ProcessGroup


def run(
    key: RunKey,
    device: str | None,
    threads: int | None,
    report: Report,
    say: Callable[[str], None],
    weights: Path | None = None,
    lane: Lane | None = None,
    records: bool = True,
) -> Record:
    """Make a run's files, its parents' first where they are missing, and return its record.

    With `weights` the dense network is not trained but read from this file. `lane` is given where threads make runs
    side by side. Without `records` steps are computed eagerly, even if the engine records them.
    """
    exact_float32()
    preset = config.load_preset(key.preset)
    if weights is not None:
        _check_takes_weights(preset, key)
    chosen = device or preset.resources.device
    with prepare.process_group(preset, chosen, say) as group:
        told = (report, say) if group.first else (lambda *_: None, lambda _: None)
        own_threads = prepare.threads_of_a_process(threads) or preset.resources.threads
        return _made(preset, key, Caller(chosen, own_threads, *told, group, weights, lane, records))


def _check_takes_weights(preset: Preset, key: RunKey) -> None:
    if "dense" not in (key.method, *(parent.method for parent in config.prerequisites(preset, key))):
        raise LayerpruneError(f"--weights: '{key.method}' does not start from the dense network")


def _made(preset: Preset, key: RunKey, caller: Caller) -> Record:
    """The run's record, made where it is not current."""
    asked, group = prepare.request(preset, key, caller.weights), caller.group
    _make_parents(asked, caller)
    existing = asked.current(caller.say)
    if not group.any(existing is None):
        caller.say(f"{paths.record(key)}: up to date, status {existing.status}")
        _forget_state(key)
        return existing
    torch.set_num_threads(caller.threads)
    with _locked(key, group):
        group.meet()
        made_meanwhile = asked.current(caller.say)
        if not group.any(made_meanwhile is None):
            return made_meanwhile
        with prepare.lent_device(preset, caller) as device, prepare.notice_of(caller) as notice:
            prepare.check_engine(asked.settings.training.engine, device)
            if group.first:
                clear_up(key)
            alone = preset.resources.runs_per_gpu == 1
            chooses = asked.settings.training.engine == "graphs" and caller.lane is None
            with fastest_convolutions() if chooses else nullcontext():
                made = _finished(prepare.task_of(asked, device, caller, notice), key, alone)
            if made.status == "failed":
                caller.say(f"{key}: {made.status}: {made.reason}")
            return made


def _make_parents(asked: Request, caller: Caller) -> None:
    for parent in asked.parents:
        given = caller.weights is not None and parent.method == "dense"
        if given or caller.group.any(not prepare.is_there(asked.preset, asked.key, parent)):
            if not given:
                caller.say(f"{asked.key} starts from {parent}, which is run first")
            _made(asked.preset, parent, caller)
        elif paths.state(parent).is_file() and prepare.request(asked.preset, parent, None).current(lambda _: None):
            _forget_state(parent)


def _forget_state(key: RunKey) -> None:
    """Delete the state of a finished run, left where a kill came between its record and clearing up."""
    if paths.state(key).is_file():
        paths.state(key).unlink(missing_ok=True)


def _locked(key: RunKey, group: ProcessGroup) -> AbstractContextManager[None]:
    """The lock on a run, held by the first process for all."""
    if not group.first:
        return nullcontext()
    return files.exclusive(paths.lock(key), "this run is being made by another process")


def _finished(task: Task, key: RunKey, alone: bool) -> Record:
    """Train, measure, write; the resume state goes once the record is there. `alone`: no other run is on the GPU."""
    made_by = prepare.provenance_of(task, key)
    broken = [name for name, parent in task.parents.items() if parent.record.status in ("diverged", "failed")]
    if broken:
        reason = f"its parent run '{broken[0]}' has status {task.parents[broken[0]].record.status}"
        made = write_failed(task, key, reason, made_by)
    else:
        memory.begin(task.device)
        with energy.metered(task.device, alone) as meter:
            trained = _trained(task, key)
        made = write(task, key, trained, made_by, meter.joules)
    task.group.meet()  # no process goes on to what needs this run before its record is there
    if task.group.first:
        task.state.delete()
    return made


def _trained(task: Task, key: RunKey) -> Trained:
    try:
        return train(task)
    except SettingError as error:
        raise LayerpruneError(f"{paths.preset_file(key.preset)}: {key}: {error}") from None
