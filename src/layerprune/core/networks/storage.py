"""A network on disk: arch.json describes its layers, weights.safetensors holds its numbers. Nothing is pickled.

arch.json lists every layer with its sizes, so a pruned and folded network can be re-defined without the code that
pruned it.
"""

import io
import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from layerprune.core.networks.sections import Section, SectionedNetwork, ZeroPadShortcut
from layerprune.errors import LayerpruneError
from layerprune.system import files, zips

MOST_NUMBERS = files.LARGEST_WEIGHTS // 4
"""Weights and statistics of a network that is read: those of a file of weights."""
MOST_ACTIVATIONS = MOST_NUMBERS // 4
"""Numbers of a tensor that one image makes on its way: a gigabyte."""
MOST_SECTIONS = 5000
DEEPEST = 20
"""Levels of parts within parts."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)


def _linear(spec: dict) -> nn.Module:
    return nn.Linear(spec["in"], spec["out"], bias=spec["bias"])


def _conv(spec: dict) -> nn.Module:
    sizes = spec["in"], spec["out"], spec["kernel"], spec["stride"], spec["padding"], spec.get("dilation", 1)
    return nn.Conv2d(*sizes, spec.get("groups", 1), bias=spec["bias"])


_BUILDERS: dict[str, Callable[[dict], nn.Module]] = {
    "linear": _linear,
    "conv": _conv,
    "relu": lambda spec: nn.ReLU(),
    "flatten": lambda spec: nn.Flatten(),
    "identity": lambda spec: nn.Identity(),
    "batch-norm": lambda spec: nn.BatchNorm2d(spec["channels"], spec["epsilon"], spec["momentum"]),
    "zero-pad-shortcut": lambda spec: ZeroPadShortcut(spec["channels"], spec["stride"]),
    "global-mean-pool": lambda spec: nn.AdaptiveAvgPool2d(1),
    "max-pool": lambda spec: nn.MaxPool2d(spec["kernel"], spec.get("stride"), spec.get("padding", 0)),
    "mean-pool": lambda spec: nn.AvgPool2d(spec["kernel"]),
    "chain": lambda spec: nn.Sequential(*map(_build, spec["layers"])),
}


def _build(spec: dict) -> nn.Module:
    return _BUILDERS[spec["type"]](spec)


def _describe(module: nn.Module) -> dict[str, Any]:
    match module:
        case nn.Linear():
            sizes = {"in": module.in_features, "out": module.out_features}
            return {"type": "linear", **sizes, "bias": module.bias is not None}
        case nn.Conv2d():
            sizes = {"in": module.in_channels, "out": module.out_channels, "kernel": list(module.kernel_size)}
            place = {"stride": list(module.stride), "padding": list(module.padding)}
            rare = {} if module.dilation == (1, 1) else {"dilation": list(module.dilation)}
            rare |= {} if module.groups == 1 else {"groups": module.groups}
            return {"type": "conv", **sizes, **place, **rare, "bias": module.bias is not None}
        case nn.BatchNorm2d():
            return {
                "type": "batch-norm",
                "channels": module.num_features,
                "epsilon": module.eps,
                "momentum": module.momentum,
            }
        case ZeroPadShortcut():
            return {"type": "zero-pad-shortcut", "channels": module.channels, "stride": module.stride}
        case nn.AdaptiveAvgPool2d(output_size=1):
            return {"type": "global-mean-pool"}
        case nn.MaxPool2d():
            overlapping = {"stride": module.stride, "padding": module.padding}
            rare = {} if (module.stride, module.padding) == (module.kernel_size, 0) else overlapping
            return {"type": "max-pool", "kernel": module.kernel_size, **rare}
        case nn.AvgPool2d():
            return {"type": "mean-pool", "kernel": module.kernel_size}
        case nn.Sequential():
            return {"type": "chain", "layers": [_describe(layer) for layer in module]}
        case nn.ReLU() | nn.Flatten() | nn.Identity():
            return {"type": type(module).__name__.lower()}
    raise LayerpruneError(f"{type(module).__name__}: this kind of layer cannot be saved")


def describe(network: SectionedNetwork) -> dict[str, Any]:
    """The network's make-up as plain data."""
    return {
        "arch": network.arch,
        "input_shape": list(network.input_shape),
        "stem": _describe(network.stem),
        "sections": [_describe_section(section) for section in network.chain],
        "head": _describe(network.head),
    }


def _describe_section(section: Section) -> dict[str, Any]:
    rare = {} if section.removable else {"removable": False}
    if section.activation_if_removed is not None:
        rare["activation_if_removed"] = _describe(section.activation_if_removed)
    return {
        "name": section.name,
        "branch": _describe(section.branch) if section.branch is not None else None,
        "shortcut": _describe(section.shortcut),
        "activation": _describe(section.activation),
    } | rare


def construct(description: dict[str, Any]) -> SectionedNetwork:
    """The network that `describe` described, without its weights."""
    sections = [_construct_section(spec) for spec in description["sections"]]
    ends = _build(description["stem"]), _build(description["head"])
    network = SectionedNetwork(description["arch"], description["input_shape"], ends[0], sections, ends[1])
    told = zip(sections, description["sections"], strict=True)
    network.fix(section for section, spec in told if not spec.get("removable", True))
    return network


def _construct_section(spec: dict[str, Any]) -> Section:
    return Section(
        spec["name"],
        _build(spec["branch"]) if spec["branch"] is not None else None,
        _build(spec["shortcut"]),
        _build(spec["activation"]),
        _build(spec["activation_if_removed"]) if "activation_if_removed" in spec else None,
    )


