"""ConcurrentPruner as a callback of Hugging Face's Trainer, with the Trainer's own checkpoints.

    prune = PruneLayers(pixel_values, target_macs=0.6)
    trainer = transformers.Trainer(model, args, train_dataset=..., callbacks=[prune])
    trainer.train()
    smaller = prune.export()

The loss has to be the mean over its batch, as it is of the models for image classification.
"""

import base64
import copy
import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from layerprune.errors import LayerpruneError
from layerprune.library.concurrent_pruner import ConcurrentPruner
from layerprune.library.gates import detach
from layerprune.library.integrations.attaching import Attached, network_of

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_callback import ExportableState
except ImportError:
    raise ImportError("Transformers is not installed: pip install transformers accelerate") from None


class PruneLayers(TrainerCallback, ExportableState):
    """Gates the sections of a model while the Trainer trains it, and takes useless ones out.

    `example_input` is a batch for `network`: the name of the module within the model that is pruned. Where none is
    named it is the model without its head (`base_model`); in a module of one's own its only part with weights, or all.
    `options` are those of ConcurrentPruner: what it is asked for (nu, target_macs, max_loss_increase, ...), and its
    others; total_steps and scaler are the Trainer's where not given. `trainer.train(resume_from_checkpoint=...)` goes
    on exactly, with a model that is whole.

    Raises LayerpruneError, before the first step, where ConcurrentPruner does.
    """

    def __init__(self, example_input: Tensor, *, network: str | None = None, **options: Any) -> None:
        self.example_input, self.network, self.options = example_input, network, options
        self._attached: Attached | None = None
        self._model: nn.Module | None = None

    @property
    def pruner(self) -> ConcurrentPruner | None:
        """It is there from the start of training on."""
        return self._attached.pruner if self._attached is not None else None

    def export(self) -> nn.Module:
        """The smaller model as a plain module from `example_input`'s kind to logits, where the model has logits.

        Raises LayerpruneError before every section has been decided on.
        """
        if self.pruner is None:
            raise LayerpruneError("export: nothing has been trained yet: call trainer.train first")
        plain = self.pruner.export()
        if self._model is self.pruner.model:
            return _WithLogits(plain).eval()
        copied = copy.deepcopy(self._model)
        detach(copied)
        return _WithLogits(copied).eval()

    # --- the Trainer's hooks, in the order in which it calls them ---------------------------------------------------

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **_: Any
    ) -> None:
        if args.restore_callback_states_from_checkpoint:
            raise LayerpruneError(
                "PruneLayers: it reads its state from checkpoints itself: "
                "leave restore_callback_states_from_checkpoint out"
            )
        self._model = model
        self._attached = Attached(network_of(model, self.network), self.example_input)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, optimizer: Any, **_: Any
    ) -> None:
        """There is an optimizer now, whose state has been read where there is a checkpoint."""
        if self._attached is None:
            raise LayerpruneError("PruneLayers: give it to the Trainer when that is made: Trainer(callbacks=[...])")
        if self.pruner is not None:
            raise LayerpruneError("PruneLayers: one callback serves one training; make another for another Trainer")
        _check(args)
        options = {"scaler": getattr(optimizer, "scaler", None), "total_steps": state.max_steps, **self.options}
        known = state.stateful_callbacks.get(type(self).__name__) or {}
        text = known.get("attributes", {}).get("saved", "") if state.global_step else ""
        self._attached.start(getattr(optimizer, "optimizer", optimizer), _unpacked(text), options)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.pruner.step()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.pruner is not None and state.log_history:
            state.log_history[-1].update({f"layerprune/{name}": each for name, each in self._attached.left().items()})

    def state(self) -> dict[str, dict[str, str]]:
        """What a checkpoint's trainer_state.json holds of it."""
        saved = _packed(self.pruner.state_dict()) if self.pruner is not None else ""
        return {"args": {}, "attributes": {"saved": saved}}


def _check(args: TrainingArguments) -> None:
    if args.fsdp or args.deepspeed:
        raise LayerpruneError("PruneLayers: sections cannot leave a model that is sharded: use DDP or one device")
    if args.n_gpu > 1:
        raise LayerpruneError(
            "PruneLayers: DataParallel copies the model for every step: use one process a GPU (torchrun)"
        )
    if args.world_size > 1 and not args.ddp_find_unused_parameters:
        raise LayerpruneError("PruneLayers: sections leave the model: set ddp_find_unused_parameters=True")


class _WithLogits(nn.Module):
    """A model that takes one tensor and puts out logits, where it returns several things."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        returned = self.model(x)
        return returned["logits"] if isinstance(returned, Mapping) and "logits" in returned else returned


def _packed(state: dict[str, Any]) -> str:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _unpacked(text: str) -> dict[str, Any] | None:
    return torch.load(io.BytesIO(base64.b64decode(text)), weights_only=True, map_location="cpu") if text else None
