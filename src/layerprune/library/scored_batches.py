"""Batches as score methods take them: what the model gets, and labels [N] for its logits [N, classes].

In a batch of texts every token with a label is an example of its own to the loss: `Inputs.labelled` says which of the
model's logits [B, T, classes] have one. -100 stands for no label, as in torch's cross-entropy.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from layerprune.errors import LayerpruneError
from layerprune.library import examples

NO_LABEL = -100
Batches = Iterable[tuple[Any, Tensor] | Mapping[str, Tensor]]
"""Pairs of inputs and labels, or dictionaries of arguments by name, with `labels` among them."""


@dataclass(frozen=True)
class Inputs:
    """Arguments of a model, and at which places [B, T] its logits have labels; None where an example has one label."""

    given: Any
    labelled: Tensor | None

    @property
    def first(self) -> Tensor:
        return examples.tensors(self.given)[0]

    def __len__(self) -> int:
        return examples.batch_size(self.given)

    def new_zeros(self, *size: int, **options: Any) -> Tensor:
        return self.first.new_zeros(*size, **options)


class Repeated:
    """Batches on the model's device, however often they are read."""

    def __init__(self, method: str, batches: Batches | None, model: nn.Module) -> None:
        self.method, self.model = method, model
        self.device = next((each.device for each in model.parameters()), torch.device("cpu"))
        self.batches = list(batches) if isinstance(batches, Iterator) else batches  # it could be gone through once
        self._ahead: int | None = None

    def __iter__(self) -> Iterator[tuple[Tensor | Inputs, Tensor]]:
        if self.batches is None:
            raise LayerpruneError(f"{self.method} looks at data: give batches, pairs of images and labels")
        count = 0
        for each in self.batches:
            inputs, labels = self._of(each)
            if len(inputs) == 0:
                raise LayerpruneError("batches: one of them has no example")
            yield inputs, labels
            count += 1
        if count == 0:
            raise LayerpruneError("batches: there are none")

    def _of(self, batch: Any) -> tuple[Tensor | Inputs, Tensor]:
        if isinstance(batch, Mapping) and isinstance(batch.get("labels"), Tensor):
            given = examples.moved(batch, self.device)
            labels = given["labels"]
            return self._labelled(given, labels, self._steps_ahead(given) if labels.dim() == 2 else 0)
        is_pair = isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], Tensor)
        if not is_pair or not isinstance(batch[0], Tensor | Mapping):
            raise LayerpruneError(
                "batches: each has to be a pair of inputs and labels, or a dictionary of arguments with labels"
            )
        given, labels = examples.moved(batch[0], self.device), batch[1].to(self.device)
        if isinstance(given, Tensor) and (labels.dim() != 2 or labels.is_floating_point()):
            return given, labels
        return self._labelled(given, labels, 0)

    def _labelled(self, given: Any, labels: Tensor, ahead: int) -> tuple[Inputs, Tensor]:
        """`ahead` is 1 where the logits at a place are of the label at the next one."""
        if labels.dim() != 2:
            return Inputs(given, None), labels
        if self.method in ONE_LABEL:
            raise LayerpruneError(f"{self.method}: needs one label per example, not one per token")
        there = labels != NO_LABEL
        labelled = torch.zeros_like(there)
        labelled[:, : labels.shape[1] - ahead] = there[:, ahead:]
        return Inputs(given, labelled), labels[:, ahead:][there[:, ahead:]]

    def _steps_ahead(self, given: Mapping[str, Tensor]) -> int:
        """Whether the model's own loss compares logits with the labels at the same places, or at the next ones."""
        if self._ahead is None:
            with torch.no_grad():
                output = examples.call(self.model, given)
            logits, loss = logits_of(output), output.get("loss") if isinstance(output, Mapping) else None
            self._ahead = 0 if loss is None else min((0, 1), key=lambda each: _miss(logits, given, each, loss))
        return self._ahead


def _miss(logits: Tensor, given: Mapping[str, Tensor], ahead: int, loss: Tensor) -> float:
    labels = given["labels"][:, ahead:].flatten()
    found = functional.cross_entropy(logits[:, : logits.shape[1] - ahead].flatten(0, 1).float(), labels)
    return float((found - loss).abs())


def logits_of(output: Any) -> Any:
    """Of what a model returns: itself, or what it calls logits."""
    return output["logits"] if isinstance(output, Mapping) and "logits" in output else output


ONE_LABEL = ("dbp", "energy", "imprinting", "linear-probes", "modularity")
"""Methods that look at classes of examples."""
