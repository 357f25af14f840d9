"""A network on disk: arch.json describes its layers, weights.safetensors holds its numbers. Nothing is pickled.

arch.json lists every layer with its sizes, so a pruned and folded network can be re-defined without the code that
pruned it.
"""

import io
import json
import math
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from layerprune.core.measure import evaluating
from layerprune.core.networks import layers
from layerprune.core.networks.sections import Section, SectionedNetwork
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
_MALFORMED = (KeyError, TypeError, ValueError, OverflowError, AttributeError, RuntimeError)  # and recursion


def describe(network: SectionedNetwork) -> dict[str, Any]:
    """The network's make-up as plain data.

    Raises LayerpruneError, naming layer and place, for a network with parts that would not come back as they are.
    """
    try:
        _refuse_subclass(network, SectionedNetwork, "the network")
        return {
            "arch": network.arch,
            "input_shape": list(network.input_shape),
            "stem": layers.describe(network.stem, "stem"),
            "sections": [_describe_section(section) for section in network.chain],
            "head": layers.describe(network.head, "head"),
        }
    except LayerpruneError as error:
        raise LayerpruneError(f"{network.arch}: {error}") from None


def _refuse_subclass(module: nn.Module, known: type[nn.Module], place: str) -> None:
    if type(module) is not known:
        own = f"{type(module).__name__}, derived from {known.__name__}"
        raise LayerpruneError(f"{place}: {own}: code of one's own cannot be saved, only a plain {known.__name__}")


def _describe_section(section: Section) -> dict[str, Any]:
    place = f"section {section.name!r}"
    _refuse_subclass(section, Section, place)
    rare = {} if section.removable else {"removable": False}
    if section.activation_if_removed is not None:
        later = f"{place}: activation_if_removed"
        rare["activation_if_removed"] = layers.describe(section.activation_if_removed, later)
    return {
        "name": section.name,
        "branch": layers.describe(section.branch, f"{place}: branch") if section.branch is not None else None,
        "shortcut": layers.describe(section.shortcut, f"{place}: shortcut"),
        "activation": layers.describe(section.activation, f"{place}: activation"),
    } | rare


def construct(description: dict[str, Any]) -> SectionedNetwork:
    """The network that `describe` described, without its weights."""
    sections = [_construct_section(spec) for spec in description["sections"]]
    ends = layers.build(description["stem"]), layers.build(description["head"])
    network = SectionedNetwork(description["arch"], description["input_shape"], ends[0], sections, ends[1])
    told = zip(sections, description["sections"], strict=True)
    network.fix(section for section, spec in told if not spec.get("removable", True))
    return network


