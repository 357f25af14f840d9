"""Multiply-adds spent on training: forward x 3 for a step, x 1 for an extra forward pass; open sections only."""

from layerprune.core.measure.counting import count_macs, section_macs
from layerprune.core.networks.sections import CLOSED, Gates, SectionedNetwork


class MacMeter:
    """Counts on the host from the network's structure; never looks at a tensor's values."""

    def __init__(self, network: SectionedNetwork, total: int = 0) -> None:
        self.network = network
        self.total = total
        self.recount()

    def recount(self) -> None:
        """Look at the network anew; to be called after every removal."""
        self.by_section = section_macs(self.network)
        self.whole = count_macs(self.network, self.network.input_shape)

    def forward_macs(self, gates: Gates = None) -> int:
        """MACs of one input through the sections that are alive and not CLOSED."""
        if not isinstance(gates, list):
            return self.whole
        return self.whole - sum(macs for macs, gate in zip(self.by_section, gates, strict=True) if gate is CLOSED)

    def add_step(self, examples: int, gates: Gates = None) -> None:
        """One forward and backward pass."""
        self.total += 3 * examples * self.forward_macs(gates)

    def add_forward(self, examples: int, gates: Gates = None) -> None:
        """One forward pass."""
        self.total += examples * self.forward_macs(gates)
