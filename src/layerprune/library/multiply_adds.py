"""Counts the multiply-adds of whatever a model computes, with torch's FlopCounterMode and what that leaves out: fused
attention on a CPU, recurrent layers that run as one operation, mixtures of experts, deformable convolutions, bilinear
layers, distances, and products of a matrix and a vector.

Masks are not taken off: an attention's two products count whole, as they do on a GPU.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

Shape = Sequence[int]


def _of_attention(query: Shape, key: Shape, value: Shape, *others: Any, **named: Any) -> int:
    """Flops; several heads of the queries may share one of keys and values. Torch 2.11's own formula refuses that."""
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _of_a_recurrent_layer(steps: Shape, into: Shape, recurrent: Shape, *others: Any, **named: Any) -> int:
    """Flops of one direction, whose `steps` are [time, batch, features]."""
    return 2 * prod(steps[:-1]) * (prod(into) + prod(recurrent))


def _of_recurrent_layers(steps: Shape, weights: Sequence[Shape], *others: Any, **named: Any) -> int:
    """Flops of all layers and directions; each of their matrices is applied to every step of every example."""
    return 2 * prod(steps[:-1]) * sum(prod(each) for each in weights if len(each) == 2)


def _of_groups(first: Shape, second: Shape, *others: Any, **named: Any) -> int:
    """Flops of products of groups: of rows, of columns, or of what is summed over; or one of each in two batches."""
    batches = first[0] if len(first) == len(second) == 3 else 1
    return 2 * batches * prod(first[-2:]) * second[-1]


def _of_a_deformable_convolution(images: Shape, weight: Shape, offset: Shape, *others: Any, **named: Any) -> int:
    """Flops, of [out, in / groups, height, width] weights at each place for which there is an offset."""
    return 2 * offset[0] * prod(offset[2:]) * prod(weight)


def _by_a_vector(first: Shape, *others: Any, **named: Any) -> int:
    """Flops of a matrix, or a vector, times a vector."""
    return 2 * prod(first)


def _of_a_sum(added: Shape, first: Shape, second: Shape, *others: Any, **named: Any) -> int:
    """Flops of something plus a matrix times a vector, or plus the sum of products [B, N, K] by [B, K, M]."""
    return 2 * prod(first) * (second[-1] if len(second) == 3 else 1)


def _of_distances(first: Shape, second: Shape, *others: Any, **named: Any) -> int:
    """Flops of distances between all [..., N, D] and all [..., M, D]: one multiply-add for each of D differences."""
    return 2 * prod(first) * second[-2]


def _of_three(one: Shape, two: Shape, three: Shape, *given: Any, **named: Any) -> int:
    """Flops of a bilinear layer, a multiply-add for each weight and example; `given` says which dimensions are new."""
    whole = [1] * (len(one) + len(given[0]))
    for shape, new in zip((one, two, three), given[:3], strict=True):
        old = (place for place in range(len(whole)) if place not in new)
        for place, size in zip(old, shape, strict=True):
            whole[place] = max(whole[place], size)
    return 2 * prod(whole)


_ATTENTION = (
    *("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention"),
    *("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention"),
    *("_scaled_dot_product_fused_attention_overrideable", "_scaled_dot_product_attention_math_for_mps"),
)
_FORMULAS = {
    **{getattr(torch.ops.aten, name): _of_attention for name in _ATTENTION},
    torch.ops.aten.mkldnn_rnn_layer: _of_a_recurrent_layer,
    torch.ops.aten._cudnn_rnn: _of_recurrent_layers,
    torch.ops.aten._grouped_mm: _of_groups,
    torch.ops.aten._scaled_grouped_mm: _of_groups,
    torch.ops.aten.mv: _by_a_vector,
    torch.ops.aten.dot: _by_a_vector,
    torch.ops.aten.vdot: _by_a_vector,
    torch.ops.aten.addmv: _of_a_sum,
    torch.ops.aten.addbmm: _of_a_sum,
    torch.ops.aten._cdist_forward: _of_distances,
    torch.ops.aten._trilinear: _of_three,
}
_OF_OTHERS = {
    ("torchvision", "deform_conv2d"): _of_a_deformable_convolution,
    ("transformers", "grouped_mm_fallback"): _of_groups,
}
"""Operations of packages, which are there once these are imported."""


class _OneWhole:
    """In place of what tells modules apart, which asks for gradients that not every model has."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: Any) -> None:
        pass


class MultiplyAdds(FlopCounterMode):
    """A context; `total` is the number of multiply-adds within it so far.

    Without `of_shapes` not of tensors on the meta device, which have a shape alone: so removed sections tell the sizes
    of what they would have computed.

    Within it torch's transformer layers do without their fast path, whose operations nobody counts.
    """

    def __init__(self, of_shapes: bool = True) -> None:
        packages = {(getattr(torch.ops, package), name): formula for (package, name), formula in _OF_OTHERS.items()}
        others = {getattr(there, name): formula for (there, name), formula in packages.items() if hasattr(there, name)}
        super().__init__(display=False, custom_mapping=_FORMULAS | others)
        self.mod_tracker = _OneWhole()
        self._fast_path, self._of_shapes = True, of_shapes

    def __enter__(self) -> Self:
        self._fast_path = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        finally:
            torch.backends.mha.set_fastpath_enabled(self._fast_path)

    def _count_flops(self, operation: Any, out: Any, args: tuple, kwargs: dict) -> Any:
        values = () if self._of_shapes else pytree.tree_leaves((out, args))
        if any(each.is_meta for each in values if isinstance(each, Tensor)):
            return out
        return super()._count_flops(operation, out, args, kwargs)

    @property
    def total(self) -> int:
        return self.get_total_flops() // 2
