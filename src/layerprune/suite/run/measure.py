"""The smaller network of a training, and what its record states: accuracies, sizes, cost, the equivalence gap."""

import copy
import math
from datetime import UTC, datetime
from typing import Any

import torch
from torch import nn

from layerprune.core import surgery
from layerprune.core.measure import count_depth, count_macs, count_params, equivalence_gap
from layerprune.core.networks.sections import SectionedNetwork, mask_gates
from layerprune.core.training.evaluate import Score, evaluate
from layerprune.suite.record import LARGEST_GAP, Files, Provenance, Record, Status
from layerprune.suite.run.task import Task
from layerprune.suite.run.train import Trained
from layerprune.system import memory
from layerprune.system.paths import RunKey


def is_healthy(trained: Trained) -> bool:
    """Whether losses and weights have stayed finite."""
    return not trained.progress.diverged and all_finite(trained.network)


def all_finite(network: nn.Module) -> bool:
    """Whether every weight is a finite number."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters())


def smaller_network(trained: Trained) -> SectionedNetwork:
    """The network to ship: constant gates folded into weights, neighbouring linear maps multiplied out."""
    network = copy.deepcopy(trained.network)
    scale = trained.outcome.scale
    for index, section in enumerate(network.sections):
        if section.alive and scale is not None:
            surgery.scale_branch(section, scale[index])
    surgery.fold(network)
    return network


def certificate(task: Task, trained: Trained, smaller: SectionedNetwork) -> float:
    """Gap between the whole network with gates fixed, and the smaller one; see core.measure.equivalence.

    Removed branches get fresh random weights in the whole network: behind a gate at 0 they must not matter.
    """
    whole = task.fresh_network("certificate")
    own, left = whole.state_dict(), trained.network.state_dict()
    with torch.no_grad():
        for name in own.keys() & left.keys():
            own[name].copy_(left[name])
    scale = trained.outcome.scale or [1.0] * len(trained.outcome.keep)
    gates = mask_gates([stays * factor for stays, factor in zip(trained.outcome.keep, scale, strict=True)], task.device)
    return equivalence_gap(whole, gates, smaller, task.certificate_images())


def measure(
    task: Task, key: RunKey, trained: Trained, smaller: SectionedNetwork, files: Files, made_by: Provenance
) -> Record:
    """The record of a run, by the smaller network as it was read back from the disk."""
    healthy, progress, start = is_healthy(trained), trained.progress, trained.start
    gap = certificate(task, trained, smaller) if healthy else None
    status, reason = _status(trained, gap)
    validation, test = (_score(task, smaller, split) if healthy else None for split in ("validation", "test"))
    spent_macs, spent_seconds = task.spent_by_parents
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
        keep=trained.outcome.keep,
        removed_step=progress.removed_step,
        steps_total=progress.step,
        train_macs=progress.train_macs,
        train_macs_own=progress.train_macs - spent_macs,
        epochs=progress.step / trained.steps_per_epoch,
        wall_seconds=progress.wall_seconds,
        wall_seconds_own=max(0.0, progress.wall_seconds - spent_seconds),
        equivalence_gap=_finite(gap),
        details=_finite(start.details | trained.outcome.details | _left_out(task)),
        finished_at=_now(),
        resumed=progress.resumed,
        files=files,
        provenance=made_by,
    )


def energy_of(task: Task, trained: Trained, joules: float | None) -> dict[str, float]:
    """A record's energy; nothing for a run that others share a process or device with, or that was interrupted."""
    if joules is None or task.lanes is not None or task.group.size > 1 or trained.progress.resumed:
        return {}
    parent = task.parents.get("dense")
    before = 0.0 if parent is None else parent.record.energy_joules
    return {"energy_joules_own": joules} | ({} if before is None else {"energy_joules": before + joules})


def memory_of(task: Task) -> dict[str, int | None]:
    """A record's memory, up to now; nothing for a run that others share a process with, or that several share."""
    if task.lanes is not None or task.group.size > 1:
        return {}
    return {"memory_bytes": memory.largest(), "gpu_memory_bytes": memory.largest_on(task.device)}


def failed(
    task: Task, key: RunKey, reason: str, network: SectionedNetwork, files: Files, made_by: Provenance
) -> Record:
    """The record of a run that could not start, which is a result too: the untrained network, and the reason."""
    count = len(network.sections)
    return Record(
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
        finished_at=_now(),
        files=files,
        provenance=made_by,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _status(trained: Trained, gap: float | None) -> tuple[Status, str | None]:
    """Status and reason; `gap` is None of a run that is not healthy."""
    kept = sum(trained.outcome.keep)
    if gap is None:
        return "diverged", f"the loss or a weight was not finite at step {trained.progress.step}"
    if not gap <= LARGEST_GAP:  # NaN is no gap that may be
        return "failed", f"the saved network computes other logits than the trained one: {gap:.1e} apart"
    if kept == 0:
        return "collapsed", "every section is gone"
    if trained.aims_to_prune and kept == len(trained.outcome.keep):
        return "unpruned", "no section went"
    return "ok", None


def _left_out(task: Task) -> dict:
    """The damaged images that any of the run's processes met, and what is wrong with them."""
    found = {name: reason for each in task.group.everyones(task.data.left_out) for name, reason in each.items()}
    return {"images_left_out": found} if found else {}


def _score(task: Task, network: SectionedNetwork, split: str) -> Score:
    return evaluate(network, task.data, getattr(task.data, split), group=task.group)


def _finite(value: Any) -> Any:
    """Plain data as JSON can hold it: None in place of NaN and infinity, which diverged runs leave."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _identifiers(task: Task, key: RunKey) -> dict:
    named = {name: getattr(key, name) for name in ("preset", "dataset", "arch", "method", "variant", "seed")}
    return named | {"data_source": task.data.source, "device": str(task.device.type)}


def _sizes(task: Task, network: SectionedNetwork) -> dict:
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
