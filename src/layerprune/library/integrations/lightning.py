"""ConcurrentPruner as a callback of Lightning's Trainer, with the Trainer's own checkpoints.

    prune = PruneLayers(example_input, target_macs=0.6)
    trainer = lightning.Trainer(callbacks=[prune], ...)
    trainer.fit(module, batches)
    smaller = prune.export()

The training step's loss must be the mean over its batch.
"""

from typing import Any

from torch import nn

from layerprune.errors import LayerpruneError
from layerprune.library.concurrent_pruner import ConcurrentPruner
from layerprune.library.find_sections import Granularity
from layerprune.library.integrations.attaching import Attached, network_of

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:
    raise ImportError("Lightning is not installed: pip install lightning") from None


class PruneLayers(Callback):
    """Gates the sections of the network in a LightningModule while the Trainer trains it, and removes useless ones.

    `network` names the attribute of the LightningModule that holds the network; by default it is the only attribute
    with weights or, if there are several, the LightningModule itself. `example_input` is a batch for it; `granularity`
    is that of find_sections. `options` are ConcurrentPruner's (nu, target_macs, max_loss_increase, ...); total_steps
    and scaler default to the Trainer's. `trainer.fit(ckpt_path=...)` resumes exactly, into a whole LightningModule.
    Batches for which the training step returns None are no steps of the pruner's.

    Raises LayerpruneError, before the first step, as ConcurrentPruner does, and for several optimizers.
    """

    def __init__(
        self,
        example_input: Any,
        *,
        network: str | None = None,
        granularity: Granularity = "section",
        **options: Any,
    ) -> None:
        self.example_input, self.network, self.options = example_input, network, options
        self.granularity = granularity
        self._attached: Attached | None = None
        self._state: dict[str, Any] | None = None
        self._steps = 0
        self._is_followed_back = False  # whether a loss has been, since the last optimizer step

    @property
    def pruner(self) -> ConcurrentPruner | None:
        """The pruner, once training has started."""
        return self._attached.pruner if self._attached is not None else None

    def export(self) -> nn.Module:
        """The smaller network as a plain module. Raises LayerpruneError until every section is decided."""
        if self.pruner is None:
            raise LayerpruneError("export: nothing has been trained yet: call trainer.fit first")
        return self.pruner.export()

    # --- Lightning's hooks, in the order in which it calls them -----------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Prepares the module: a checkpoint may be read next, to train further or to test."""
        if stage == "fit" and self.pruner is not None:
            raise LayerpruneError("PruneLayers: one callback serves one training; make a new one for the next fit")
        network = network_of(pl_module, self.network)
        if self._attached is None or self._attached.sections.model is not network:
            self._attached = Attached(network, self.example_input, self.granularity)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._state = state_dict

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the pruner: the optimizers exist, and their states have not been read yet."""
        _check(trainer)
        options = {"scaler": getattr(trainer.precision_plugin, "scaler", None), **self.options}
        if "total_steps" not in options:
            options["total_steps"] = _steps_of(trainer)
        self._attached.start(trainer.optimizers[0], self._state, options)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._steps = trainer.global_step

    def on_before_backward(self, *_: Any) -> None:
        self._is_followed_back = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self._steps:  # gradients are being accumulated
            return
        self._steps = trainer.global_step
        # In manual optimization backward() may be called without Lightning's hearing of it.
        is_skipped = pl_module.automatic_optimization and not self._is_followed_back
        self._is_followed_back = False
        if is_skipped:
            self.pruner.discard()  # a forward pass whose loss the training step did not return
            return
        self.pruner.step()
        if trainer.loggers:
            pl_module.log_dict({f"layerprune/{name}": value for name, value in self._attached.left().items()})

    def state_dict(self) -> dict[str, Any]:
        return self.pruner.state_dict() if self.pruner is not None else {}


def _check(trainer: Trainer) -> None:
    if len(trainer.optimizers) != 1:
        raise LayerpruneError(f"PruneLayers: needs one optimizer, the module has {len(trainer.optimizers)}")
    if trainer.strategy.restore_checkpoint_after_setup:
        name = type(trainer.strategy).__name__
        raise LayerpruneError(
            f"PruneLayers: sections cannot be removed from a model that {name} shards: use DDP or one device"
        )
    wrapped = trainer.strategy.model
    if isinstance(wrapped, nn.parallel.DistributedDataParallel) and not wrapped.find_unused_parameters:
        raise LayerpruneError(
            "PruneLayers: sections are removed during training: use strategy='ddp_find_unused_parameters_true'"
        )


def _steps_of(trainer: Trainer) -> int:
    steps = trainer.estimated_stepping_batches
    if steps == float("inf") or steps < 1:
        raise LayerpruneError(
            "PruneLayers: the length of training is unknown: set the Trainer's max_epochs, or total_steps="
        )
    return int(steps)
