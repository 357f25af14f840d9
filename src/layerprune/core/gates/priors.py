"""What an open section costs: under the flattening hyper-prior of arXiv 2406.04549, and under others (claim C5).

    p(pi | gamma) = (1 - gamma) / log(1/gamma) * 1 / (gamma + (1 - gamma) pi),     0 < gamma < 1
Minimised over pi, KL(Bernoulli(theta) || Bernoulli(pi)) - log p(pi | gamma) is theta log(1/gamma) + const: linear, with
the same slope everywhere ("flat"; derived in docs/method.md, section 2). Under other priors the slope depends on theta:

    fixed pi                            logit(theta) - logit(pi)
    pi ~ Beta(1, b), pi chosen best     log((b - theta) / (1 - theta)),      best pi = theta / b
    flattening hyper-prior              log(1 / gamma)

Each is scaled so that its slope at theta0 is that of the flattening prior: they differ in shape alone. A plain L0
penalty, nu times the expected number of open sections, has the very price of the flattening prior; what is compared as
`l0` is the usual way of learning with it, gradient descent on the logit of theta (Louizos et al., ICLR 2018). Derived.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Slope = Callable[[Tensor], Tensor]
"""The price's slope at theta [L], as a multiple of nu c."""
NEAREST = 1e-4
"""Probabilities are kept this far from 0 and 1 before taking logarithms."""


def best_pi(theta: float, gamma: float) -> float:
    """The prior probability that minimises the complexity cost at `theta`."""
    return gamma * theta / (1 - theta + gamma * theta)


def complexity(theta: float, pi: float, gamma: float) -> float:
    """KL(Bernoulli(theta) || Bernoulli(pi)) - log p(pi | gamma), in nats; theta and pi in (0, 1)."""
    divergence = theta * math.log(theta / pi) + (1 - theta) * math.log((1 - theta) / (1 - pi))
    density = (1 - gamma) / math.log(1 / gamma) / (gamma + (1 - gamma) * pi)
    return divergence - math.log(density)


def price(log_gamma: float, examples: int) -> float:
    """nu = log(1/gamma) / N: the price of an open section in units of the mean loss over N examples."""
    return log_gamma / examples


def slope_of(prior: str, mean: float, theta0: float) -> Slope | None:
    """The slope of a prior of this mean, 1 at theta0; None where it is 1 everywhere."""
    if prior in ("flattening", "l0"):
        return None
    if prior == "none":
        return torch.zeros_like
    raw = _fixed(mean) if prior == "fixed" else _beta(mean)
    at_start = float(raw(torch.tensor([theta0])))
    return lambda theta: raw(theta) / at_start


def _fixed(pi: float) -> Slope:
    offset = torch.logit(torch.tensor(pi))
    return lambda theta: torch.logit(theta, NEAREST) - offset.to(theta)


def _beta(mean: float) -> Slope:
    """Of Beta(1, b), whose mean is 1 / (1 + b)."""
    b = 1 / mean - 1
    return lambda theta: torch.log((b - theta) / (1 - theta).clamp(min=NEAREST))


def move_logit(theta: Tensor, drift: Tensor, rate: Tensor | float, theta0: float) -> None:
    """A step of gradient descent on theta's logit, in place; at theta0 it moves theta as a step on theta would."""
    scale = rate / (theta0 * (1 - theta0)) ** 2
    logit = torch.logit(theta, NEAREST) - scale * theta * (1 - theta) * drift
    theta.copy_(torch.sigmoid(logit))
