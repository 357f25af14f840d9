"""A running average of a network's weights, which replaces them when training ends (Polyak & Juditsky 1992).

    average <- d average + (1 - d) weights   after every step, the running statistics of normalisation included
It begins with the weights after the first step. Sections that leave the network leave the average.
"""

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential average, of decay `decay` per step, of the parameters and floating-point buffers of `network`."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = network
        self.decay = decay
        self._average: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        now = self._values()
        if self._average.keys() != now.keys():
            self._average = {name: self._average.get(name, value.clone()) for name, value in now.items()}
        torch._foreach_lerp_([self._average[name] for name in now], list(now.values()), 1 - self.decay)

    @torch.no_grad()
    def copy_to(self, network: nn.Module) -> None:
        """Put the average in the place of the weights; before the first update nothing happens."""
        for name, value in self._values(network).items():
            if name in self._average:
                value.copy_(self._average[name])

    def state(self) -> dict[str, Tensor]:
        """What an exact resume needs."""
        return dict(self._average)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        now = self._values()
        self._average = {name: value.to(now[name].device) for name, value in state.items()}

    def _values(self, network: nn.Module | None = None) -> dict[str, Tensor]:
        state = (network or self.network).state_dict()
        return {name: value for name, value in state.items() if value.is_floating_point()}
