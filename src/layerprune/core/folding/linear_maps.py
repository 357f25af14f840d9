"""Chains of linear maps as shorter ones that do the same: see `convolutions`, and one linear layer for a whole chain.

Products are formed in float64 and come back in the chain's own precision.
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from layerprune.core.folding.convolutions import fold_pictures, split_pictures
from layerprune.core.measure import count_macs, count_params, output_shape

_LINEAR = (nn.Identity, nn.Flatten, nn.Linear, nn.Conv2d, nn.AvgPool2d, nn.BatchNorm2d)

Shape = Sequence[int]


def layers_of(*modules: nn.Module) -> list[nn.Module]:
    """The modules' layers in order, without identities; nested chains are unrolled."""
    found: list[nn.Module] = []
    for module in modules:
        if isinstance(module, nn.Sequential):
            found += layers_of(*module)
        elif not isinstance(module, nn.Identity):
            found.append(module)
    return found


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear map (plus a constant) of kinds that are known here."""
    return all(isinstance(layer, _LINEAR) for layer in layers_of(module))


@torch.no_grad()
def acts_on_pictures(module: nn.Module, shape: Shape) -> bool:
    """Whether a linear module does to inputs of `shape` what convolutions do, flattened at one pixel or not at all."""
    return not split_pictures(layers_of(_exact(module)), shape)[1]


@torch.no_grad()
def constant_of(module: nn.Module, shape: Shape) -> Tensor:
    """What a linear module makes of 0, flattened, in float64."""
    return _exact(module)(torch.zeros(1, *shape, dtype=torch.float64)).flatten()


def without_constant(module: nn.Module) -> nn.Module:
    """A linear module's copy that maps 0 to 0."""
    module = copy.deepcopy(module)
    with torch.no_grad():
        for layer in module.modules():
            for constant in (getattr(layer, "bias", None), getattr(layer, "running_mean", None)):
                if constant is not None:
                    constant.zero_()
    return module


@torch.no_grad()
def shorten(chain: nn.Sequential, shape: Shape, more_parameters: bool = False) -> nn.Sequential | None:
    """The chain of the fewest MACs with the same outputs on inputs of `shape`; None where that is the given one.

    One linear layer for all of it may have more parameters than the chain only where `more_parameters` says so.
    """
    exact = _exact(chain)
    best = fold_pictures(layers_of(exact), shape)
    macs = count_macs(chain if best is None else _like(copy.deepcopy(best), chain), shape)
    inputs, outputs = math.prod(shape), output_shape(chain, shape)
    if len(outputs) == 1 and _count_weight_layers(chain) > 1 and inputs * outputs[0] <= macs:
        linear = _as_linear(exact if best is None else best, shape)
        if more_parameters or count_params(linear) <= count_params(chain):
            best = linear
    return _like(best, chain) if best is not None else None


def _count_weight_layers(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.Linear | nn.Conv2d) for layer in layers_of(module))


def as_linear(chain: nn.Sequential, shape: Shape) -> nn.Sequential:
    """A linear chain that ends in a vector, as Flatten + one Linear."""
    return _like(_as_linear(_exact(chain), shape), chain)


def _exact(module: nn.Module) -> nn.Module:
    """A copy to calculate with: of float64, on the CPU, in evaluation mode."""
    return copy.deepcopy(module).cpu().double().eval()


def _like(exact: nn.Sequential, original: nn.Module) -> nn.Sequential:
    """A product on its way back: the original's precision, device and mode."""
    reference = next(original.parameters(), None)
    target = exact.to(reference) if reference is not None else exact.float()
    return target.train(original.training)


@torch.no_grad()
def _as_linear(exact: nn.Module, shape: Shape) -> nn.Sequential:
    """Flatten + one Linear: its weights are the gradients of the outputs of a module of float64."""
    constant = exact(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
    with torch.enable_grad():
        x = torch.zeros(len(constant), *shape, dtype=torch.float64, requires_grad=True)
        (weight,) = torch.autograd.grad(exact(x).flatten(1).diagonal().sum(), x)
    folded = skip_init(nn.Linear, math.prod(shape), len(constant), dtype=torch.float64)
    folded.weight.copy_(weight.flatten(1))
    folded.bias.copy_(constant)
    return nn.Sequential(nn.Flatten(), folded)
