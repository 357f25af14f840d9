"""Concurrent training and layer pruning in anybody's training loop: four lines.

    sections = layerprune.find_sections(model, example_input)
    pruner = layerprune.ConcurrentPruner(model, sections, optimizer, total_steps=steps, target_macs=0.6)
    for x, y in batches:
        loss = criterion(model(x), y); loss.backward()
        optimizer.step(); optimizer.zero_grad(); pruner.step()
    smaller = pruner.export()

The method is that of layerprune.core.methods.trained.gated: while the model trains, each example meets its own random
subset of sections, theta weighs what each section is worth to the loss against its price, and useless sections leave
the model and the optimizer. The loss must be the mean over the examples of a step.
"""

import copy
import math
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as processes
from torch import Tensor, nn

from layerprune.core.methods.base import Context
from layerprune.core.methods.parts import budget
from layerprune.core.methods.parts.section_latency import SectionLatencies
from layerprune.core.surgery import drop_parameters
from layerprune.core.training.finetuning import TEMPERATURE
from layerprune.errors import LayerpruneError
from layerprune.library import examples, first_pass, recomputation
from layerprune.library.aims import Aims, Cost, is_count
from layerprune.library.distillation import Teacher
from layerprune.library.find_sections import unwrapped
from layerprune.library.found_sections import FoundSections
from layerprune.library.gated_training import (
    Method,
    Network,
    no_losses,
    section_latencies,
    settings_of,
    told_by_arguments,
)
from layerprune.library.gates import detach
from layerprune.library.hooks import OfPruner
from layerprune.library.loss_allowance import LossAllowance, validated
from layerprune.library.memory import MemoryBudget, SectionMemory, peak_memory, section_memory
from layerprune.library.pruner_checks import check, check_kinds, check_state, optimizers_of, trainable
from layerprune.library.pruning_plot import Marks, Moment, drawn
from layerprune.library.pruning_report import Report, Sizes, count_of, latencies, sizes_of
from layerprune.library.recording import tensors_of
from layerprune.library.rewriting import Forward
from layerprune.library.whole_layers import shorten
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ConcurrentPruner:
    """Gates on the sections of a model that is being trained.

    Give one of

        nu                 price of an open section in units of the mean loss: larger removes more
        target_macs        share of the model's multiply-adds to end with
        target_params      share of its parameters to end with, or their number
        target_depth       removable sections to end with
        target_latency     share of the time of a forward pass to end with, measured now: put the model on its
                           device and leave the machine idle
        target_memory      share of the peak memory of a forward pass, never exceeded (library.memory)
        max_loss_increase  how far the validation loss may rise (library.loss_allowance)

    Latency and memory are measured on find_sections' example. With `max_loss_increase`, `validate()` returns the
    validation loss, a number; the pruner calls it now and at every check, with the model in evaluation mode and without
    gradients.

    `total_steps` is how often `step` will be called. Theta waits for `warmup_steps` (a tenth of them by default) and is
    rounded after the fraction `consolidate_at` (a half; three quarters for `max_loss_increase`); the remaining network
    then trains as a plain one. `theta_lr` is theta's step size: a useless section closes in 0.5 / (nu theta_lr) steps.
    `check_interval` is the number of steps between checks. `cost` prices all sections alike ("uniform") or each by its
    share of "macs", "params", "memory" or measured "latency"; the default is "memory" for `target_memory`, else
    "uniform".

    Gates are drawn, from `seed`, for a share of every batch, `drawn_share`; the rest of it meets the network that
    theta, rounded, stands for: less noise, and at one price fewer removals. However near theta is to 0 or 1,
    `side_floor` of the examples with drawn gates (at most half) are expected to meet a section open, and as many to
    meet it closed.

    With automatic mixed precision, pass its GradScaler as `scaler`; where each part has an optimizer of its own, do not
    step one that has lost all its parameters: GradScaler raises an AssertionError then.
    `on_removal` is called with the names of removed sections. `forward` is that of the sections if some have left the
    model before.

    `teacher` is a module for `distilled`, or True for a frozen copy of the model as it is now; `distill` is the weight
    of distillation, and `temperature` softens the outputs of both.

    `verify` compares outputs and gradients with open gates and without gates at the first training pass, at the cost of
    two more passes, and raises LayerpruneError if they differ. It warns of sections that get no gradient there.

    Raises LayerpruneError, and leaves the model as it was, if the model has no removable section, its branches are
    frozen, the optimizer does not hold their parameters, or the target cannot be met.
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
        target_params: float | None = None,
        target_depth: int | None = None,
        target_latency: float | None = None,
        target_memory: float | None = None,
        max_loss_increase: float | None = None,
        validate: Callable[[], Any] | None = None,
        theta_lr: float = 0.05,
        warmup_steps: int | None = None,
        consolidate_at: float | None = None,
        check_interval: int = 25,
        cost: Cost | None = None,
        drawn_share: float = 1.0,
        side_floor: float = 4.0,
        seed: int = 0,
        scaler: Any = None,
        on_removal: Callable[[list[str]], None] = lambda names: None,
        forward: Forward | None = None,
        verify: bool = True,
        teacher: nn.Module | bool | None = None,
        distill: float = 0.5,
        temperature: float = TEMPERATURE,
    ) -> None:
        check_kinds(model, sections, optimizer, total_steps, warmup_steps, cost, seed, scaler, on_removal)
        wrapped, model = model, unwrapped(model)
        if forward is None and sections.model is model:
            sections = trainable(sections)
        self._forward = forward if forward is not None else Forward(sections)
        self._optimizers = optimizers_of(optimizer)
        aims = Aims(
            nu, target_macs, target_params, target_depth, target_latency, target_memory, max_loss_increase, validate
        )
        check(wrapped, sections, self._forward, self._optimizers)
        aims.check()
        self.model, self.sections, self.optimizer, self._aims = model, sections, optimizer, aims
        self._scaler, self._on_removal, self._total, self._seed = scaler, on_removal, total_steps, seed
        self._cost = cost if cost is not None else aims.cost
        knobs = dict(theta_lr=theta_lr, check_interval=check_interval, drawn_share=drawn_share, side_floor=side_floor)
        knobs["consolidate_at"] = aims.consolidate_at if consolidate_at is None else consolidate_at
        self._settings = settings_of(aims, self._cost, len(sections.removable), total_steps, warmup_steps, **knobs)
        self._teacher = Teacher(model, teacher, distill, temperature) if teacher else None
        self._group = _process_group_here(model)
        self._leading = examples.leader(model, sections.example)
        self._draws: list[tuple[Tensor, int]] = []  # with the examples of their forward passes, in all processes
        self._is_differentiated = False
        self._scale, self._steps, self._is_verified, self._is_detached = 1.0, 0, not verify, False
        self._shown: tuple[Tensor | None] | None = None  # gates of evaluation passes; None: the method's
        with told_by_arguments():  # before anything has changed
            self._measure()
            self._begin(1)
        self._method: Method | None = None
        self._attach()

    def _measure(self) -> None:
        """What prices, budgets and reports need to know of the whole model."""
        self._latencies: SectionLatencies | None = None
        self._memory: SectionMemory | None = None
        if self._cost == "latency" or self._aims.target_latency is not None:
            self._latencies = section_latencies(self._forward, self.sections.example)
        if self._cost == "memory" or self._aims.target_memory is not None:
            self._memory = section_memory(self._forward.alive, self._peak_without)
        self._budget = self._budget_of(self._aims)
        self._course: list[Moment] = []
        self._whole: Sizes | None = None
        if all(self._forward.alive):
            self._whole = sizes_of(self.model, self.sections.example, len(self.sections), self.sections.trace)
        if isinstance(self._budget, LossAllowance):
            self._check_validation(self._budget.look())

    # --- what is asked of it --------------------------------------------------------------------------------

    @property
    def theta(self) -> dict[str, float]:
        """Each removable section's probability of being open; 0 once it is removed."""
        values = [self._settings.theta0] * len(self._forward.alive) if self._method is None else self._theta()
        alive = self._forward.alive
        names = [section.name for section in self.sections.removable]
        return {name: value if stays else 0.0 for name, value, stays in zip(names, values, alive, strict=True)}

    @property
    def removed(self) -> list[str]:
        """Names of the removed sections."""
        pairs = zip(self.sections.removable, self._forward.alive, strict=True)
        return [section.name for section, stays in pairs if not stays]

    @property
    def consolidated(self) -> bool:
        """Whether theta has been rounded, so that every section is decided."""
        return self._method is not None and self._method.theta_before_rounding is not None

    def step(self) -> list[str]:
        """Call it after each optimizer step. Returns the names of the sections that it has just removed.

        Raises LayerpruneError if no forward and backward pass in training mode came before.
        """
        self._check_attached("step")
        if not self.consolidated and any(self._forward.alive):
            self._take_in()
        self._forward.gates.step()
        self._is_differentiated = False
        self._steps += 1
        is_check = self._steps % self._settings.check_interval == 0 or self._steps == self._total
        if not is_check or self._method is None:
            return []
        self._check_gates()
        removed = self._remove(self._method.removals(self._steps))
        self._course.append(Moment(self._steps, list(self.theta.values()), self._left(), self._validation_now()))
        return removed

    def discard(self) -> None:
        """Forget the forward and backward passes since the last step: those whose loss is not the step's.

        Such as the first pass of sharpness-aware minimization, those that make adversarial examples, the generator's
        through a critic, and those of a step that is skipped.
        """
        self._draws = []
        self._is_differentiated = self._forward.gates.are_asked = False

    def distilled(self, loss: Tensor, x: Any, outputs: Any, dim: int | None = None) -> Tensor:
        """The loss with distillation from the teacher, which sees the same `x`:

            (1 - distill) loss + distill temperature^2 KL(teacher || model)

        with both outputs softened by the temperature, averaged over all dimensions but the classes (Hinton et al.
        2015). `outputs` are logits [B, classes] or [B, classes, H, W], or an object that holds them as "logits" or
        "out"; `x` is the model's input: a tensor, a tuple or a dictionary. `dim` is the dimension of the classes if it
        is not 1.

        Raises LayerpruneError without a teacher, or if its outputs have another shape.
        """
        if self._teacher is None:
            raise LayerpruneError("distilled: there is no teacher; create the pruner with teacher=True")
        return self._teacher.distilled(loss, x, outputs, dim)

    def report(self, whole: nn.Module | None = None, repeats: int = 30) -> Report:
        """Sections, depth, multiply-adds, parameters and peak memory, before and as the model is now.

        For latency too, give `whole`, a copy of the model from before pruning: the two alternate, `repeats` times, on
        find_sections' example.
        """
        if self._whole is None:
            raise LayerpruneError("report: the size of the whole model is unknown: load the pruner's state first")
        smaller, left = self._forward.plain(), len(self.sections.left_without(self.removed))
        now = sizes_of(smaller, self.sections.example, left)
        times = latencies(whole, smaller, self.sections.example, repeats) if whole is not None else None
        return Report(self._whole, now, tuple(self.removed), times)

    def plot(self) -> "Figure":
        """A matplotlib figure of theta and cost over the steps, and of the validation loss if that decides.

        plot().savefig("pruning.png") stores it. Raises LayerpruneError before the first check.
        """
        if not self._course:
            raise LayerpruneError(
                f"plot: nothing to show before the first check, after {self._settings.check_interval} steps"
            )
        return drawn(self._course, [each.name for each in self.sections.removable], self._marks())

    def export(self) -> nn.Module:
        """A copy of the model without gates and without the removed sections, to use, to train further, or to save.

        Raises LayerpruneError until theta has been rounded, at `consolidate_at` of `total_steps`.
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
        """Round theta now, at whatever step; returns the names of the sections that this removes."""
        self._check_attached("finish")
        if self._method is None:
            raise LayerpruneError("finish: nothing has been trained yet")
        return [] if self.consolidated else self._remove(self._method._round())

    def detach(self) -> nn.Module:
        """Take the gates off the model itself, which is a plain one from now on, and return it.

        What has been removed stays removed; theta is not rounded, so what is undecided stays whole. For a pruner that
        was made with the wrong arguments: another one may follow, on sections found anew if any have been removed.
        """
        if not self._is_detached:
            detach(self.model)
            _forget_compiled()
        self._is_detached = True
        return self.model

    def _check_attached(self, called: str) -> None:
        if self._is_detached:
            raise LayerpruneError(f"{called}: the pruner has been detached from its model: make another one")

    def state_dict(self) -> dict[str, Any]:
        """What an exact resume needs besides the states of the model and the optimizer.

        After step(): passes since then are left out, as their gradients are.
        """
        method = self._method
        return {
            "sections": [each.name for each in self.sections.removable],
            "aims": self._aims.told(),
            "alive": list(self._forward.alive),
            "steps": self._steps,
            "batch": self._examples,
            "method": copy.deepcopy(method.state()) if method is not None else None,  # it goes on changing
            "noise": method.noise.get_state() if method is not None else None,
            "memory": astuple(self._memory) if self._memory is not None else None,
            "allowance": self._budget.state() if isinstance(self._budget, LossAllowance) else None,
            "whole": astuple(self._whole) if self._whole is not None else None,
            "course": [astuple(each) for each in self._course],
        }

    def __reduce_ex__(self, protocol: Any) -> tuple:
        raise LayerpruneError("ConcurrentPruner: cannot be pickled: keep its state_dict(), and what it exports")

    def __deepcopy__(self, memo: dict) -> "ConcurrentPruner":
        """So that a module which holds its pruner can be copied, for an average of its weights."""
        copied = memo[id(self)] = object.__new__(type(self))
        vars(copied).update(copy.deepcopy(vars(self), memo))
        return copied

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state into a pruner on the whole model; load the model's and the optimizer's states after it.

        Raises LayerpruneError, before anything has changed, if it is the state of other sections or of another aim.
        """
        self._check_attached("load_state_dict")
        alive, names = self._forward.alive, [each.name for each in self.sections.removable]
        check_state(state, names, alive, self._aims)
        self._steps = state["steps"]
        self._load_measured(state)
        if state["method"] is not None:
            self._begin(state["batch"])
            self._method.load_state(state["method"])
            self._method.noise.set_state(state["noise"].cpu())
        gone = [place for place, stays in enumerate(state["alive"]) if alive[place] and not stays]
        if gone:
            self._take_out(gone)

    def _load_measured(self, state: dict[str, Any]) -> None:
        if self._memory is not None:
            self._memory = SectionMemory(*state["memory"])
            self._budget = self._budget_of(self._aims)
        if isinstance(self._budget, LossAllowance):
            self._budget.load_state(state["allowance"])
        self._whole = Sizes(*state["whole"]) if state.get("whole") else self._whole
        self._course = [Moment(*each) for each in state.get("course", [])]

    # --- gates ----------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        self._forward.install()
        _forget_compiled()  # what was compiled before does not know of the gates
        self.model.register_forward_pre_hook(_OfThisModel(self._before_forward), with_kwargs=True)
        self.model.register_forward_hook(_OfThisModel(self._after_forward), always_call=True)

    @torch.compiler.disable
    def _before_forward(self, model: nn.Module, inputs: tuple, named: dict) -> None:
        """Draw gates for a training pass; in evaluation the network that would be left."""
        if getattr(model, "_is_replica", False):
            raise LayerpruneError(
                "ConcurrentPruner: nn.DataParallel runs copies that have no gates: use DistributedDataParallel"
            )
        if recomputation.is_calling_again():
            self._forward.gates.repeat()
            return
        first = recomputation.first_node()
        if model.training and first is not None:
            with torch.enable_grad():  # which a checkpoint around the model may switch off
                gates = self._gates_of_training(model, inputs, named)
        else:
            gates = self._gates_shown()
        self._forward.gates.start(gates, first)

    def _gates_of_training(self, model: nn.Module, inputs: tuple, named: dict) -> Tensor | None:
        batch = examples.batch_size_of_call(model, inputs, named, self._leading)
        if not self._is_verified:
            weights = {each.name: each.parameters(model) for each in self.sections.removable}
            first_pass.compare(model, self._forward.gates, weights, (inputs, named), batch)
            self._is_verified = True
        if self._method is None:
            self._check_gates()
            self._check_that_it_is_one_model()
            self._begin(batch * self._group.size)
        gates = self._drawn(batch * self._group.size)
        if self._method.drawn is not None:
            self._draws.append((self._method.drawn, batch * self._group.size))
            self._scale = float(self._scaler.get_scale()) if self._scaler is not None else 1.0
        return None if gates is None else gates.unbind()

    def _drawn(self, count: int) -> Tensor | None:
        try:
            return self._method.gates(self._steps, count)
        except RuntimeError as error:
            if "functorch" not in str(error):
                raise
        raise LayerpruneError(
            "ConcurrentPruner: in a function that torch.func transforms gates get no gradients: call backward() instead"
        )

    def _gates_shown(self) -> Tensor | None:
        if self._shown is not None:
            return self._shown[0]
        return self._method.evaluation_gates() if self._method is not None else None

    @contextmanager
    def _showing(self, gates: Tensor | None) -> Iterator[None]:
        """Evaluation passes with other gates than the method's, for a while; None for open ones."""
        self._shown = (gates,)
        try:
            yield
        finally:
            self._shown = None

    @torch.compiler.disable
    def _after_forward(self, model: nn.Module, inputs: tuple, output: Any) -> None:
        """Parts of the model that are called on their own are not gated."""
        self._forward.gates.stop()
        if model.training and self._draws:
            for node in {each.grad_fn for each in tensors_of(output)} - {None}:
                node.register_prehook(self._note_backward)

    def _note_backward(self, slopes: tuple) -> None:
        self._is_differentiated = True

    def _check_gates(self) -> None:
        lost = [place for place in self._forward.gates.lost() if self._forward.alive[place]]
        if lost:
            name = self.sections.removable[lost[0]].name
            raise LayerpruneError(
                f"ConcurrentPruner: section '{name}' has lost its gate: a module of it was replaced after the pruner "
                "was made (as convert_sync_batchnorm does); replace modules before find_sections"
            )

    def _check_that_it_is_one_model(self) -> None:
        """Processes that only have a group in common would mix their gates."""
        if self._group.size > 1:
            with torch.no_grad():
                weights = sum(float(each.double().abs().sum()) for each in self.model.parameters())
            self._group.agree("the model's weights (is it one model, in DistributedDataParallel?)", weights)

    def _begin(self, examples_of_step: int) -> None:
        """The method, as soon as the size of batches is known: the examples of a step in all processes."""
        self._examples = examples_of_step
        device = next(self.model.parameters()).device
        removable = self.sections.removable
        network = Network(self._forward)
        context = Context(
            examples=1,
            batch_size=examples_of_step,
            steps_per_epoch=self._total,
            steps_total=self._total,
            seed=self._seed,
            device=device,
            section_macs=tuple(max(section.macs, 1) for section in removable),
            section_params=tuple(section.params for section in removable),
            group=self._group,
        )
        memory = self._memory.sections if self._cost == "memory" else None
        self._method = Method(self._settings, network, context, self._latencies, memory)
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
        draws = self._followed(draws)
        slopes = torch.cat([each.grad for each, _ in draws], 1) / self._scale
        if self._is_broken(slopes):
            return
        method = self._method
        method.drawn = torch.cat([each.detach() for each, _ in draws], 1)
        method.drawn.grad = slopes
        # The loss is the mean over all examples of the step, those whose gates were not drawn included.
        method.batch = sum(count for _, count in draws)
        if method.batch > self._examples:  # of several passes a step
            self._examples = method.batch
            method.estimator.expect(self._settings.drawn_share * self._examples)
        method.prepare(self._steps)
        method.after_backward(self._steps, slopes.new_zeros(method.drawn.shape[1]), no_losses)

    def _followed(self, draws: list[tuple[Tensor, int]]) -> list[tuple[Tensor, int]]:
        """Those whose loss was followed back; all of them, with slopes of 0, where the model left all its sections out.

        As with layers that are dropped at random: the fewer there are, the sooner a pass meets none.
        """
        followed = [each for each in draws if each[0].grad is not None]
        if followed:
            return followed
        if not self._is_differentiated:
            raise LayerpruneError("step: no backward pass since the forward pass; call step() after loss.backward()")
        if self._forward.gates.are_asked:
            raise LayerpruneError(
                "step: the backward pass left the gates out: call loss.backward() without inputs, and not autograd.grad"
            )
        for gates, _ in draws:
            gates.grad = torch.zeros_like(gates)
        return draws

    def _is_broken(self, slopes: Tensor) -> bool:
        """Whether the loss was infinite or NaN in any process: such a step tells nothing, and would never be forgotten.

        A gradient scaler, and many a training loop, skips it, too.
        """
        broken = (~torch.isfinite(slopes)).any().float().view(1)
        self._group.add_up(broken)
        return bool(broken)

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
        _forget_compiled()  # its versions with the sections would count towards the eight that torch makes at most
        for each in self._optimizers:
            drop_parameters(each, gone)

    def _theta(self) -> list[float]:
        return self._method.theta.tolist()

    # --- budgets --------------------------------------------------------------------------------------------

    def _budget_of(self, aims: Aims) -> budget.Budget | MemoryBudget | LossAllowance | None:
        removable = self.sections.removable
        if aims.target_macs is not None:
            return budget.of_macs(aims.target_macs, self.sections.macs, [section.macs for section in removable])
        if aims.target_params is not None:
            return self._params_budget(aims.target_params)
        if aims.target_memory is not None:
            return self._memory_budget(aims.target_memory)
        if aims.max_loss_increase is not None:
            return LossAllowance(aims.max_loss_increase, self._loss_without)
        return budget.of_depth(aims.target_depth, len(removable)) if aims.target_depth is not None else None

    def _params_budget(self, asked: float) -> budget.Budget:
        pairs = list(zip(self.sections.removable, self._forward.alive, strict=True))
        parts = [count_of(one.parameters(self.model)) if stays else one.params for one, stays in pairs]
        gone = sum(part for part, (_, stays) in zip(parts, pairs, strict=True) if not stays)
        whole = count_of(self.model.parameters()) + gone
        share = asked / whole if is_count(asked) else asked
        return budget.of_share("target_params", "the parameters", share, whole, parts)

    def _memory_budget(self, share: float) -> MemoryBudget:
        memory = self._memory
        if share * memory.whole < memory.none:
            raise LayerpruneError(
                f"ConcurrentPruner: target_memory: {share} of the peak memory is less than what the model takes "
                f"without any removable section ({memory.none / memory.whole:.3f})"
            )
        return MemoryBudget(share * memory.whole, memory, self._peak_without)

    def _peak_without(self, places: Collection[int]) -> int:
        """Bytes of the model's peak without these sections."""
        with self._showing(None), self._forward.without(sorted(places)):
            return peak_memory(self.model, self.sections.example)

    def _check_validation(self, loss: float) -> None:
        if math.isnan(loss):
            raise LayerpruneError(
                "ConcurrentPruner: validate() returned nan before training: does it see a batch? Nothing would go"
            )

    def _loss_without(self, places: Collection[int]) -> float:
        """What validation finds with these sections closed: the mean over all processes. The model stays as it is."""
        gates = torch.ones(len(self._forward.alive), 1, 1, device=next(self.model.parameters()).device)
        gates[list(places)] = 0
        with self._showing(gates if places else None):
            losses = self._group.everyones(validated(self.model, self._aims.validate))
        return sum(losses) / len(losses)

    # --- for people to see ----------------------------------------------------------------------------------

    def _left(self) -> tuple[float, float]:
        """Shares of the multiply-adds: of what has not left the model, and of it with sections weighted by theta."""
        macs = [section.macs for section in self.sections.removable]
        gone = sum(each for each, stays in zip(macs, self._forward.alive, strict=True) if not stays)
        closed = sum(each * (1 - theta) for each, theta in zip(macs, self.theta.values(), strict=True))
        return tuple(1 - each / max(1, self.sections.macs) for each in (gone, closed))

    def _validation_now(self) -> tuple[float, float, float] | None:
        """Of this step, if there was one."""
        if not isinstance(self._budget, LossAllowance):
            return None
        found, self._budget.latest = self._budget.latest, None
        return found

    def _marks(self) -> Marks:
        method, aims = self._method, self._aims
        return Marks(method.warmup, method.consolidation, aims.target_macs, aims.max_loss_increase)


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


def _forget_compiled() -> None:
    """What torch has compiled of a model that is another one now."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def _process_group_here(model: nn.Module) -> ProcessGroup:
    """This process among those that train the model together."""
    if not processes.is_available() or not processes.is_initialized() or processes.get_world_size() == 1:
        return SINGLE_PROCESS
    return ProcessGroup(processes.get_rank(), processes.get_world_size(), next(model.parameters()).device)
