"""Concurrent training and layer pruning (Guenter & Sideris, arXiv 2406.04549), as derived in docs/method.md.

    J(W, theta) = E_xi[C(W, xi)] + lambda/2 ||W||^2 + nu sum_l c_l theta_l ,   xi_l ~ Bernoulli(theta_l) per example
    theta <- clip(theta - eta (Delta + nu c), 0, 1),                           projected SGD after a warm-up
A section whose theta stays at or below theta_tol while its averaged drift Delta + nu c is positive leaves for good,
with its parameters and their momentum. At `consolidate_at` theta is rounded; the rest trains deterministically. Two
settings reduce the noise: gates that stay open while theta is frozen, and gates drawn for only a share of each batch,
while the rest sees the network of theta rounded. Both are ours, as are a price that rises after the warm-up (the least
useful sections leave first, and the others can take over their work) and one that follows a budget
(methods.parts.budget), gates drawn once a batch (methods.parts.batch_gates), sections that are measured before they
leave (methods.parts.confirmation), and a prior on weights that a closed section has none of
(methods.parts.spike_and_slab). Other priors (gates.priors), sections that stay although the condition holds, and the
trace of gates (methods.parts.gate_trace) are for comparison.
Read: the abstract. Derived: the linear price (gates.priors), the estimators, the pruning condition.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from layerprune.core.gates import priors
from layerprune.core.gates.estimators import ESTIMATORS
from layerprune.core.measure import count_macs
from layerprune.core.methods.base import Context, Outcome, TrainingMethod
from layerprune.core.methods.parts import budget, section_latency
from layerprune.core.methods.parts.batch_gates import BatchGates
from layerprune.core.methods.parts.confirmation import Confirmation
from layerprune.core.methods.parts.gate_trace import GateTrace
from layerprune.core.methods.parts.spike_and_slab import SpikeAndSlab
from layerprune.core.networks.sections import Gate, Gates, SectionedNetwork, scale_branches
from layerprune.core.settings import GatedSettings, steps_of
from layerprune.errors import SettingError

VERSION = 1
DEFAULT_NU = 0.002


class Method(TrainingMethod):
    """Theta, its estimator and the pruning condition; theta, averages and prices are vectors on the device."""

    aims_to_prune = True

    def __init__(self, settings: GatedSettings, network: SectionedNetwork, context: Context) -> None:
        super().__init__(settings, network, context)
        scale_branches(network, settings.initial_scale)
        sections, device = context.sections, context.device
        self.latencies = self._latencies()
        self.theta = torch.full((sections,), settings.theta0, device=device)
        self.theta_lr = torch.full((), settings.theta_lr, device=device)
        self.nu = self._nu()
        self.prices = self.nu * self._costs()
        self.slope = priors.slope_of(settings.prior, settings.prior_mean, settings.theta0)
        self.budget = self._budget()
        self.trace = GateTrace(network, context.decayed) if settings.watch else None
        if self.trace is not None and context.group.size > 1:
            raise SettingError("settings.watch: a run that is watched cannot be shared by several processes")
        self.estimator = ESTIMATORS[settings.estimator](
            sections,
            settings.drawn_share * context.batch_size,
            settings.average,
            settings.side_floor,
            device,
            context.group,
        )
        self.weight_prior = (
            SpikeAndSlab(network, context, settings.kappa) if settings.weight_prior == "spike-and-slab" else None
        )
        self.confirmation = (
            Confirmation(settings.confirm, sections, device, context.group) if settings.confirm > 0 else None
        )
        self.batch_gates = BatchGates(network, context, self.theta) if settings.gates == "batch" else None
        self.skips_sections = self.batch_gates is not None
        self.extra_forwards = self.estimator.extra_forwards
        self.check_interval = settings.check_interval
        self.warmup = steps_of(settings.warmup, context.steps_per_epoch)
        self.consolidation = self._consolidation_step()
        self._check_order()
        self.ramp_steps = round(settings.price_ramp * context.steps_total)
        self.price_share = torch.ones((), device=device)
        self.agreeing_checks = [0] * sections
        self.theta_before_rounding: list[float] | None = None
        self.drawn: Tensor | list[Gate] | None = None

    def _check_order(self) -> None:
        """Raises SettingError unless the price is the full nu for at least one step before theta is rounded."""
        settings, total = self.settings, self.context.steps_total
        rounding = f"consolidate_at = {settings.consolidate_at} of {total} steps"
        if self.warmup >= self.consolidation:
            raise SettingError(f"settings.warmup: {settings.warmup} leaves theta no step before {rounding}")
        if self.warmup + settings.price_ramp * total >= self.consolidation:
            raise SettingError(
                f"settings.price_ramp: {settings.price_ramp} of training after a warm-up of {settings.warmup} "
                f"does not end before {rounding}"
            )

    def _nu(self) -> float:
        if self.settings.log_gamma is not None:
            return priors.price(self.settings.log_gamma, self.context.examples)
        return self.settings.nu if self.settings.nu is not None else DEFAULT_NU

    def _latencies(self) -> section_latency.SectionLatencies | None:
        """The first process's, measured here, where settings ask for them."""
        settings, context = self.settings, self.context
        if settings.cost != "latency" and settings.target_latency is None:
            return None
        own = section_latency.of_network(self.network, context.device, settings.latency_batch)
        return context.group.everyones(own)[0]

    def _costs(self) -> Tensor:
        costs = self._costs_of_sections()
        return costs if self.settings.cost_scale == "section" else costs / len(costs)

    def _costs_of_sections(self) -> Tensor:
        """Cost weights c [L] with sum L."""
        if self.settings.cost == "latency":
            raw = torch.tensor(self.latencies.sections, device=self.context.device)
            return raw * (len(raw) / raw.sum())
        return self.context.costs(self.settings.cost)

    def _budget(self) -> budget.Budget | None:
        settings, network = self.settings, self.network
        if settings.target_latency is not None:
            return budget.of_latency(settings.target_latency, self.latencies.whole, self.latencies.sections)
        if settings.target_macs is not None:
            whole = count_macs(network, network.input_shape)
            return budget.of_macs(settings.target_macs, whole, self.context.section_macs)
        if settings.target_depth is not None:
            return budget.of_depth(settings.target_depth, self.context.sections)
        return None

    def _consolidation_step(self) -> int:
        """The check nearest to the asked fraction of training, the last step at the latest."""
        checks = max(1, round(self.settings.consolidate_at * self.context.steps_total / self.check_interval))
        return min(checks * self.check_interval, self.context.steps_total)

    def start_epoch(self, epoch: int) -> None:
        if self.batch_gates is not None:
            self.batch_gates.start_epoch(epoch)
        else:
            self._reseed(epoch)

    def phase(self, step: int) -> Hashable | None:
        if self.trace is not None or self.extra_forwards:
            return None  # what a second forward pass costs is counted on the host
        if self.confirmation is not None and self.confirmation.busy:
            return None
        return step < self.warmup, step >= self.consolidation

    def prepare(self, step: int) -> None:
        epochs = max(0, step - self.warmup) / self.context.steps_per_epoch
        self.theta_lr.fill_(self.settings.theta_lr / (1 + self.settings.theta_lr_decay * epochs))
        if self.ramp_steps > 0:
            self.price_share.fill_(min(1.0, max(0, step + 1 - self.warmup) / self.ramp_steps))

    def gates(self, step: int, batch: int) -> Gates:
        silent = step < self.warmup and self.settings.warmup_gates == "open"
        rounded = step >= self.consolidation or self.theta_before_rounding is not None
        if silent or rounded or not any(section.alive for section in self.network.sections):
            self.drawn = None
            return None
        if self.batch_gates is not None:
            self.drawn = self.batch_gates.draw(step)
            return self.drawn
        count = math.ceil(self.settings.drawn_share * batch)
        self.drawn = self.estimator.draw(self.theta, count, self.noise).requires_grad_()
        self.batch = batch
        return self._with_rounded(self.drawn, self.context.group.share(batch))

    def _with_rounded(self, gates: Tensor, batch: int) -> Tensor:
        """Gates [L, count, 1] followed by theta rounded, for the rest of the batch."""
        if gates.shape[1] == batch:
            return gates
        rounded = (self.theta >= 0.5).to(gates.dtype).view(-1, 1, 1).expand(-1, batch - gates.shape[1], 1)
        return torch.cat([gates, rounded], 1)

    def after_backward(self, step: int, losses: Tensor, losses_of: Callable[[Gates], Tensor]) -> None:
        if self.drawn is None:
            return
        if self.trace is not None:
            self.trace.add(losses)
        self._take_in(losses, losses_of)
        if self.confirmation is not None and self.confirmation.busy:
            self.confirmation.take_in(self._met(losses.numel()), losses_of)
        if self.weight_prior is not None:
            self.weight_prior.scale_decay(self.theta)
        if step >= self.warmup:
            self._move(step)
        if self.trace is not None and (step + 1) % self.check_interval == 0:
            drawn = losses if self.batch_gates is not None else losses[: self.drawn.shape[1]]
            self.trace.look(self.theta, drawn, losses_of)

    def _met(self, batch: int) -> Sequence[Gate]:
        """The gates that the step's examples met, one a section."""
        return self.drawn if self.batch_gates is not None else self._with_rounded(self.drawn.detach(), batch).unbind()

    def _take_in(self, losses: Tensor, losses_of: Callable[[Gates], Tensor]) -> None:
        """Tell the estimator of the batch."""
        if self.batch_gates is not None:
            self.batch_gates.update(self.estimator, losses, losses_of)
            self.batch_gates.fill_gradients()
            return
        # The loss is the batch's mean, times the number of processes, over which gradients are averaged.
        slopes = self.drawn.grad.squeeze(2) * (self.batch / self.context.group.size)
        batch, count = losses.numel(), slopes.shape[1]

        def drawn_losses_of(gates: Tensor) -> Tensor:
            return losses_of(self._with_rounded(gates, batch))[:count]

        self.estimator.update(self.theta, self.drawn.detach(), slopes, losses[:count], drawn_losses_of)

    def _move(self, step: int) -> None:
        if self.settings.prior == "l0":
            priors.move_logit(self.theta, self._drift(), self.theta_lr, self.settings.theta0)
        else:
            self.theta.sub_(self._drift() * self.theta_lr).clamp_(0, 1)

    def _drift(self) -> Tensor:
        """dJ/dtheta [L]; where it is positive theta falls."""
        prices = self._slopes_of_prices()
        return self.estimator.delta() + prices

    def _slopes_of_prices(self) -> Tensor:
        """What of dJ/dtheta [L] does not come from the loss."""
        prices = self.prices if self.slope is None else self.prices * self.slope(self.theta)
        if self.ramp_steps > 0:
            prices = prices * self.price_share
        return prices if self.weight_prior is None else prices + self.weight_prior.prices()

    def after_step(self, step: int, lr: Tensor) -> None:
        self.lr = lr

    def removals(self, step: int) -> list[int]:
        leaving = self._decided(step)
        if self.batch_gates is not None:
            self.batch_gates.know(self.theta)
        return leaving

    def _decided(self, step: int) -> list[int]:
        """The sections that go at this check."""
        if step <= self.consolidation and self.trace is not None and self.trace.benefits is not None:
            self.trace.note(step, float(self.lr), self.theta, self.estimator.delta())
        if self.theta_before_rounding is not None:
            return []
        if step >= self.consolidation:
            return self._round()
        if step < self.warmup:
            return []
        if self.budget is not None:
            self._follow_budget()
        ready = ((self.theta <= self.settings.theta_tol) & (self._drift() > 0)).tolist()
        self.agreeing_checks = [count + 1 if yes else 0 for count, yes in zip(self.agreeing_checks, ready, strict=True)]
        agreed = [index for index, count in enumerate(self.agreeing_checks) if count >= self.settings.checks]
        if not self.settings.remove:
            return []
        if self.budget is not None:
            agreed = self.budget.may_go(agreed, self.network.keep())
        return self._leave(agreed if self.confirmation is None else self._confirmed(step, agreed))

    def _confirmed(self, step: int, agreed: list[int]) -> list[int]:
        """The sections among these that were measured and are not worth their price; theta of those that are worth it,
        and so stay, is reset.
        """
        agreed = [index for index in agreed if self.network.sections[index].alive]
        measured = [index for index in agreed if self.confirmation.has(index)]
        refused = self.confirmation.refused(step, measured, self._slopes_of_prices())
        for index in refused:
            self.theta[index] = self.settings.theta0
            self.agreeing_checks[index] = 0
        leaving = [index for index in measured if index not in refused]
        asked = [index for index in agreed if index not in measured]
        if self.budget is None and step + self.check_interval >= self.consolidation:
            asked = [index for index in self._alive_below(1.0) if index not in leaving]  # the rounding may close them
        self.confirmation.ask(asked)
        return leaving

    def _alive_below(self, bound: float) -> list[int]:
        alive = self.network.keep()
        return [index for index, value in enumerate(self.theta.tolist()) if value < bound and alive[index]]

    def _follow_budget(self) -> None:
        factor = self.budget.factor(self.theta)
        self.nu *= factor
        self.prices.mul_(factor)

    def _round(self) -> list[int]:
        """Theta to 0 or 1; returns the sections that go."""
        self.theta_before_rounding = self.theta.tolist()
        worth_keeping = self._measured_at_last()
        if self.budget is None:
            self.theta.copy_((self.theta >= 0.5).float())
            if worth_keeping:
                self.theta[worth_keeping] = 1
        else:
            self.theta.copy_(self.budget.rounded(self.theta, -self.estimator.delta(), self.network.keep()))
        return self._leave([index for index, value in enumerate(self.theta.tolist()) if value == 0])

    def _measured_at_last(self) -> list[int]:
        """Sections that theta would close, and whose measured Delta says otherwise."""
        if self.confirmation is None or self.budget is not None:
            return []
        return self.confirmation.refused(self.consolidation, self._alive_below(0.5), self._slopes_of_prices())

    def _leave(self, candidates: list[int]) -> list[int]:
        leaving = [index for index in candidates if self.network.sections[index].alive]
        if leaving:
            self.theta[leaving] = 0
        return leaving

    def evaluation_gates(self) -> Gates:
        if self.theta_before_rounding is not None:
            return None
        return (self.theta >= 0.5).float().view(-1, 1, 1)

    def curve(self) -> list[float]:
        return self.theta.tolist()

    def outcome(self) -> Outcome:
        details = {"nu": self.nu, "theta_before_consolidation": self.theta_before_rounding}
        if self.trace is not None:
            details["watch"] = self.trace.notes
        if self.confirmation is not None:
            details["confirm"] = self.confirmation.notes
        if self.latencies is not None:
            left = section_latency.of_whole(self.network, self.context.device, self.settings.latency_batch)
            details["latency"] = self.latencies.plain | {"left_ms": left}
        return Outcome(self.network.keep(), details=details)

    def state(self) -> dict[str, Any]:
        return {
            "theta": self.theta,
            "sums": self.estimator.sums,
            "counts": self.estimator.counts,
            "agreeing_checks": self.agreeing_checks,
            "theta_before_rounding": self.theta_before_rounding,
            "nu": self.nu,
            "prices": self.prices,
            "batch_gates": self.batch_gates.theta if self.batch_gates is not None else None,
            "confirmation": self.confirmation.state() if self.confirmation is not None else None,
            "watch": self.trace.state() if self.trace is not None else None,
            "latencies": (self.latencies.whole, self.latencies.sections) if self.latencies is not None else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.theta.copy_(state["theta"])
        self.estimator.sums.copy_(state["sums"])
        self.estimator.counts.copy_(state["counts"])
        self.agreeing_checks = list(state["agreeing_checks"])
        self.theta_before_rounding = state["theta_before_rounding"]
        self.nu = state["nu"]
        self.prices.copy_(state["prices"])
        if self.batch_gates is not None:
            self.batch_gates.theta = list(state["batch_gates"])
        if self.confirmation is not None:
            self.confirmation.load_state(state["confirmation"])
        if self.trace is not None:
            self.trace.load_state(state["watch"])
        if self.latencies is not None:  # the budget is that of the latencies which it started with
            self.latencies = section_latency.SectionLatencies(*state["latencies"])
            self.budget = self._budget()
