"""A price nu that makes gated training meet a budget: dual ascent on the constraint `cost of what is open <= budget`.

At every check nu rises by a factor where the expected cost sum_l theta_l k_l exceeds the budget, and falls where it
stays below. A section whose removal would leave less than the budget stays, and at consolidation theta's order decides
which sections are kept: so the network that is left costs what was asked, to within half a section. Derived.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from layerprune.errors import SettingError

RATE = 0.5
"""How strongly log(nu) follows the relative excess, at a check."""
STRONGEST = 1.0
"""Most that log(nu) moves at a check."""


@dataclass(frozen=True)
class Budget:
    """What removable sections may cost together, and what each costs, in one unit."""

    allowed: float
    costs: tuple[float, ...]

    def factor(self, theta: Tensor) -> float:
        """The factor by which nu is multiplied at a check."""
        spent = sum(part * cost for part, cost in zip(theta.tolist(), self.costs, strict=True))
        excess = (spent - self.allowed) / max(self.allowed, min(self.costs))
        return math.exp(max(-STRONGEST, min(STRONGEST, RATE * excess)))

    def may_go(self, candidates: Sequence[int], alive: Sequence[int]) -> list[int]:
        """The first of these sections, as many as can go before less than the budget is left."""
        left, gone = sum(cost for cost, stays in zip(self.costs, alive, strict=True) if stays), []
        for index in candidates:
            if alive[index] and left - self.costs[index] >= self.allowed - self.costs[index] / 2:
                left -= self.costs[index]
                gone.append(index)
        return gone

    def rounded(self, theta: Tensor, worth: Tensor, alive: Sequence[int]) -> Tensor:
        """1 for the sections to keep, highest theta first and in a tie the most useful, up to the sum nearest to the
        budget; 0 for the others."""
        ranked = sorted(
            (index for index, stays in enumerate(alive) if stays),
            key=lambda index: (-float(theta[index]), -float(worth[index])),
        )
        kept, left = torch.zeros_like(theta), self.allowed
        for index in ranked:
            if self.costs[index] / 2 > left:
                continue
            kept[index] = 1
            left -= self.costs[index]
        return kept


def of_macs(share: float, whole: int, section_macs: Sequence[int]) -> Budget:
    """This share of the whole network's multiply-adds. Raises SettingError where what always stays costs more."""
    return of_share("target_macs", "the multiply-adds", share, whole, section_macs)


def of_latency(share: float, whole: float, section_latencies: Sequence[float]) -> Budget:
    """This share of the whole network's latency. Raises SettingError where what always stays takes longer."""
    return of_share("target_latency", "the latency", share, whole, section_latencies)


def of_share(setting: str, of_what: str, share: float, whole: float, parts: Sequence[float]) -> Budget:
    """This share of a whole in any unit. Raises SettingError if what always stays is more; `of_what` names the unit."""
    fixed = whole - sum(parts)
    if share * whole < fixed:
        raise SettingError(
            f"settings.{setting}: {share:.3g} of {of_what} is less than what cannot be removed ({fixed / whole:.3f})"
        )
    return Budget(share * whole - fixed, tuple(map(float, parts)))


def of_depth(sections: int, there: int) -> Budget:
    """This many sections. Raises SettingError if the network has fewer."""
    if sections > there:
        raise SettingError(f"settings.target_depth: {sections} sections requested, the network has {there}")
    return Budget(float(sections), (1.0,) * there)
