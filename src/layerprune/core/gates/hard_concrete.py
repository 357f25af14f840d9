"""Hard-concrete gates (Louizos, Welling, Kingma, ICLR 2018): a stretched, clamped logistic variable in [0, 1].

The paper gates input units; one gate a section is an adaptation.
"""

import math

import torch
from torch import Tensor

BETA = 2 / 3
GAMMA = -0.1
ZETA = 1.1
CLOSED_BELOW = math.log(-GAMMA / ZETA)
"""log_a at or below which the deterministic gate is exactly 0 (-2.398)."""


def sample(log_a: Tensor, generator: torch.Generator) -> Tensor:
    """One draw of z per entry of `log_a`, differentiable in it."""
    uniform = torch.rand(log_a.shape, generator=generator, device=log_a.device).clamp(1e-6, 1 - 1e-6)
    stretched = torch.sigmoid((torch.logit(uniform) + log_a) / BETA) * (ZETA - GAMMA) + GAMMA
    return stretched.clamp(0, 1)


def open_probability(log_a: Tensor) -> Tensor:
    """P(z != 0)."""
    return torch.sigmoid(log_a - BETA * math.log(-GAMMA / ZETA))


def deterministic(log_a: Tensor) -> Tensor:
    """The gate used after training."""
    return (torch.sigmoid(log_a) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
