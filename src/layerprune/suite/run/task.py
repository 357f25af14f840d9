"""What one run is given: its settings, data on the device, the runs it starts from, and who shares it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from layerprune.core.data.batches import evaluation_batches
from layerprune.core.data.dataset import DataSet
from layerprune.core.networks import layout, storage
from layerprune.core.networks.build import build
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.seeding import generator
from layerprune.core.training.evaluate import batch_size
from layerprune.core.training.state import StateFile
from layerprune.suite.config import RunSettings
from layerprune.suite.record import Record
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup
from layerprune.system.processes import Notice

CERTIFICATE_IMAGES = 500
Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Parent:
    """A finished run that another starts from; `load` reads the network that it left."""

    record: Record
    load: Callable[[], SectionedNetwork]


@dataclass(frozen=True)
class WeightsFile:
    """A file of trained weights and the SHA-256 of its content."""

    path: Path
    checksum: str


@dataclass(frozen=True)
class Task:
    """What a run needs: settings, data on the device, parents by method, where its state lies; who shares it."""

    settings: RunSettings
    data: DataSet
    device: torch.device
    parents: dict[str, Parent]
    state: StateFile
    report: Report
    notice: Notice = field(default_factory=Notice)
    group: ProcessGroup = SINGLE_PROCESS
    weights: WeightsFile | None = None
    """What the dense network is read from instead of being trained."""
    records: bool = True
    """Whether steps are recorded where the engine does so."""
    lanes: int | None = None
    """Runs that the process makes at a time; None: this one alone."""

    @property
    def method_settings(self) -> Any:
        return self.settings.method_settings()

    @property
    def spent_by_parents(self) -> tuple[int, float]:
        """Multiply-adds and seconds of the training that the run's weights come from: the dense network's, or none."""
        if "dense" not in self.parents:
            return 0, 0.0
        dense = self.parents["dense"].record
        return dense.train_macs, dense.wall_seconds

    def fresh_network(self, stream: str = "initialisation") -> SectionedNetwork:
        """The whole network from the named stream."""
        return self.place(self._built(stream))

    def check_network(self) -> None:
        """Raises LayerpruneError for an architecture whose networks cannot be saved."""
        storage.check_can_be_saved(self._built("initialisation"))

    def _built(self, stream: str) -> SectionedNetwork:
        source = generator(stream, self.settings.seed)
        settings = self.settings
        return build(settings.arch, self.data.shape, self.data.classes, source, settings.model)

    def dense_network(self) -> SectionedNetwork:
        """The trained network that this run starts from."""
        return self.place(self.parents["dense"].load())

    def teacher(self) -> SectionedNetwork:
        """The trained network again, to learn from: in evaluation mode, without gradients."""
        return self.dense_network().eval().requires_grad_(False)

    def place(self, network: SectionedNetwork) -> SectionedNetwork:
        """On the run's device."""
        return layout.place(network, self.device)

    def certificate_images(self) -> Tensor:
        """The validation images [B, C, H, W] on which two networks are compared."""
        count = min(CERTIFICATE_IMAGES, batch_size(self.data))
        images, _ = next(evaluation_batches(self.data.validation, self.data.mean, self.data.std, count))
        return images
