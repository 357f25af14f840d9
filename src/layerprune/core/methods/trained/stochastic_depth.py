"""Stochastic depth (Huang et al., ECCV 2016): the same noise as gated training, no learnt gates.

Section l = 1..L survives a mini-batch with p_l = 1 - (l/L)(1 - p_L); a section that does not is not computed. l counts
all sections of the network, as published. After training the branch is multiplied by p_l (folded into its last
weights), as in the paper. With `keep` it becomes a control: sections with the smallest p_l, the last ones, leave until
that many are left.
Deviations: sections that may not go always survive; weights of a skipped section get no gradient and no decay in that
step.
"""

import torch

from layerprune.core.methods.base import Context, Outcome, TrainingMethod
from layerprune.core.networks.sections import CLOSED, Gates, SectionedNetwork
from layerprune.core.seeding import generator
from layerprune.core.settings import StochasticDepthSettings

VERSION = 2


class Method(TrainingMethod):
    """Survival by section and batch, drawn on the host an epoch at a time: skipping is control flow, not arithmetic."""

    skips_sections = True

    def __init__(self, settings: StochasticDepthSettings, network: SectionedNetwork, context: Context) -> None:
        super().__init__(settings, network, context)
        last = len(network.chain)
        places = [place for place, section in enumerate(network.chain, 1) if section.removable]
        self.survival = [1 - (place / last) * (1 - settings.final_survival) for place in places]

    def start_epoch(self, epoch: int) -> None:
        noise = generator("gates", self.context.seed, epoch)
        draws = torch.rand(self.context.steps_per_epoch, self.context.sections, generator=noise)
        self.open = (draws < torch.tensor(self.survival)).tolist()

    def gates(self, step: int, batch: int) -> Gates:
        return [None if stays else CLOSED for stays in self.open[step % self.context.steps_per_epoch]]

    def evaluation_gates(self) -> Gates:
        return torch.tensor(self.survival, device=self.context.device).view(-1, 1, 1)

    def curve(self) -> list[float]:
        return self.survival

    def outcome(self) -> Outcome:
        count = self.context.sections
        kept = self.context.keep_count if self.context.keep_count is not None else count
        return Outcome([int(index < kept) for index in range(count)], self.survival, {"survival": self.survival})
