"""Chains of linear maps on pictures, multiplied out to fewer convolutions.

Batch normalisation (evaluation mode) and mean-pools are convolutions within each channel, and neighbours multiply out
to one convolution wherever the later one has no padding of its own; mean-pools change places with 1x1 convolutions.
They are multiplied where the product has no more MACs in all, and no more parameters than its factors.
All modules here are of float64, on the CPU, in evaluation mode.
"""

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from layerprune.core.measure import count_params

Shape = Sequence[int]


def fold_pictures(layers: list[nn.Module], shape: Shape) -> nn.Sequential | None:
    """The chain with its leading convolutions multiplied out where that pays; None where nothing changes."""
    pictures, rest = split_pictures(layers, shape)
    given = [layer for layer in pictures if not isinstance(layer, nn.Flatten)]
    ordered = _pools_first(_absorb_norms(given))
    factors, pixels = _as_convolutions(ordered, shape)
    groups = _cheapest_groups(ordered, factors, pixels)
    if ordered == given and len(groups) == len(given):  # equal lists hold the very same layers
        return None
    folded = [_multiply(ordered[group], factors[group]) for group in groups]
    if len(given) < len(pictures):
        folded = _flattened(folded)
    return nn.Sequential(*folded, *rest)


def split_pictures(layers: list[nn.Module], shape: Shape) -> tuple[list[nn.Module], list[nn.Module]]:
    """The layers up to the last that is a convolution by nature (Linear: on one pixel), and those behind it."""
    for place, layer in enumerate(layers):
        if len(shape) == 3 and isinstance(layer, nn.Flatten):
            is_picture = shape[1:] == (1, 1)
        elif isinstance(layer, nn.Linear):
            is_picture = place > 0 and len(shape) == 1  # behind a Flatten that was one
        else:
            is_picture = len(shape) == 3 and _is_convolution(layer)
        if not is_picture:
            return layers[:place], layers[place:]
        shape = _shape_behind(layer, shape)
    return layers, []


def _shape_behind(layer: nn.Module, shape: Shape) -> tuple[int, ...]:
    return tuple(layer(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:])


def _is_convolution(layer: nn.Module) -> bool:
    match layer:
        case nn.Conv2d():
            if isinstance(layer.padding, str):
                return False
            sizes = layer.kernel_size, layer.stride, layer.padding, layer.dilation
            square = all(size[0] == size[1] for size in sizes)
            return square and layer.padding_mode == "zeros" and layer.dilation[0] == 1
        case nn.AvgPool2d():
            plain = isinstance(layer.kernel_size, int) and not layer.ceil_mode and layer.divisor_override is None
            return plain and layer.stride == layer.kernel_size and layer.padding == 0
        case nn.BatchNorm2d():
            return layer.affine and layer.track_running_stats
    return False


def _absorb_norms(layers: list[nn.Module]) -> list[nn.Module]:
    """The layers, each batch normalisation behind a convolution multiplied into it."""
    left: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d) and left and isinstance(left[-1], nn.Conv2d):
            left[-1] = _normalised(left[-1], _as_convolution(layer, layer.num_features))
        else:
            left.append(layer)
    return left


def _normalised(layer: nn.Conv2d, norm: nn.Conv2d) -> nn.Conv2d:
    bias = norm.bias if layer.bias is None else norm.bias + norm.weight.flatten() * layer.bias
    return _convolution(layer.weight * norm.weight, bias, layer.stride[0], layer.padding[0], layer.groups)


def _pools_first(layers: list[nn.Module]) -> list[nn.Module]:
    """Mean-pools before the 1x1 maps that they stand behind, which then see fewer pixels: the two commute."""
    ordered: list[nn.Module] = []
    for layer in layers:
        place = len(ordered)
        while isinstance(layer, nn.AvgPool2d) and place and _is_pointwise(ordered[place - 1]):
            place -= 1
        ordered.insert(place, layer)
    return ordered


def _is_pointwise(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and (layer.kernel_size, layer.stride, layer.padding) == ((1, 1), (1, 1), (0, 0))
    return isinstance(layer, nn.BatchNorm2d)


def _as_convolutions(layers: list[nn.Module], shape: Shape) -> tuple[list[nn.Conv2d], list[int]]:
    """Every layer as a convolution, and the pixels before each and behind the last."""
    factors, pixels = [], [math.prod(shape[1:])]
    for layer in layers:
        factors.append(_as_convolution(layer, shape[0]))
        shape = _shape_behind(factors[-1], shape)
        pixels.append(shape[1] * shape[2])
    return factors, pixels


def _as_convolution(layer: nn.Module, channels: int) -> nn.Conv2d:
    match layer:
        case nn.AvgPool2d():
            size = layer.kernel_size
            weight = torch.full((channels, 1, size, size), size**-2, dtype=torch.float64)
            return _convolution(weight, None, stride=size, groups=channels)
        case nn.BatchNorm2d():
            factor = layer.weight / (layer.running_var + layer.eps).sqrt()
            constant = layer.bias - layer.running_mean * factor
            return _convolution(factor.view(-1, 1, 1, 1), constant, groups=channels)
        case nn.Linear():
            return _convolution(layer.weight[:, :, None, None], layer.bias)
    return layer


def _convolution(weight: Tensor, bias: Tensor | None, stride: int = 1, padding: int = 0, groups: int = 1) -> nn.Conv2d:
    """A convolution of float64 with these weights [out, in / groups, height, width] and biases [out]."""
    sizes = weight.shape[1] * groups, weight.shape[0], weight.shape[2], stride, padding
    layer = skip_init(nn.Conv2d, *sizes, groups=groups, bias=bias is not None, dtype=torch.float64)
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)
    return layer


