"""Bernoulli gates: one draw per section and example."""

import torch
from torch import Tensor


def draw(theta: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """Gates xi [L, batch, 1] in {0, 1} with P(xi_l = 1) = theta_l, all sections in one call."""
    uniform = torch.rand(theta.numel(), batch, 1, generator=generator, device=theta.device)
    return (uniform < theta.view(-1, 1, 1)).to(torch.float32)


def antithetic(theta: Tensor, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two draws [L, batch, 1] from one uniform number u: [u < theta] and [1 - u < theta]."""
    uniform = torch.rand(theta.numel(), batch, 1, generator=generator, device=theta.device)
    threshold = theta.view(-1, 1, 1)
    return (uniform < threshold).float(), (1 - uniform < threshold).float()
