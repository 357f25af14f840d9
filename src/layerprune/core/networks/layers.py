"""Layers as plain data and back: the kinds of layers that a network on disk can be made of.

A description holds a layer's exact kind and those of its options that arch.json has keys for. Whatever else a layer
has, be it the code of a subclass, another option or an attribute of its own, would be lost, and another network would
be read back: such layers are refused.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, device, nn

from layerprune.core.networks.sections import ZeroPadShortcut
from layerprune.errors import LayerpruneError

Spec = dict[str, Any]
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)


class _Kind(NamedTuple):
    layer: type[nn.Module]
    describe: Callable[[Any], Spec]
    """What the description says of a layer beside its type; an option at its default may stay out."""
    build: Callable[[Spec], nn.Module]


def build(spec: Spec) -> nn.Module:
    """The layer that `describe` described. Raises one of Python's or torch's errors for a malformed description."""
    return _KINDS[spec["type"]].build(spec)


def describe(module: nn.Module, place: str) -> Spec:
    """A layer as plain data. Raises LayerpruneError, naming `place`, for a layer that would not come back as it is."""
    found = next((type_ for type_, kind in _KINDS.items() if type(module) is kind.layer), None)
    if found is None:
        raise LayerpruneError(f"{place}: {_kind_of(module)}: this kind of layer cannot be saved (known: {_known()})")
    spec = {"type": found} | _KINDS[found].describe(module)
    if isinstance(module, nn.Sequential):
        spec |= {"layers": [describe(layer, f"{place}.{name}") for name, layer in module._modules.items()]}
    _refuse_losses(module, spec, place)
    return spec


def _kind_of(module: nn.Module) -> str:
    """The layer's class, and the known one that it is derived from, if there is one."""
    base = next((kind.layer for kind in _KINDS.values() if isinstance(module, kind.layer)), None)
    own = type(module).__name__
    return own if base is None else f"{own}, derived from {base.__name__}"


def _known() -> str:
    return ", ".join(kind.layer.__name__ for kind in _KINDS.values())


# --- what would be lost ---------------------------------------------------------------------------------------------


def _refuse_losses(module: nn.Module, spec: Spec, place: str) -> None:
    with device("meta"):  # takes no memory, and draws no random numbers
        again = _options(build(spec | {"layers": [], "names": []}))  # layers of a chain are looked at one by one
    name, given = type(module).__name__, _options(module)
    for option in sorted(given, key=again.__contains__):  # what torch does not know first: it explains the rest
        own = f"{place}: {name} with {option}={repr(given[option])[:80]} cannot be saved"
        if option not in again:
            raise LayerpruneError(f"{own}: this is no option of {name}")
        if given[option] != again[option]:
            raise LayerpruneError(f"{own}, only with {option}={again[option]!r}")


def _options(module: nn.Module) -> Spec:
    """What tells a layer from others of its kind: its public attributes, and which weights and statistics it has."""
    public = {name: _comparable(value) for name, value in vars(module).items() if not name.startswith("_")}
    parts = module._parameters | module._buffers | ({} if isinstance(module, nn.Sequential) else module._modules)
    public |= {name: part is not None for name, part in parts.items()}
    return {name: value for name, value in public.items() if name != "training"}


def _comparable(value: Any) -> Any:
    """A size as torch takes it, one number for as many equal ones; of a tensor, which is no option, that it is one."""
    if isinstance(value, list | tuple) and value and all(isinstance(each, int) for each in value):
        return value[0] if len(set(value)) == 1 else tuple(value)
    return type(value) if isinstance(value, Tensor) else value


def _rare(layer: nn.Module, **defaults: Any) -> Spec:
    """The options that are not at their defaults."""
    found = {name: getattr(layer, name) for name in defaults}
    return {name: _listed(value) for name, value in found.items() if value != defaults[name]}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


# --- the kinds ------------------------------------------------------------------------------------------------------


def _describe_linear(layer: nn.Linear) -> Spec:
    return {"in": layer.in_features, "out": layer.out_features, "bias": layer.bias is not None}


def _linear(spec: Spec) -> nn.Module:
    return nn.Linear(spec["in"], spec["out"], bias=spec["bias"])


