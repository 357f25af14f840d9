"""A prior on a section's weights that depends on its gate: what it adds to theta's price, and their decay.

With p(w | xi) = N(0, xi s0^2), and a posterior of the same form around W, the weights of a closed section cost nothing:
    J_B = E[C] + sum_l theta_l (nu c_l + d_l kappa / N + lambda/2 ||W_l||^2)
in place of lambda/2 ||W||^2 for all of them (see docs/method.md). J_B is affine in every theta_l; the decay of W_l is
lambda theta_l W_l, so at theta_l = 0 weights stay as they are. Derived.
"""

import torch
from torch import Tensor, nn

from layerprune.core.decay import under_decay
from layerprune.core.methods.base import Context
from layerprune.core.networks.sections import SectionedNetwork


class SpikeAndSlab:
    """lambda is the weight decay of the training, W_l the weights under it; kappa is in nats a weight."""

    def __init__(self, network: SectionedNetwork, context: Context, kappa: float) -> None:
        self.network = network
        self.decay = context.weight_decay
        self.decayed = context.decayed
        counts = [float(sum(each.numel() for each in weights)) for weights in self._weights()]
        self.fixed = torch.tensor(counts, device=context.device) * (kappa / context.examples)

    def prices(self) -> Tensor:
        """What an open section costs beside nu c_l [L], in units of the mean loss; 0 lambda where a branch is gone."""
        nothing = torch.zeros((), device=self.fixed.device)
        with torch.no_grad():
            norms = [[each.square().sum() for each in weights] for weights in self._weights()]
            squares = torch.stack([torch.stack(each).sum() if each else nothing for each in norms])
        return self.fixed + self.decay / 2 * squares

    @torch.no_grad()
    def scale_decay(self, theta: Tensor) -> None:
        """Take from the gradients what the optimizer, which adds the whole decay, will add too much."""
        surplus = (theta - 1) * self.decay
        for weights, factor in zip(self._weights(), surplus.unbind(), strict=True):
            for weight in weights:
                weight.grad.addcmul_(weight, factor)

    def _weights(self) -> list[list[nn.Parameter]]:
        """Of each section the branch's weights under decay; none where it is gone."""
        branches = [section.branch.parameters() if section.alive else () for section in self.network.sections]
        return [under_decay(branch, self.decayed) for branch in branches]
