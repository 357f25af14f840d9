"""Concurrent training and layer pruning in anybody's training loop: four lines.

    sections = layerprune.find_sections(model, example_input)
    pruner = layerprune.ConcurrentPruner(model, sections, optimizer, total_steps=steps, target_macs=0.6)
    for x, y in batches:
        loss = criterion(model(x), y); loss.backward()
        optimizer.step(); optimizer.zero_grad(); pruner.step()
    smaller = pruner.export()

The method is that of layerprune.core.methods.trained.gated: while the model trains, each example meets its own random
subset of sections, theta follows what they are worth to the loss against their price, and what has become useless
leaves model and optimizer. The loss has to be the mean over the examples of a step.
"""

import operator
import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

import torch
import torch.distributed as processes
from pydantic import ValidationError
from torch import Tensor, nn

from layerprune.core import timing
from layerprune.core.measure import evaluating
from layerprune.core.methods.base import Context
from layerprune.core.methods.parts import budget
from layerprune.core.methods.parts.section_latency import SectionLatencies, shared_out, shortest
from layerprune.core.methods.trained import gated
from layerprune.core.settings import GatedSettings
from layerprune.core.settings.types import first_problem
from layerprune.core.surgery import drop_parameters
from layerprune.errors import LayerpruneError
from layerprune.library import examples
from layerprune.library.find_sections import FoundSections, unwrapped
from layerprune.library.gates import gates_of
from layerprune.library.hooks import OfPruner
from layerprune.library.recording import undisturbed
from layerprune.library.rewriting import Forward
from layerprune.library.whole_layers import shorten
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup


