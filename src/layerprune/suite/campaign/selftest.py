"""Whether steps recorded as graphs may be trusted on this device: ten of them against ten eager ones, on random images.

How far networks are apart is told as a share of how far they have moved. Two eager trainings may differ themselves,
where a device adds up in no fixed order: then recorded steps may differ somewhat more.
"""

import copy
import math
import sys
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from layerprune.core.methods import entry_point, families
from layerprune.core.methods.base import Context, TrainingMethod
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.training.finetuning import Finetuning
from layerprune.core.training.loop import Trainer
from layerprune.suite import forecast
from layerprune.suite.campaign.places import FINE_TUNING, way_of
from layerprune.suite.config import RunSettings

STEPS, EPOCH, BATCH = 10, 5, 32
"""Of two epochs, whose last batch is half as large."""
SHORT = {"warmup": "3it", "price_ramp": 0.2, "consolidate_at": 0.8, "check_interval": 2, "patience": "2it"}
"""Settings of methods, where they have them, with which ten steps meet every phase and a removal."""
TRAINING = {"lr": 0.01, "lr_batch": None, "lr_warmup": "2it"}
LEAST, TIMES = 1e-2, 5.0
"""Recorded steps may differ by LEAST, or by TIMES the difference between two eager trainings."""


@dataclass(frozen=True)
class Verdict:
    """How far recorded steps are from eager ones, and how far they may be; None: such steps are not recorded."""

    apart: float | None
    bound: float = LEAST

    @property
    def agrees(self) -> bool:
        return self.apart is not None and self.apart <= self.bound


def check(settings: RunSettings, device: torch.device) -> Verdict:
    """Train as the run does, recorded and eagerly. Raises what torch raises where steps cannot be recorded."""
    recorded, eager, again = (_trainer(settings, device, records) for records in (True, False, False))
    if recorded.recorded is None or any(recorded.method.phase(step) is None for step in range(STEPS)):
        return Verdict(None)
    before = _learnt(eager)
    for trainer in (recorded, eager, again):
        trainer.run()
    moved = [_gap(mine, before[kind]) for kind, mine in _learnt(eager).items()]
    return Verdict(_apart(recorded, eager, moved), max(LEAST, TIMES * _apart(again, eager, moved)))


def _apart(one: Trainer, other: Trainer, moved: list[float]) -> float:
    """The largest gap as a share of `moved`, of parameters and of what the method learns; infinite where sections went
    that stayed in the other.
    """
    if one.network.keep() != other.network.keep():
        return math.inf
    gaps = [_gap(mine, theirs) for mine, theirs in zip(_learnt(one).values(), _learnt(other).values(), strict=True)]
    return max(0.0 if gap == 0 else gap / max(way, sys.float_info.min) for gap, way in zip(gaps, moved, strict=True))


def _learnt(trainer: Trainer) -> dict[str, dict[str, Tensor]]:
    """Copies of the parameters by name, and of the method's own."""
    network = {name: each.detach().double().clone() for name, each in trainer.network.named_parameters()}
    return {"network": network, "method": {"curve": torch.tensor(trainer.method.curve() or [0.0]).double()}}


def _gap(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Euclidean distance over what `one` has; nan where a number is none."""
    return math.sqrt(sum(float((value - other[name]).square().sum()) for name, value in one.items()))


def _trainer(settings: RunSettings, device: torch.device, records: bool) -> Trainer:
    training = settings.training.model_copy(update=TRAINING)
    short = settings.model_copy(update={"training": training})
    data = forecast.noise(settings, EPOCH * BATCH - BATCH // 2, device)
    method = partial(_method, settings)
    return forecast.trainer_on_noise(short, data, STEPS, BATCH, device, method, records)


def _method(settings: RunSettings, network: SectionedNetwork, context: Context) -> TrainingMethod:
    own = settings.method_settings()
    own = own.model_copy(update={name: value for name, value in SHORT.items() if name in type(own).model_fields})
    context = replace(context, teacher=copy.deepcopy(network).eval().requires_grad_(False))
    if way_of(settings.method) == FINE_TUNING:
        return Finetuning(own, network, context)
    if families()[settings.method] == "trained":
        return entry_point(settings.method)(own, network, context)
    return TrainingMethod(own, network, context)
