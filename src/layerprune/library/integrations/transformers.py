"""ConcurrentPruner as a callback of Hugging Face's Trainer, with the Trainer's own checkpoints.

    prune = PruneLayers({"input_ids": ids, "attention_mask": mask}, granularity="layer", target_depth=8)
    trainer = transformers.Trainer(model, args, train_dataset=..., callbacks=[prune])
    trainer.train()
    smaller = prune.export()

The loss must be the mean over its batch. A language model's loss is the mean over tokens, so texts of one length count
the same. For a model of images the example is the tensor `pixel_values`.
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
from layerprune.library.find_sections import Granularity
from layerprune.library.gates import detach
from layerprune.library.integrations.attaching import Attached, network_of
from layerprune.library.whole_layers import shorten

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_callback import ExportableState
except ImportError:
    raise ImportError("Transformers is not installed: pip install transformers accelerate") from None


class PruneLayers(TrainerCallback, ExportableState):
    """Gates the sections of a model while the Trainer trains it, and removes useless ones.

    `network` names the module within the model that is pruned, and `example_input` is a batch for it. By default it is
    the model if the example is a dictionary; if the example is a tensor, the model without its head (`base_model`), or
    the only part with weights of a module of your own, or all of it. `granularity` is that of find_sections. `options`
    are ConcurrentPruner's (nu, target_macs, max_loss_increase, ...); total_steps and scaler default to the Trainer's.
    `trainer.train(resume_from_checkpoint=...)` resumes exactly, with a whole model.

    Raises LayerpruneError, before the first step, as ConcurrentPruner does.
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
        self._model: nn.Module | None = None

    @property
    def pruner(self) -> ConcurrentPruner | None:
        """The pruner, once training has started."""
        return self._attached.pruner if self._attached is not None else None

    def export(self) -> nn.Module:
        """The smaller model; if `example_input` is a tensor, a plain module from such a tensor to the model's logits.

        Raises LayerpruneError until every section is decided.
        """
        if self.pruner is None:
            raise LayerpruneError("export: nothing has been trained yet: call trainer.train first")
        plain = self.pruner.export()
        if self._model is not self.pruner.model:
            plain = copy.deepcopy(self._model)
            detach(plain)
            shorten(plain, self.example_input)
        return _WithLogits(plain).eval() if isinstance(self.example_input, Tensor) else plain.eval()

    # --- the Trainer's hooks, in the order in which it calls them ---------------------------------------------------

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **_: Any
    ) -> None:
        if args.restore_callback_states_from_checkpoint:
            raise LayerpruneError(
                "PruneLayers reads its own state from checkpoints: leave out restore_callback_states_from_checkpoint"
            )
        self._model = model
        is_whole = isinstance(self.example_input, Mapping) and self.network is None
        network = model if is_whole else network_of(model, self.network)
        self._attached = Attached(network, self.example_input, self.granularity)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, optimizer: Any, **_: Any
    ) -> None:
        """Starts the pruner: the optimizer exists, and its state has been read if training resumes."""
        if self._attached is None:
            raise LayerpruneError("PruneLayers: pass it to the Trainer's constructor: Trainer(callbacks=[...])")
        if self.pruner is not None:
            raise LayerpruneError("PruneLayers: one callback serves one training; make a new one for the next Trainer")
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
        """Its part of a checkpoint's trainer_state.json."""
        saved = _packed(self.pruner.state_dict()) if self.pruner is not None else ""
        return {"args": {}, "attributes": {"saved": saved}}


def _check(args: TrainingArguments) -> None:
    if args.fsdp or args.deepspeed:
        raise LayerpruneError("PruneLayers: sections cannot be removed from a sharded model: use DDP or one device")
    if args.load_best_model_at_end:
        # The Trainer loads with strict=False: what the best checkpoint has of sections that have left since is lost.
        raise LayerpruneError(
            "PruneLayers: load_best_model_at_end would load weights from before removals into the smaller model, a "
            "mixture that was never evaluated: leave it out, and resume from a checkpoint to go back to it"
        )
    if args.n_gpu > 1:
        raise LayerpruneError(
            "PruneLayers: DataParallel copies the model for every step: use one process per GPU (torchrun)"
        )
    if args.world_size > 1 and not args.ddp_find_unused_parameters:
        raise LayerpruneError("PruneLayers: sections are removed during training: set ddp_find_unused_parameters=True")


class _WithLogits(nn.Module):
    """Wraps a model that returns several things: takes one tensor and returns logits."""

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
