"""The flattening hyper-prior of arXiv 2406.04549 and the price that follows from it (derived; DESIGN 2.2).

    p(pi | gamma) = (1 - gamma) / log(1/gamma) * 1 / (gamma + (1 - gamma) pi),     0 < gamma < 1
Minimised over pi, KL(Bernoulli(theta) || Bernoulli(pi)) - log p(pi | gamma) is theta log(1/gamma) + const: linear, with
the same slope everywhere ("flat").
"""

import math


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
