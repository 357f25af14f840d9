"""Four estimators of Delta_l = E[C | xi_l = 1] - E[C | xi_l = 0], the slope of the expected loss in theta_l.

Contract: `draw` gives a batch's gates xi [L, B, 1]; after the backward pass `update` receives the slopes
s = dC_i/dxi_{l,i} [L, B] and, where it needs it, may ask for the losses [B] under other gates; `delta` is the running
estimate [L]. Everything stays on theta's device: no call copies to the host. Of several processes that share a run each
draws for the whole batch, takes its part, and adds its sums and counts to the others': all hold one estimate.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup

Losses = Callable[[Tensor], Tensor]
"""Losses [B] of the present batch and weights under gates [L, B, 1], without gradient."""


def bernoulli_gates(theta: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """Gates xi [L, batch, 1] in {0, 1} with P(xi_l = 1) = theta_l, all sections in one call."""
    uniform = torch.rand(theta.numel(), batch, 1, generator=generator, device=theta.device)
    return (uniform < theta.view(-1, 1, 1)).to(torch.float32)


def antithetic_gates(theta: Tensor, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two draws [L, batch, 1] from one uniform number u: [u < theta] and [1 - u < theta]."""
    uniform = torch.rand(theta.numel(), batch, 1, generator=generator, device=theta.device)
    threshold = theta.view(-1, 1, 1)
    return (uniform < threshold).float(), (1 - uniform < threshold).float()


class Estimator:
    """Exponential averages of numerators and counts; `decay` is per step."""

    extra_forwards = 0
    rows = 1

    def __init__(
        self,
        sections: int,
        batch_size: int,
        decay: float,
        side_floor: float,
        device: torch.device,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.group = group
        self.decay = decay
        self.side_floor = side_floor
        self.expect(batch_size)
        self._averages = torch.zeros(2, self.rows, sections, device=device)
        self.sums, self.counts = self._averages[0], self._averages[1]

    def expect(self, batch_size: float) -> None:
        """So many gates of each section are drawn a step, of which both sides are to get some."""
        self.floor = min(self.side_floor / batch_size, 0.5)

    def sampling(self, theta: Tensor) -> Tensor:
        """Probability with which gates are drawn."""
        return theta

    def draw(self, theta: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        """Gates xi [L, batch, 1]; of several processes this one's part of them."""
        return bernoulli_gates(self.sampling(theta), batch, generator)[:, self.group.mine(batch)]

    def update(self, theta: Tensor, gates: Tensor, slopes: Tensor, losses: Tensor, losses_of: Losses) -> None:
        """Take in one batch."""
        raise LookupError(f"{type(self).__name__} defines no update")

    def delta(self) -> Tensor:
        """The running estimate [L]; 0 where nothing was seen yet."""
        return (self.sums / self.counts.clamp(min=1e-12)).mean(0)

    def _absorb(self, sums: list[Tensor], counts: list[Tensor]) -> None:
        """Take in a batch's numerators and counts, of each row one [L]."""
        new = torch.stack(sums + counts).view_as(self._averages)
        self.group.add_up(new)
        self._averages.mul_(self.decay).add_(new)


class StraightThrough(Estimator):
    """Mean slope over the batch. Biased: it reads the slope at 0 near theta = 0 and the slope at 1 near 1."""

    def update(self, theta: Tensor, gates: Tensor, slopes: Tensor, losses: Tensor, losses_of: Losses) -> None:
        self._absorb([slopes.sum(1)], [torch.full_like(theta, slopes.shape[1])])


class TwoSided(Estimator):
    """Mean of the mean slopes at xi = 1 and at xi = 0: the trapezoid rule for the slope's integral from 0 to 1.

    It conditions on the side, so drawing with theta clipped to [floor, 1 - floor] keeps both sides seen without
    biasing the section itself.
    """

    rows = 2

    def sampling(self, theta: Tensor) -> Tensor:
        return theta.clamp(self.floor, 1 - self.floor)

    def update(self, theta: Tensor, gates: Tensor, slopes: Tensor, losses: Tensor, losses_of: Losses) -> None:
        xi = gates.squeeze(2)
        opened, total, counted = (slopes * xi).sum(1), slopes.sum(1), xi.sum(1)
        self._absorb([opened, total - opened], [counted, slopes.shape[1] - counted])


class FiniteDifference(Estimator):
    """One random section a step is flipped in a second forward pass. Unbiased."""

    extra_forwards = 1

    def draw(self, theta: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        self.chosen = torch.randint(theta.numel(), (1,), generator=generator, device=theta.device)
        return super().draw(theta, batch, generator)

    def update(self, theta: Tensor, gates: Tensor, slopes: Tensor, losses: Tensor, losses_of: Losses) -> None:
        one_hot = torch.zeros_like(theta).index_fill_(0, self.chosen, 1.0)
        flipped = torch.where(one_hot.view(-1, 1, 1) > 0, 1 - gates, gates)
        sign = 2 * gates.index_select(0, self.chosen).flatten() - 1
        self.note(one_hot, (sign * (losses - losses_of(flipped))).sum(), losses.numel())

    def note(self, one_hot: Tensor, difference: Tensor, examples: int) -> None:
        """Take in the sum of C(xi_l = 1) - C(xi_l = 0) over this process's examples, of the section in `one_hot`."""
        difference, counted = one_hot * difference, one_hot * examples
        self.group.add_up(difference, counted)
        # Only the chosen section's averages move; the others' must not decay.
        decay = 1 - (1 - self.decay) * one_hot
        self.sums.mul_(decay).add_(difference)
        self.counts.mul_(decay).add_(counted)


class DisARM(Estimator):
    """Antithetic pair (Dong, Mnih, Tucker 2020), per example. Unbiased for theta inside (floor, 1 - floor)."""

    extra_forwards = 1

    def sampling(self, theta: Tensor) -> Tensor:
        return theta.clamp(self.floor, 1 - self.floor)

    def draw(self, theta: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        gates, partner = antithetic_gates(self.sampling(theta), batch, generator)
        self.partner = partner[:, self.group.mine(batch)]
        return gates[:, self.group.mine(batch)]

    def update(self, theta: Tensor, gates: Tensor, slopes: Tensor, losses: Tensor, losses_of: Losses) -> None:
        # DisARM's gradient is for the logit; d theta / d logit = p (1 - p) and sigma(|logit|) = max(p, 1 - p).
        p = self.sampling(theta)
        half = 0.5 * (losses - losses_of(self.partner))
        signed = (gates - self.partner).squeeze(2)
        self._absorb([(half * signed).sum(1) / torch.minimum(p, 1 - p)], [torch.full_like(theta, losses.numel())])


ESTIMATORS: dict[str, type[Estimator]] = {
    "straight_through": StraightThrough,
    "two_sided": TwoSided,
    "finite_difference": FiniteDifference,
    "disarm": DisARM,
}