def _cheapest_groups(layers: list[nn.Module], factors: list[nn.Conv2d], pixels: list[int]) -> list[slice]:
    """The neighbours to multiply out: of all partitions the one with the fewest MACs, then with the fewest layers."""
    best: list[tuple[int, int, list[slice]]] = [(0, 0, [])]
    for stop in range(1, len(layers) + 1):
        ways = []
        for start in range(stop):
            macs = _macs_of_product(layers[start:stop], factors[start:stop], pixels[stop])
            if macs is not None:
                ways.append((best[start][0] + macs, best[start][1] + 1, [*best[start][2], slice(start, stop)]))
        best.append(min(ways, key=lambda way: way[:2]))
    return best[-1][2]


def _macs_of_product(layers: list[nn.Module], factors: list[nn.Conv2d], pixels: int) -> int | None:
    """MACs of the layers as one, None where they are not to be one."""
    if all(isinstance(layer, nn.AvgPool2d) for layer in layers):
        return 0
    weighted = any(isinstance(layer, nn.Conv2d | nn.Linear) for layer in layers)
    if len(layers) == 1:
        return pixels * factors[0].weight.numel() if weighted else 0
    # The border that a later padding adds is 0, whatever constant the earlier maps would have put there.
    if not weighted or any(factor.padding[0] for factor in factors[1:]):
        return None
    kernel, stride = 1, 1
    for factor in factors:
        kernel += stride * (factor.kernel_size[0] - 1)
        stride *= factor.stride[0]
    weights = factors[0].in_channels * factors[-1].out_channels * kernel**2
    biases = factors[-1].out_channels if any(factor.bias is not None for factor in factors) else 0
    # A mean-pool behind a convolution saves MACs at the price of a larger kernel: not with more parameters.
    return pixels * weights if weights + biases <= sum(map(count_params, layers)) else None


def _multiply(layers: list[nn.Module], factors: list[nn.Conv2d]) -> nn.Module:
    if all(isinstance(layer, nn.AvgPool2d) for layer in layers):
        return nn.AvgPool2d(math.prod(layer.kernel_size for layer in layers))
    if len(layers) == 1:
        return factors[0] if isinstance(layers[0], nn.Linear) else layers[0]
    return reduce(lambda later, earlier: _product(earlier, later), reversed(factors))


def _product(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """The convolution `second` after `first`: its kernel is the first's, spread by the second's."""
    outer, stride = _dense(second), first.stride[0]
    weight = nn.functional.conv_transpose2d(outer, first.weight, stride=stride, groups=first.groups)
    bias = second.bias
    if first.bias is not None:
        bias = outer.sum((2, 3)) @ first.bias + (0 if bias is None else bias)
    return _convolution(weight, bias, stride * second.stride[0], first.padding[0])


def _dense(layer: nn.Conv2d) -> Tensor:
    """A convolution's weights with the zeros between its groups written out."""
    if layer.groups == 1:
        return layer.weight
    blocks = layer.weight.chunk(layer.groups)
    outs, ins = blocks[0].shape[:2]
    weight = layer.weight.new_zeros(layer.out_channels, layer.in_channels, *layer.kernel_size)
    for place, block in enumerate(blocks):
        weight[place * outs : (place + 1) * outs, place * ins : (place + 1) * ins] = block
    return weight


def _flattened(layers: list[nn.Module]) -> list[nn.Module]:
    """Layers that leave one pixel, and its vector behind them."""
    *before, last = layers
    if not isinstance(last, nn.Conv2d) or not _is_pointwise(last):
        return [*layers, nn.Flatten()]
    sizes, biased = (last.in_channels, last.out_channels), last.bias is not None
    linear = skip_init(nn.Linear, *sizes, bias=biased, dtype=torch.float64)
    linear.weight.copy_(last.weight.flatten(1))
    if biased:
        linear.bias.copy_(last.bias)
    return [*before, nn.Flatten(), linear]