def _describe_conv(layer: nn.Conv2d) -> Spec:
    sizes = {"in": layer.in_channels, "out": layer.out_channels, "kernel": list(layer.kernel_size)}
    place = {"stride": list(layer.stride), "padding": _listed(layer.padding)}
    rare = _rare(layer, dilation=(1, 1), groups=1)
    return sizes | place | rare | {"bias": layer.bias is not None}


def _conv(spec: Spec) -> nn.Module:
    sizes = spec["in"], spec["out"], spec["kernel"], spec["stride"], spec["padding"], spec.get("dilation", 1)
    return nn.Conv2d(*sizes, spec.get("groups", 1), bias=spec["bias"])


def _describe_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d) -> Spec:
    return {"channels": layer.num_features, "epsilon": layer.eps, "momentum": layer.momentum}


def _describe_pool(layer: nn.MaxPool2d | nn.AvgPool2d) -> Spec:
    overlapping = {"stride": layer.stride, "padding": layer.padding}
    rare = {} if (layer.stride, layer.padding) == (layer.kernel_size, 0) else overlapping
    if isinstance(layer, nn.MaxPool2d):
        rare |= _rare(layer, dilation=1, ceil_mode=False)
    else:
        rare |= _rare(layer, ceil_mode=False, count_include_pad=True, divisor_override=None)
    return {"kernel": layer.kernel_size} | rare


def _max_pool(spec: Spec) -> nn.Module:
    sizes = spec["kernel"], spec.get("stride"), spec.get("padding", 0), spec.get("dilation", 1)
    return nn.MaxPool2d(*sizes, ceil_mode=spec.get("ceil_mode", False))


def _mean_pool(spec: Spec) -> nn.Module:
    sizes = spec["kernel"], spec.get("stride"), spec.get("padding", 0), spec.get("ceil_mode", False)
    return nn.AvgPool2d(*sizes, spec.get("count_include_pad", True), spec.get("divisor_override"))


def _describe_chain(chain: nn.Sequential) -> Spec:
    """Names of layers, unless they are their numbers; the layers themselves are told one by one."""
    names = list(chain._modules)
    return {} if names == list(map(str, range(len(names)))) else {"names": names}


def _chain(spec: Spec) -> nn.Module:
    layers = [build(each) for each in spec["layers"]]
    names = spec.get("names") or list(map(str, range(len(layers))))
    odd = next((name for name in names if not _NAME.fullmatch(name)), None)
    if odd is not None:
        raise ValueError(f"the layer's name {odd!r} has other characters than letters, digits, _ and -")
    named = dict(zip(names, layers, strict=True))
    if len(named) < len(layers):
        raise ValueError("two layers of one name")
    chain = nn.Sequential()
    for name, layer in named.items():
        chain.add_module(name, layer)
    return chain


def _nothing(layer: nn.Module) -> Spec:
    return {}


_KINDS = {
    "linear": _Kind(nn.Linear, _describe_linear, _linear),
    "conv": _Kind(nn.Conv2d, _describe_conv, _conv),
    "relu": _Kind(nn.ReLU, _nothing, lambda spec: nn.ReLU()),
    "flatten": _Kind(nn.Flatten, _nothing, lambda spec: nn.Flatten()),
    "identity": _Kind(nn.Identity, _nothing, lambda spec: nn.Identity()),
    "batch-norm": _Kind(
        nn.BatchNorm2d,
        _describe_norm,
        lambda spec: nn.BatchNorm2d(spec["channels"], spec["epsilon"], spec["momentum"]),
    ),
    "batch-norm-1d": _Kind(
        nn.BatchNorm1d,
        _describe_norm,
        lambda spec: nn.BatchNorm1d(spec["channels"], spec["epsilon"], spec["momentum"]),
    ),
    "zero-pad-shortcut": _Kind(
        ZeroPadShortcut,
        lambda layer: {"channels": layer.channels, "stride": layer.stride},
        lambda spec: ZeroPadShortcut(spec["channels"], spec["stride"]),
    ),
    "global-mean-pool": _Kind(nn.AdaptiveAvgPool2d, _nothing, lambda spec: nn.AdaptiveAvgPool2d(1)),
    "max-pool": _Kind(nn.MaxPool2d, _describe_pool, _max_pool),
    "mean-pool": _Kind(nn.AvgPool2d, _describe_pool, _mean_pool),
    "chain": _Kind(nn.Sequential, _describe_chain, _chain),
}
