"""Taking sections out for good, and folding the linear maps that are left side by side.

Nothing here changes the function: the network with a gate at 0 and the network without the section agree, and so do
the network before and after folding (products are formed in float64).
"""

import copy
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from layerprune.errors import SettingError
from layerprune.measure.counting import count_macs, output_shape
from layerprune.models.sections import Section, SectionedNetwork

_LINEAR = (nn.Identity, nn.Flatten, nn.Linear, nn.Conv2d, nn.AvgPool2d)


def remove(network: SectionedNetwork, indices: Iterable[int], optimizer: torch.optim.Optimizer | None = None) -> None:
    """Delete the branches of the sections `indices`; their parameters and state leave the optimizer too."""
    gone: list[nn.Parameter] = []
    for index in indices:
        section = network.sections[index]
        if section.branch is not None:
            gone.extend(section.branch.parameters())
            section.remove_branch()
    if optimizer is not None:
        drop_parameters(optimizer, gone)


def drop_parameters(optimizer: torch.optim.Optimizer, gone: Sequence[nn.Parameter]) -> None:
    """Take parameters and their state (momentum) out of an optimizer."""
    identities = {id(parameter) for parameter in gone}
    for group in optimizer.param_groups:
        group["params"] = [each for each in group["params"] if id(each) not in identities]
    for parameter in gone:
        optimizer.state.pop(parameter, None)


def remove_all_but(network: SectionedNetwork, keep: Sequence[int]) -> None:
    """Delete every section whose entry in `keep` is 0. Raises SettingError when the length is wrong."""
    if len(keep) != len(network.sections):
        raise SettingError(f"keep_list: has {len(keep)} entries, {network.arch} has {len(network.sections)} sections")
    remove(network, [index for index, stays in enumerate(keep) if not stays])


def scale_branch(section: Section, factor: float) -> None:
    """Fold a constant gate into the last weights of a branch."""
    with torch.no_grad():
        for parameter in _last_layer(section.branch).parameters():
            parameter.mul_(factor)


def _last_layer(branch: nn.Module) -> nn.Module:
    layers = [layer for layer in branch.modules() if any(True for _ in layer.parameters(recurse=False))]
    return layers[-1]


# --- folding --------------------------------------------------------------------------------------------------


def fold(network: SectionedNetwork) -> None:
    """Multiply out linear maps that removals made neighbours, wherever that saves MACs; depth falls with them."""
    _fold_runs(network)
    _fold_into_sections(network)


def _slots(network: SectionedNetwork) -> list[tuple[nn.Module, str]]:
    """Where the chain's maps live: (owner, attribute), in order."""
    return [(network, "stem"), *((section, "shortcut") for section in network.chain), (network, "head")]


def _is_linear(module: nn.Module) -> bool:
    leaves = [leaf for leaf in module.modules() if not any(True for _ in leaf.children())]
    return all(isinstance(leaf, _LINEAR) for leaf in leaves)


def _is_linear_slot(owner: nn.Module, attribute: str) -> bool:
    if isinstance(owner, Section) and (owner.alive or not isinstance(owner.activation, nn.Identity)):
        return False
    return _is_linear(getattr(owner, attribute))


def _slot_shapes(network: SectionedNetwork) -> list[tuple[int, ...]]:
    """Input shape of every slot."""
    shapes = [network.input_shape]
    for owner, attribute in _slots(network)[:-1]:
        shapes.append(output_shape(getattr(owner, attribute), shapes[-1]))
    return shapes


def _fold_runs(network: SectionedNetwork) -> None:
    slots = _slots(network)
    linear = [_is_linear_slot(*slot) for slot in slots]
    start = 0
    while start < len(slots):
        stop = start
        while stop < len(slots) and linear[stop]:
            stop += 1
        _fold_run(network, slots, start, stop)
        start = max(stop, start + 1)


def _fold_run(network: SectionedNetwork, slots: list[tuple[nn.Module, str]], start: int, stop: int) -> None:
    """Fold slots[start:stop] into its first slot when at least two of them carry weights and it saves MACs."""
    modules = [getattr(*slot) for slot in slots[start:stop]]
    if sum(_has_weights(module) for module in modules) < 2:
        return
    chain = nn.Sequential(*modules)
    shape = _slot_shapes(network)[start]
    if len(output_shape(chain, shape)) > 1:  # what follows still needs the picture's height and width
        return
    folded = _as_linear(chain, shape)
    if count_macs(folded, shape) > count_macs(chain, shape):
        return
    setattr(*slots[start], folded)
    for slot in slots[start + 1 : stop]:
        setattr(*slot, nn.Identity())


def _fold_into_sections(network: SectionedNetwork) -> None:
    """Fold a removed section's shortcut into the alive section before it: into its shortcut and its last layer."""
    sections = list(network.chain)
    shapes = _slot_shapes(network)
    for index in range(len(sections) - 1, 0, -1):
        before, after = sections[index - 1], sections[index]
        foldable = before.alive and isinstance(before.activation, nn.Identity) and _is_linear_slot(after, "shortcut")
        if foldable and _has_weights(after.shortcut) and isinstance(before.branch[-1], nn.Linear):
            _fold_into_section(before, after, shapes[index])


def _fold_into_section(before: Section, after: Section, shape: tuple[int, ...]) -> None:
    middle = output_shape(before.shortcut, shape)
    shortcut = _as_linear(nn.Sequential(before.shortcut, after.shortcut), shape)
    last = _as_linear(nn.Sequential(before.branch[-1], after.shortcut), (before.branch[-1].in_features,))[-1]
    with torch.no_grad():  # the following map's bias must count once: it stays in the folded shortcut
        last.bias.sub_(_offset(after.shortcut, middle).to(last.bias))
    old = count_macs(before.shortcut, shape) + before.branch[-1].weight.numel() + count_macs(after.shortcut, middle)
    new = count_macs(shortcut, shape) + last.weight.numel()
    if new <= old:
        before.shortcut, before.branch[-1], after.shortcut = shortcut, last, nn.Identity()


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _offset(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    return _apply64(module, torch.zeros(1, *shape)).flatten()


def _apply64(module: nn.Module, x: Tensor) -> Tensor:
    """Run a module in float64 on the CPU without changing it."""
    with torch.no_grad():
        return copy.deepcopy(module).cpu().double()(x.double())


def _as_linear(module: nn.Module, shape: tuple[int, ...]) -> nn.Sequential:
    """A linear module as Flatten + one Linear, by sending the basis of its input space through it."""
    size = math.prod(shape)
    basis = torch.cat([torch.zeros(1, size), torch.eye(size)]).view(size + 1, *shape)
    rows = _apply64(module, basis).flatten(1)
    reference = next(module.parameters())
    folded = nn.Linear(size, rows.shape[1], device=reference.device)
    with torch.no_grad():
        folded.bias.copy_(rows[0])
        folded.weight.copy_((rows[1:] - rows[0]).T)
    return nn.Sequential(nn.Flatten(), folded)
