"""The gated method on somebody's model: what it asks of a network, its settings, and what sections take in time."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from layerprune.core import timing
from layerprune.core.measure import evaluating
from layerprune.core.methods.base import Context
from layerprune.core.methods.parts.section_latency import SectionLatencies, shared_out, shortest
from layerprune.core.methods.trained import gated
from layerprune.core.settings import GatedSettings
from layerprune.core.settings.types import first_problem
from layerprune.errors import LayerpruneError, SettingError
from layerprune.library import examples
from layerprune.library.aims import Aims
from layerprune.library.recording import undisturbed
from layerprune.library.rewriting import Forward


class Method(gated.Method):
    """Latencies are the model's, of the first process; prices may go by shares in memory."""

    def __init__(
        self,
        settings: GatedSettings,
        network: "Network",
        context: Context,
        latencies: SectionLatencies | None,
        memory: tuple[float, ...] | None,
    ) -> None:
        self._measured, self._memory = latencies, memory
        super().__init__(settings, network, context)

    def _latencies(self) -> SectionLatencies | None:
        return self.context.group.everyones(self._measured)[0]

    def _costs_of_sections(self) -> Tensor:
        if self._memory is None:
            return super()._costs_of_sections()
        raw = torch.tensor(self._memory, device=self.context.device)
        return raw * (len(raw) / raw.sum())


class Network:
    """What the method asks of a network: which sections are alive."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward

    def keep(self) -> list[int]:
        return [int(stays) for stays in self._forward.alive]

    @property
    def sections(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(alive=stays) for stays in self._forward.alive]


def settings_of(
    aims: Aims, cost: str, sections: int, total_steps: int, warmup_steps: int | None, **values: Any
) -> GatedSettings:
    """The method's settings for an aim; `values` are other settings. Raises LayerpruneError for one out of range."""
    warmup = total_steps // 10 if warmup_steps is None else warmup_steps
    try:
        return GatedSettings(
            nu=aims.first_price(sections),
            theta0=aims.theta0,
            target_latency=aims.target_latency,
            warmup=f"{warmup}it",
            cost="uniform" if cost == "memory" else cost,
            **values,
        )
    except ValidationError as error:
        raise LayerpruneError(f"ConcurrentPruner: {first_problem(error).lstrip('.: ')}") from None


@contextmanager
def told_by_arguments() -> Iterator[None]:
    """What the method says of its settings is said of the pruner's arguments."""
    try:
        yield
    except SettingError as error:
        text = str(error).removeprefix("settings.")
        text = re.sub(r"^warmup: (\d+)it", r"warmup_steps: \1", text)
        raise LayerpruneError(f"ConcurrentPruner: {text}") from None


def no_losses(gates: Tensor) -> Tensor:
    """There is no second forward pass in somebody's own loop."""
    raise LookupError("no estimator here asks for a second forward pass")


def section_latencies(forward: Forward, example: Any) -> SectionLatencies:
    """Milliseconds of the whole model and of each removable section, for batches like the example, in evaluation.

    Where sections have left the model, any: the state that follows holds them.
    """
    count = len(forward.sections)
    if not all(forward.alive):
        return SectionLatencies(1.0, (1 / count,) * count)
    absent: list[Sequence[int]] = [(), range(count), *((place,) for place in range(count))]
    device = next(forward.model.parameters()).device
    batch = examples.moved(example, device)

    def timed(places: Sequence[int]) -> float:
        with forward.without(places):
            return timing.seconds(lambda: examples.call(forward.model, batch), device)

    with undisturbed(forward.model), evaluating(forward.model), torch.inference_mode():
        whole, none, *without = shortest([partial(timed, places) for places in absent])
    return shared_out(whole, none, without)