def _construct_section(spec: dict[str, Any]) -> Section:
    return Section(
        spec["name"],
        layers.build(spec["branch"]) if spec["branch"] is not None else None,
        layers.build(spec["shortcut"]),
        layers.build(spec["activation"]),
        layers.build(spec["activation_if_removed"]) if "activation_if_removed" in spec else None,
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
        _without_memory(description, source)
        return _tried(construct(description))
    except _MALFORMED as error:
        raise LayerpruneError(f"{source}: not a network's description: {repr(error)[:200]}") from None


def _without_memory(description: Any, source: object) -> SectionedNetwork:
    """The network on the device meta, in evaluation mode, if its names, depth and sizes are as they should be."""
    _check_names(description)
    with torch.device("meta"):
        trial = construct(description).eval()
        numbers = sum(each.numel() for each in trial.state_dict().values())
        largest = _largest_map(trial)
    if max(name.count(".") for name, _ in trial.named_modules()) > DEEPEST:
        raise ValueError("nested too deeply")
    if numbers <= MOST_NUMBERS and largest <= MOST_ACTIVATIONS:
        return trial
    much, most = (numbers, MOST_NUMBERS) if numbers > MOST_NUMBERS else (largest, MOST_ACTIVATIONS)
    raise LayerpruneError(f"{source}: a network of {much:,} numbers, more than {most:,}")


def _check_names(description: dict[str, Any]) -> None:
    if len(description["sections"]) > MOST_SECTIONS:
        raise ValueError(f"{len(description['sections']):,} sections")
    names = [description["arch"], *(each["name"] for each in description["sections"])]
    odd = next((name for name in names if not _NAME.fullmatch(name)), None)
    if odd is not None:
        raise ValueError(f"the name {odd!r} has other characters than letters, digits, _, . and -, or too many")


def _tried(network: SectionedNetwork) -> SectionedNetwork:
    """The network, which computes logits of an image."""
    _logits(network.eval(), torch.zeros(1, *network.input_shape))
    return network.train()


@torch.no_grad()
def _logits(network: SectionedNetwork, image: torch.Tensor) -> torch.Tensor:
    """The logits [1, classes] of an image. Raises ValueError for an output of another shape."""
    found = network(image)
    if found.dim() != 2 or len(found) != 1:
        raise ValueError(f"its output has the shape {list(found.shape)}")
    return found


def _largest_map(network: SectionedNetwork) -> int:
    """Numbers of the largest tensor that one image makes on its way: a bound, or counted where the bound is too large.

    Counting takes a second the first time, which networks of ordinary sizes need not wait for.
    """
    padded = [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)]
    channels, *sides = network.input_shape
    widest = max([channels, *(value.shape[0] for value in network.state_dict().values() if value.dim())])
    margin = sum(2 * max(_pair(each.padding)) for each in padded if not isinstance(each.padding, str))
    bound = widest * math.prod(side + margin for side in sides)
    return bound if bound <= MOST_ACTIVATIONS else _counted_map(network)


def _pair(value: Any) -> tuple:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


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


# --- before a training ----------------------------------------------------------------------------------------------


def check_can_be_saved(network: SectionedNetwork) -> None:
    """Build a network on the CPU again from its description and weights, and compare: cheap, before it is trained.

    Raises LayerpruneError, naming the architecture, if it cannot be saved or would come back as another network.
    """
    description = describe(network)
    try:
        _check_whole(network)
        _check_equal(network, _without_memory(json.loads(json.dumps(description)), network.arch))
    except _MALFORMED as error:
        raise LayerpruneError(f"{network.arch}: this network cannot be saved: {error}") from None


def _check_whole(network: SectionedNetwork) -> None:
    """Raises ValueError for sections of one name, and for shared weights: a file has each by itself, untied."""
    names = Counter(section.name for section in network.chain)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"two sections have the name {twice!r}")
    places: dict[int, str] = {}
    for name, value in network.state_dict().items():
        first = places.setdefault(value.untyped_storage().data_ptr(), name) if value.numel() else name
        if first != name:
            raise ValueError(f"{first} and {name} share their numbers")


def _check_equal(network: SectionedNetwork, again: SectionedNetwork) -> None:
    """Raises ValueError if the weights do not fit or the logits of an image differ."""
    state = network.state_dict()
    odd = _misfit(state, again.state_dict())
    if odd is not None:
        raise ValueError(f"the weights {odd} belong to none of its layers")
    again.load_state_dict(state, assign=True)  # with its memory
    image = torch.randn(1, *network.input_shape, generator=torch.Generator().manual_seed(0))
    with evaluating(network, again):
        alike = torch.allclose(_logits(again, image), _logits(network, image), rtol=1e-4, atol=1e-4, equal_nan=True)
    if not alike:
        raise ValueError("built again from its layers and weights, it computes other logits (has it hooks?)")


def _misfit(state: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> str | None:
    """The first name of weights that only one has, or that have another shape in the other; None if all fit."""
    odd = sorted(map(str, set(state) ^ set(own)))
    return next(iter(odd or [name for name in own if state[name].shape != own[name].shape]), None)


def load_weights(network: SectionedNetwork, path: Path) -> None:
    """Fill a network with a file of weights. Raises LayerpruneError when they belong to another architecture."""
    state, own = read_weights(path), network.state_dict()
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise LayerpruneError(f"{path}: holds no weights of a network")
    odd = _misfit(state, own)
    if odd is not None:
        raise LayerpruneError(f"{path}: weights of another architecture than {network.arch} (first at '{odd}')")
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