def save(network: SectionedNetwork, arch_path: Path, weights_path: Path) -> None:
    """Write the description and the weights, each atomically."""
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    content = safetensors.torch.save(weights)
    files.write_atomically(weights_path, lambda stream: stream.write(content))
    files.write_json(arch_path, describe(network))


def load(arch_path: Path, weights_path: Path) -> SectionedNetwork:
    """Read a saved network. Raises LayerpruneError naming the file that is missing, corrupt or does not fit."""
    network = load_without_weights(arch_path)
    load_weights(network, weights_path)
    return network


def load_without_weights(arch_path: Path) -> SectionedNetwork:
    """The network that arch.json describes. Raises LayerpruneError naming the file that is missing or malformed."""
    return described(files.read_json(arch_path), arch_path)


def described(description: Any, source: object) -> SectionedNetwork:
    """The network of a description; `source` names it in errors. Raises LayerpruneError for a malformed one."""
    try:
        _check_names(description)
        with torch.device("meta"):  # takes no memory, however large
            trial = construct(description).eval()
            numbers = sum(each.numel() for each in trial.state_dict().values())
            largest = _largest_map(trial)
        if numbers <= MOST_NUMBERS and largest <= MOST_ACTIVATIONS:
            return _tried(construct(description))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RuntimeError) as error:  # and recursion
        raise LayerpruneError(f"{source}: not a network's description: {repr(error)[:200]}") from None
    much, most = (numbers, MOST_NUMBERS) if numbers > MOST_NUMBERS else (largest, MOST_ACTIVATIONS)
    raise LayerpruneError(f"{source}: a network of {much:,} numbers, more than {most:,}")


def _check_names(description: dict[str, Any]) -> None:
    if len(description["sections"]) > MOST_SECTIONS:
        raise ValueError(f"{len(description['sections']):,} sections")
    names = [description["arch"], *(each["name"] for each in description["sections"])]
    odd = next((name for name in names if not _NAME.fullmatch(name)), None)
    if odd is not None:
        raise ValueError(f"the name {odd!r}")


def _tried(network: SectionedNetwork) -> SectionedNetwork:
    """The network, which computes logits of an image."""
    if max(name.count(".") for name, _ in network.named_modules()) > DEEPEST:
        raise ValueError("nested too deeply")
    with torch.no_grad():
        found = network.eval()(torch.zeros(1, *network.input_shape))
    if found.dim() != 2 or len(found) != 1:
        raise ValueError(f"its output has the shape {list(found.shape)}")
    return network.train()


def _largest_map(network: SectionedNetwork) -> int:
    """Numbers of the largest tensor that one image makes on its way: a bound, or counted where the bound is too large.

    Counting takes a second the first time, which networks of ordinary sizes need not wait for.
    """
    convs = [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.MaxPool2d)]
    channels, *sides = network.input_shape
    widest = max([channels, *(value.shape[0] for value in network.state_dict().values() if value.dim())])
    margin = sum(2 * max(_pair(each.padding)) for each in convs)
    bound = widest * math.prod(side + margin for side in sides)
    return bound if bound <= MOST_ACTIVATIONS else _counted_map(network)


def _pair(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def _counted_map(network: SectionedNetwork) -> int:
    image = torch.zeros(1, *network.input_shape)
    sizes = [image.numel()]
    handles = [
        each.register_forward_hook(lambda module, inputs, output: sizes.append(output.numel()))
        for each in network.modules()
        if not isinstance(each, Section)
    ]
    with torch.no_grad():
        network(image)
    for handle in handles:
        handle.remove()
    return max(sizes)


def load_weights(network: SectionedNetwork, path: Path) -> None:
    """Fill a network with a file of weights. Raises LayerpruneError when they belong to another architecture."""
    state, own = read_weights(path), network.state_dict()
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise LayerpruneError(f"{path}: holds no weights of a network")
    odd = sorted(map(str, set(state) ^ set(own))) or [name for name in own if state[name].shape != own[name].shape]
    if odd:
        raise LayerpruneError(f"{path}: weights of another architecture than {network.arch} (first at '{odd[0]}')")
    network.load_state_dict(state)


def read_weights(path: Path) -> Any:
    """What is in a file of weights on the CPU, by its suffix in the format of safetensors or else of torch."""
    if path.suffix != ".safetensors":
        return read_tensors(path)
    try:
        return safetensors.torch.load(files.read_regular(path, files.LARGEST_WEIGHTS))
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise LayerpruneError(
            f"{path}: corrupt or not a file of weights: {' '.join(str(error).split())[:120]}"
        ) from None


def write_tensors(path: Path, value: Any) -> None:
    """Write tensors and plain data atomically, equal content as equal bytes."""
    content = tensors_as_bytes(value)
    files.write_atomically(path, lambda stream: stream.write(content))


def tensors_as_bytes(value: Any) -> bytes:
    """Tensors and plain data in torch's format."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def read_tensors(path: Path) -> Any:
    """Read what write_tensors wrote, on the CPU, without running pickled code."""
    return tensors_from(files.read_regular(path, files.LARGEST_WEIGHTS), path)


def tensors_from(content: bytes, source: object) -> Any:
    """What tensors_as_bytes packed; `source` names it in errors."""
    try:
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                zips.stored_members(archive, len(content))
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise LayerpruneError(f"{source}: corrupt or not a file of tensors: {reason}") from None
