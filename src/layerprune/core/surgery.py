"""Taking sections out for good, and folding the linear maps that are left side by side.

Nothing here changes the function: the network with a gate at 0 and the network without the section agree, and so do
the network before and after folding (products are formed in float64).
"""

import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from layerprune.core.folding.linear_maps import (
    acts_on_pictures,
    as_linear,
    constant_of,
    is_linear,
    layers_of,
    shorten,
    without_constant,
)
from layerprune.core.measure import count_macs, count_params, output_shape
from layerprune.core.networks.sections import Section, SectionedNetwork
from layerprune.errors import SettingError


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
    """Take parameters and their state (momentum) out of an optimizer; they lose their gradients, too, which whoever has
    kept a list of all parameters would go on clipping by."""
    identities = {id(parameter) for parameter in gone}
    for group in optimizer.param_groups:
        stays = [id(each) not in identities for each in group["params"]]
        for of_each in ("params", "param_names"):  # the latter of an optimizer made from named_parameters()
            if of_each in group:
                group[of_each][:] = itertools.compress(group[of_each], stays)
    for parameter in gone:
        optimizer.state.pop(parameter, None)
        parameter.grad = None


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
    for section in network.chain:
        section.note_transparency()


def _slots(network: SectionedNetwork) -> list[tuple[nn.Module, str]]:
    """Where the chain's maps live: (owner, attribute), in order."""
    return [(network, "stem"), *((section, "shortcut") for section in network.chain), (network, "head")]


def _is_linear_slot(owner: nn.Module, attribute: str) -> bool:
    if isinstance(owner, Section) and (owner.alive or not isinstance(owner.activation, nn.Identity)):
        return False
    return is_linear(getattr(owner, attribute))


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
    """Fold slots[start:stop] into its first slot, where removals made neighbours of them and it pays."""
    modules = [getattr(*slot) for slot in slots[start:stop]]
    if sum(not isinstance(module, nn.Identity) for module in modules) < 2:
        return
    folded = shorten(nn.Sequential(*modules), _slot_shapes(network)[start], more_parameters=True)
    if folded is None:
        return
    setattr(*slots[start], folded)
    for slot in slots[start + 1 : stop]:
        setattr(*slot, nn.Identity())


def _fold_into_sections(network: SectionedNetwork) -> None:
    """Fold a removed section's shortcut into the alive section before it: into its shortcut and its branch's end."""
    sections = list(network.chain)
    shapes = _slot_shapes(network)
    for index in range(len(sections) - 1, 0, -1):
        before, after = sections[index - 1], sections[index]
        foldable = before.alive and isinstance(before.activation, nn.Identity) and _is_linear_slot(after, "shortcut")
        if not foldable or isinstance(after.shortcut, nn.Identity):
            continue
        if not isinstance(_chain(before.branch)[-1], nn.Linear):
            _fold_picture_into_section(before, after, shapes[index])
        elif count_params(after.shortcut):
            _fold_vector_into_section(before, after, shapes[index])


def _fold_vector_into_section(before: Section, after: Section, shape: tuple[int, ...]) -> None:
    middle, (*rest, end) = output_shape(before.shortcut, shape), _chain(before.branch)
    shortcut = as_linear(nn.Sequential(before.shortcut, after.shortcut), shape)
    last = as_linear(nn.Sequential(end, after.shortcut), (end.in_features,))[-1]
    with torch.no_grad():  # the following map's bias must count once: it stays in the folded shortcut
        last.bias.sub_(constant_of(after.shortcut, middle).to(last.bias))
    old = count_macs(before.shortcut, shape) + end.weight.numel() + count_macs(after.shortcut, middle)
    new = count_macs(shortcut, shape) + last.weight.numel()
    if new <= old:
        before.shortcut, before.branch, after.shortcut = shortcut, nn.Sequential(*rest, last), nn.Identity()


def _fold_picture_into_section(before: Section, after: Section, shape: tuple[int, ...]) -> None:
    """Fold where the branch ends in convolutions, if that saves MACs and adds no parameters."""
    middle = output_shape(before.shortcut, shape)
    if len(middle) != 3 or not acts_on_pictures(after.shortcut, middle):
        return
    rest, end = _linear_end(before.branch)
    inner = output_shape(rest, shape)
    shortcut = nn.Sequential(*layers_of(before.shortcut, after.shortcut))
    # The following map's constant must count once: it stays in the folded shortcut.
    folded_end = shorten(nn.Sequential(*end, *layers_of(without_constant(after.shortcut))), inner)
    if folded_end is None:
        return
    folded_shortcut = shorten(shortcut, shape) or shortcut
    old = _cost((before.shortcut, shape), (end, inner), (after.shortcut, middle))
    new = _cost((folded_shortcut, shape), (folded_end, inner))
    if new[0] < old[0] and new[1] <= old[1]:
        before.shortcut, after.shortcut = folded_shortcut, nn.Identity()
        before.branch = nn.Sequential(*rest, *folded_end)


def _cost(*parts: tuple[nn.Module, tuple[int, ...]]) -> tuple[int, int]:
    """MACs and parameters of modules on inputs of the shapes beside them."""
    return sum(count_macs(*part) for part in parts), sum(count_params(module) for module, _ in parts)


def _chain(branch: nn.Module) -> list[nn.Module]:
    """A branch's parts in order; it may be a layer alone."""
    return list(branch) if isinstance(branch, nn.Sequential) and len(branch) else [branch]


def _linear_end(branch: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """A branch up to its last nonlinear layer, and the linear layers behind it."""
    layers = _chain(branch)
    cut = max((place + 1 for place, layer in enumerate(layers) if not is_linear(layer)), default=0)
    return nn.Sequential(*layers[:cut]), nn.Sequential(*layers[cut:])