class ConcurrentPruner:
    """Gates on the sections of a model that is being trained.

    Give one of `nu` (the price of an open section in units of the mean loss: larger removes more), `target_macs` (share
    of the model's multiply-adds to end with), `target_depth` (removable sections to end with) and `target_latency`
    (share of the time of a forward pass to end with, measured now, on batches like find_sections' example: let the
    model be where it will run and the machine idle). `total_steps` are the calls of `step` that there will be,
    `warmup_steps` (a tenth) those for which theta waits, `consolidate_at` the fraction after which theta is rounded and
    the rest trains as a plain network. `theta_lr` moves theta; a useless section takes 0.5 / (nu theta_lr) steps to
    close. With automatic mixed precision, pass its GradScaler as `scaler`. `cost` says whether every section has the
    same price or one by its share of "macs", "params" or measured "latency". `on_removal` is told the names of sections
    that have left. `forward` is that of the sections where some have left the model before.

    Raises LayerpruneError, and leaves the model as it was, for a model without removable sections, one whose branches
    are frozen, an optimizer that does not hold their parameters, and a target that cannot be met.
    """

    def __init__(
        self,
        model: nn.Module,
        sections: FoundSections,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
        *,
        total_steps: int,
        nu: float | None = None,
        target_macs: float | None = None,
        target_depth: int | None = None,
        target_latency: float | None = None,
        theta_lr: float = 0.05,
        warmup_steps: int | None = None,
        consolidate_at: float = 0.5,
        check_interval: int = 25,
        cost: Literal["uniform", "macs", "params", "latency"] = "uniform",
        drawn_share: float = 1.0,
        side_floor: float = 4.0,
        seed: int = 0,
        scaler: Any = None,
        on_removal: Callable[[list[str]], None] = lambda names: None,
        forward: Forward | None = None,
    ) -> None:
        wrapped, model = model, unwrapped(model)
        if forward is None and sections.model is model:
            sections = trainable(sections)
        self._forward = forward if forward is not None else Forward(sections)
        self._optimizers = list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]
        aims = (nu, target_macs, target_depth, target_latency)
        _check(wrapped, model, sections, self._forward, self._optimizers, aims)
        self.model, self.sections, self.optimizer = model, sections, optimizer
        self._scaler, self._on_removal, self._total, self._seed = scaler, on_removal, total_steps, seed
        if total_steps < 1:
            raise LayerpruneError(
                f"ConcurrentPruner: total_steps: how often step() will be called, at least 1, not {total_steps}"
            )
        warmup = total_steps // 10 if warmup_steps is None else warmup_steps
        self._settings = _settings(
            nu=nu,
            target_latency=target_latency,
            theta_lr=theta_lr,
            warmup=f"{warmup}it",
            consolidate_at=consolidate_at,
            check_interval=check_interval,
            cost=cost,
            drawn_share=drawn_share,
            side_floor=side_floor,
        )
        self._budget = self._budget_of(target_macs, target_depth)
        self._group = _process_group_here(model)
        self._method: gated.Method | None = None
        self._draws: list[tuple[Tensor, int]] = []  # with the examples of their forward passes, in all processes
        self._scale = 1.0
        self._steps = 0
        self._latencies: SectionLatencies | None = None
        if target_latency is not None or cost == "latency":
            self._latencies = self._measured_latencies()
        self._begin(batch=1)  # a setting that does not fit is said before anything has changed
        self._method = None
        self._attach()

    # --- what is asked of it --------------------------------------------------------------------------------

    @property
    def theta(self) -> dict[str, float]:
        """Each removable section's probability to be open; 0 where it has gone."""
        values = [self._settings.theta0] * len(self._forward.alive) if self._method is None else self._theta()
        alive = self._forward.alive
        names = [section.name for section in self.sections.removable]
        return {name: value if stays else 0.0 for name, value, stays in zip(names, values, alive, strict=True)}

    @property
    def removed(self) -> list[str]:
        """Names of the sections that have left the model."""
        pairs = zip(self.sections.removable, self._forward.alive, strict=True)
        return [section.name for section, stays in pairs if not stays]

    @property
    def consolidated(self) -> bool:
        """Whether every section has been decided on."""
        return self._method is not None and self._method.theta_before_rounding is not None

    def step(self) -> list[str]:
        """After each optimizer step. Returns the names of sections that have left the model now.

        Raises LayerpruneError where no training forward and backward pass came before.
        """
        if not self.consolidated and any(self._forward.alive):
            self._take_in()
        self._steps += 1
        is_check = self._steps % self._settings.check_interval == 0 or self._steps == self._total
        return self._remove(self._method.removals(self._steps)) if is_check and self._method is not None else []

    def export(self) -> nn.Module:
        """A copy of the model without gates and without what has gone, to use, to train on, or to save.

        Raises LayerpruneError before theta has been rounded, at `consolidate_at` of `total_steps`.
        """
        if not self.consolidated:
            raise LayerpruneError(
                f"export: sections are still undecided after {self._steps} steps: go on training until "
                f"{self._settings.consolidate_at} of total_steps = {self._total}, or call finish() first"
            )
        plain = self._forward.plain()
        shorten(plain, self.sections.example)
        return plain

    def finish(self) -> list[str]:
        """Round theta now, whatever step it is; returns the names of sections that leave the model for it."""
        if self._method is None:
            raise LayerpruneError("finish: nothing has been trained yet")
        return [] if self.consolidated else self._remove(self._method._round())

    def state_dict(self) -> dict[str, Any]:
        """What an exact resume needs beside the model's and the optimizer's states."""
        if self._draws:
            raise LayerpruneError("state_dict: call it after step(), not between a forward pass and step()")
        method = self._method
        return {
            "alive": list(self._forward.alive),
            "steps": self._steps,
            "batch": method.context.batch_size if method is not None else None,
            "method": method.state() if method is not None else None,
            "noise": method.noise.get_state() if method is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state, into a pruner on the whole model; then load the model's and the optimizer's states."""
        alive = self._forward.alive
        if len(state["alive"]) != len(alive) or any(map(operator.gt, state["alive"], alive)):
            raise LayerpruneError("load_state_dict: the state is of other sections, or some have left already")
        self._steps = state["steps"]
        if state["method"] is not None:
            self._begin(state["batch"])
            self._method.load_state(state["method"])
            self._method.noise.set_state(state["noise"])
        gone = [place for place, stays in enumerate(state["alive"]) if alive[place] and not stays]
        if gone:
            self._take_out(gone)

    # --- gates ----------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        self._forward.install()
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()  # what was compiled before does not know of the gates
        self.model.register_forward_pre_hook(_OfThisModel(self._before_forward), with_kwargs=True)
        self.model.register_forward_hook(_OfThisModel(self._after_forward), always_call=True)

    @torch.compiler.disable
    def _before_forward(self, model: nn.Module, inputs: tuple, named: dict) -> None:
        """Draw gates for a training pass; in evaluation the network that would be left."""
        if model.training and torch.is_grad_enabled():
            batch = examples.batch_size((inputs, named))
            if self._method is None:
                self._begin(batch)
            gates = self._method.gates(self._steps, batch * self._group.size)
            if self._method.drawn is not None:
                self._draws.append((self._method.drawn, batch * self._group.size))
                self._scale = float(self._scaler.get_scale()) if self._scaler is not None else 1.0
        else:
            gates = self._method.evaluation_gates() if self._method is not None else None
        self._forward.gates.start(gates)

    @torch.compiler.disable
    def _after_forward(self, model: nn.Module, inputs: tuple, output: Any) -> None:
        """Parts of the model that are called on their own are not gated."""
        self._forward.gates.stop(to_backward=model.training and torch.is_grad_enabled())

    def _begin(self, batch: int) -> None:
        """The method, as soon as the size of batches is known."""
        device = next(self.model.parameters()).device
        removable = self.sections.removable
        network = _Network(self._forward)
        context = Context(
            examples=1,
            batch_size=batch * self._group.size,
            steps_per_epoch=self._total,
            steps_total=self._total,
            seed=self._seed,
            device=device,
            section_macs=tuple(max(section.macs, 1) for section in removable),
            section_params=tuple(section.params for section in removable),
            group=self._group,
        )
        self._method = _Method(self._settings, network, context, self._latencies)
        if self._budget is not None:
            self._method.budget = self._budget
        self._method.start_epoch(0)

    def _take_in(self) -> None:
        """Tell the method what the gates' gradients were, of all forward passes since the last step."""
        draws, self._draws = self._draws, []
        if not draws and not self._is_silent():
            raise LayerpruneError(
                "step: no forward pass in training mode since the last step; call step() once after each optimizer step"
            )
        if not draws:
            return
        draws = [each for each in draws if each[0].grad is not None]  # others' loss was not followed back
        if not draws:
            raise LayerpruneError("step: no backward pass since the forward pass; call step() after loss.backward()")
        slopes = torch.cat([each.grad for each, _ in draws], 1) / self._scale
        if self._scaler is not None and not bool(torch.isfinite(slopes).all()):
            return  # the scaler has skipped this step too
        method = self._method
        method.drawn = torch.cat([each.detach() for each, _ in draws], 1)
        method.drawn.grad = slopes
        # The loss is the mean over all examples of the step, those whose gates were not drawn included.
        method.batch = sum(count for _, count in draws)
        method.prepare(self._steps)
        method.after_backward(self._steps, slopes.new_zeros(method.drawn.shape[1]), _no_losses)

    def _is_silent(self) -> bool:
        return self._method is not None and self._method.drawn is None

    def _remove(self, places: list[int]) -> list[str]:
        self._group.agree(f"the sections to remove at step {self._steps}", places)
        if not places:
            return []
        self._take_out(places)
        names = [self.sections.removable[place].name for place in places]
        self._on_removal(names)
        return names

    def _take_out(self, places: list[int]) -> None:
        gone = self._forward.remove(places)
        for each in self._optimizers:
            drop_parameters(each, gone)

    def _theta(self) -> list[float]:
        return self._method.theta.tolist()

    def _measured_latencies(self) -> SectionLatencies:
        """Those of the whole model; where sections have left it, any, since the state that follows holds them."""
        count = len(self._forward.alive)
        if not all(self._forward.alive):
            return SectionLatencies(1.0, (1 / count,) * count)
        return _latencies_of(self._forward, self.sections.example)

    def _budget_of(self, target_macs: float | None, target_depth: int | None) -> budget.Budget | None:
        removable = self.sections.removable
        if target_macs is not None:
            return budget.of_macs(target_macs, self.sections.macs, [section.macs for section in removable])
        return budget.of_depth(target_depth, len(removable)) if target_depth is not None else None


def _latencies_of(forward: Forward, example: Any) -> SectionLatencies:
    """Milliseconds of the whole model and of each removable section, for batches like the example, in evaluation."""
    everything = range(len(forward.sections))
    absent: list[Sequence[int]] = [(), everything, *((place,) for place in everything)]
    device = next(forward.model.parameters()).device
    batch = examples.moved(example, device)

    def timed(places: Sequence[int]) -> float:
        with forward.without(places):
            return timing.seconds(lambda: examples.call(forward.model, batch), device)

    with undisturbed(forward.model), evaluating(forward.model), torch.inference_mode():
        whole, none, *without = shortest([partial(timed, places) for places in absent])
    return shared_out(whole, none, without)


class _OfThisModel(OfPruner):
    """A hook of the pruner's model, which does nothing on copies of the model."""

    def __init__(self, hook: Callable[..., None] | None = None) -> None:
        self._hook = hook

    def __call__(self, *args: Any) -> None:
        if self._hook is not None:
            self._hook(*args)

    def __deepcopy__(self, memo: dict) -> "_OfThisModel":
        return _OfThisModel()

    def __reduce__(self) -> tuple:
        return _OfThisModel, ()


class _Method(gated.Method):
    """Latencies are the model's, of the first process."""

    def __init__(
        self, settings: GatedSettings, network: "_Network", context: Context, latencies: SectionLatencies | None
    ) -> None:
        self._measured = latencies
        super().__init__(settings, network, context)

    def _latencies(self) -> SectionLatencies | None:
        return self.context.group.everyones(self._measured)[0]


class _Network:
    """What the method asks of a network: which sections are alive."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward

    def keep(self) -> list[int]:
        return [int(stays) for stays in self._forward.alive]

    @property
    def sections(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(alive=stays) for stays in self._forward.alive]


def _settings(**values: Any) -> GatedSettings:
    try:
        return GatedSettings(**values)
    except ValidationError as error:
        raise LayerpruneError(f"ConcurrentPruner: {first_problem(error).lstrip('.: ')}") from None


def _no_losses(gates: Tensor) -> Tensor:
    raise LookupError("no estimator here asks for a second forward pass")


def trainable(sections: FoundSections) -> FoundSections:
    """The same sections, but that frozen ones stay, if others may go."""
    frozen = {
        each.name: "frozen"
        for each in sections.removable
        if not any(one.requires_grad for one in each.parameters(sections.model))
    }
    return sections.but(frozen) if len(frozen) < len(sections.removable) else sections


def _check(
    wrapped: nn.Module,
    model: nn.Module,
    sections: FoundSections,
    forward: Forward,
    optimizers: Sequence[torch.optim.Optimizer],
    aims: tuple[float | None, ...],
) -> None:
    if sections.model is not model:
        raise LayerpruneError("ConcurrentPruner: the sections were found in another model")
    if gates_of(model) is not None:
        raise LayerpruneError("ConcurrentPruner: the model has gates already; one pruner a model")
    if not sections.removable:
        reasons = sorted({section.reason for section in sections})
        raise LayerpruneError(f"ConcurrentPruner: no section may go: {reasons[0]}; print(sections) lists them")
    if sum(aim is not None for aim in aims) != 1:
        raise LayerpruneError("ConcurrentPruner: give one of nu, target_macs, target_depth and target_latency")
    _, macs, depth, latency = aims
    for name, share in (("target_macs", macs), ("target_latency", latency)):
        if share is not None and not 0 < share <= 1:
            raise LayerpruneError(
                f"ConcurrentPruner: {name} is a share of the model's, above 0 and up to 1, not {share}"
            )
    if depth is not None and (depth < 0 or depth != int(depth)):
        raise LayerpruneError(f"ConcurrentPruner: target_depth is a number of sections to keep, from 0 on, not {depth}")
    held = {id(each) for one in optimizers for group in one.param_groups for each in group["params"]}
    there = [section for section, stays in zip(sections.removable, forward.alive, strict=True) if stays]
    for section in there:
        trained = [each for each in section.parameters(model) if each.requires_grad]
        if not trained:
            raise LayerpruneError(
                f"ConcurrentPruner: section '{section.name}' is frozen: nothing in it takes gradients; "
                "call requires_grad_() on it, and make the optimizer after that"
            )
        if not all(id(each) in held for each in trained):
            raise LayerpruneError(
                f"ConcurrentPruner: the optimizer does not hold the parameters of section '{section.name}': "
                "make it from model.parameters(), or give a list of all optimizers"
            )
    if isinstance(wrapped, nn.parallel.DistributedDataParallel) and not wrapped.find_unused_parameters:
        raise LayerpruneError(
            "ConcurrentPruner: sections leave the model, which DistributedDataParallel has to be told: "
            "find_unused_parameters=True"
        )


def _process_group_here(model: nn.Module) -> ProcessGroup:
    """This process among those that train the model together."""
    if not processes.is_available() or not processes.is_initialized() or processes.get_world_size() == 1:
        return SINGLE_PROCESS
    return ProcessGroup(processes.get_rank(), processes.get_world_size(), next(model.parameters()).device)
