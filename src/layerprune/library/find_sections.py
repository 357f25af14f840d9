"""Finds a model's residual sections: additions of a branch and a shortcut, which is the identity or a linear map.

The branch of a section is the computation between the fork, where branch and shortcut part, and the addition. It may be
removed if nothing outside needs what it computes and no other layer shares its weights. The model is run, not traced:
in evaluation and in training, with all removable sections closed and without them; these last two must agree.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Literal, get_args

import torch
from torch import nn

from layerprune.errors import LayerpruneError
from layerprune.library import examples, registered_blocks
from layerprune.library.arguments import shown
from layerprune.library.blocks import Block, blocks
from layerprune.library.caches import uncached
from layerprune.library.code_gates import Wrap, gated_function, gated_method, method_of
from layerprune.library.found_sections import FoundSection, FoundSections
from layerprune.library.gates import Gateway, has_gates
from layerprune.library.hooks import is_hooked
from layerprune.library.passages import Passage, passages
from layerprune.library.places import Place
from layerprune.library.plain_layers import blocks_of, runs
from layerprune.library.recording import (
    ModuleCall,
    Node,
    Recording,
    record,
    seeded,
)
from layerprune.library.removal import parameters_of
from layerprune.library.residuals import Residual, residuals
from layerprune.library.trials import told_apart, tried
from layerprune.library.what_goes import Absence, absence_of, is_absent

Granularity = Literal["section", "layer", "any"]


def find_sections(model: nn.Module, example_input: Any, granularity: Granularity = "section") -> FoundSections:
    """The residual sections of any model; the model itself does not change.

    `example_input` is a batch: a tensor [B, ...], a tuple of arguments, or a dictionary of arguments by name. The model
    runs on it a few times. With `granularity` "layer" a block with all its additions is one section (a transformer's
    layer, a block of a stage), removable if its output has the shape of its input. With "any" layers outside of
    residual sections count too: those that keep the shape of their input, which replaces them, and those that are
    concatenated with their input, which zeros replace. Raises LayerpruneError if the model does not accept the example
    or has no section.
    """
    if granularity not in get_args(Granularity):
        raise LayerpruneError(f"find_sections: granularity is 'section', 'layer' or 'any', not {granularity!r}")
    model = unwrapped(model)
    _check(model, example_input)
    with registered_blocks.used(model), uncached(model):
        evaluation = _seen(model, record(model, example_input))
        if not evaluation.parts and granularity != "any":
            raise LayerpruneError(
                f"{type(model).__name__}: no residual section found; looked for additions in which one input reaches "
                "the other by the identity or a linear map (convolution, linear, norm, mean-pool, padding, slicing); "
                "granularity='any' also takes layers that keep the shape of their input"
            )
        other, size = _other(model, example_input, evaluation.parts.keys()), examples.batch_size(example_input)
        evaluation.recording.functions |= other.recording.functions if other else set()
        if granularity == "layer":
            evaluation, other = (each and each.of_blocks(model) for each in (evaluation, other))
        described = {place: _described(model, place, evaluation, other, size) for place in evaluation.parts}

        def around(place: tuple) -> FoundSection:
            return _described(model, place, evaluation, other, size, True)

        _prefer_outer(described, evaluation.parts, around)
        if granularity == "any":
            described = _with_plain_layers(model, described, evaluation, other, size)
        macs = -(-evaluation.recording.macs // size)
        while True:
            described = dict(sorted(described.items(), key=lambda each: each[1].residual.addition.index))
            asked = _outer_blocks(described)
            found = _named(list(asked.values()))
            through = _passages(model, dict(zip(asked, found, strict=True)), [evaluation, other])
            judged = tried(FoundSections(model, evaluation.recording, macs, found, example_input, through))
            for (place, section), one in zip(asked.items(), judged, strict=True):
                if section.removable:
                    described[place] = replace(section, removable=one.removable, reason=one.reason)
            freed = _outer_blocks(described)
            if any(each.removable and not asked[place].removable for place, each in freed.items()):
                continue  # blocks within one that may not go after all
            if granularity == "any" or not _prefer_outer(described, evaluation.parts, around):
                return told_apart(_told_by_turns(judged))


def _check(model: Any, example: Any) -> None:
    """Raises LayerpruneError for what cannot be run."""
    if not isinstance(model, nn.Module):
        raise LayerpruneError(f"find_sections: give an instance of a module, not {_short(model)}")
    name = type(model).__name__
    if torch.is_inference_mode_enabled():
        raise LayerpruneError("find_sections: torch.inference_mode shows no operations: call it outside")
    if not examples.tensors(example):
        raise LayerpruneError(
            "find_sections: the example input is a tensor [B, ...], a tuple of arguments, or a dictionary of arguments "
            f"by name, not {shown(example)}"
        )
    if has_gates(model):
        raise LayerpruneError(f"{name}: is being pruned: find sections in what its pruner exports, or detach() it")
    if isinstance(model, torch.jit.ScriptModule):
        raise LayerpruneError(f"{name}: is TorchScript: find sections in the module it was made from")
    if isinstance(model, torch.fx.GraphModule) and hasattr(model, "validate_inputs"):
        raise LayerpruneError(
            f"{name}: is a program of torch.export, which cannot be pruned: find sections in a module of its class; "
            "layerprune.save('x.safetensors') and load(path, into=model) keep one that was pruned"
        )
    if any(each.is_meta for each in [*model.parameters(), *model.buffers(), *examples.tensors(example)]):
        raise LayerpruneError(f"{name}: is on the meta device, where nothing is computed: load weights first")
    if examples.batch_size(example) == 0:
        raise LayerpruneError(f"{name}: the example input is an empty batch; one input is enough")


def _short(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else repr(value)[:60]


def unwrapped(model: nn.Module) -> nn.Module:
    """The model within torch.compile's and DDP's wrappers."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.parallel.DistributedDataParallel):
            inner = model.module
        if inner is None:
            return model
        model = inner


# --- what is said of a section ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """A recording, and its residual additions by where they stand."""

    recording: Recording
    parts: dict[tuple, Residual]

    def of_blocks(self, model: nn.Module) -> "_Seen":
        """The same, with the residuals of each block as one."""
        return _Seen(self.recording, blocks(model, self.recording, self.parts))

    @property
    def additions(self) -> set[Node]:
        return {part.addition for part in self.parts.values()}


def _seen(model: nn.Module, recording: Recording) -> _Seen:
    parts = [each for each in residuals(recording) if not _is_adapter(model.get_submodule(each.addition.path))]
    return _Seen(recording, {_place(each.addition): each for each in parts})


def _is_adapter(module: nn.Module) -> bool:
    """Whether it is peft's: what it adds to a layer (LoRA) is part of that layer."""
    return type(module).__module__.startswith("peft.")


def _place(node: Node) -> tuple:
    """Where an operation stands: in which module's code, met for which time in one call of it."""
    return node.path, node.site.code, node.site.place, node.site.turn, node.name


def _other(model: nn.Module, example: Any, places: Set[tuple]) -> _Seen | None:
    """Of twice the batch, in training; where the model refuses the example then, in evaluation; None where it takes no
    other batch.

    Where sections are missing in training, it may be that they are left out at random (LayerDrop): of several
    recordings, each with another seed, the one with the most.
    """
    doubled, seen = examples.doubled(example), []
    for each in _trainings(model, doubled):
        seen.append(each)
        if not _may_be_random(seen, places):
            break
    if seen:
        return max(seen, key=lambda each: len(places & each.parts.keys()))
    with suppress(LayerpruneError):
        return _seen(model, record(model, doubled))
    return None


def _trainings(model: nn.Module, example: Any) -> Iterator[_Seen]:
    """Recordings in training, each with another seed; none where the model refuses the example."""
    refused = 0
    for seed in range(_RECORDINGS):
        try:
            with seeded(seed):
                seen = _seen(model, record(model, example, training=True))
        except LayerpruneError:
            refused += 1
            if refused > seed == 2:
                return
        else:
            yield seen


_RECORDINGS = 16


def _told_by_turns(sections: FoundSections) -> FoundSections:
    """Without those that are told from others by their turn in a loop alone, if layers are left out at random."""
    additions = [each.residual.addition for each in sections]
    alike: dict[tuple, set[tuple]] = {}
    for place in (_place(node) for node in additions if node.site is not None):
        alike.setdefault(_anywhere(place), set()).add(place)
    in_code = [each for each in sections.removable if each.gateway.method]
    others = {each.name: alike[_anywhere(_place(each.residual.addition))] for each in in_code}
    turned = {name: places for name, places in others.items() if len(places) > 1}
    if not turned or not _are_left_out(sections, set().union(*turned.values())):
        return sections
    return sections.but(dict.fromkeys(turned, "layers are left out at random, and only its turn tells it from others"))


def _anywhere(place: tuple) -> tuple:
    """A place in the code, whatever the turn."""
    path, code, instruction, _, name = place
    return path, code, instruction, name


def _are_left_out(sections: FoundSections, places: set[tuple]) -> bool:
    """Whether one of several trainings leaves out one of these additions."""
    return any(places - each.parts.keys() for each in _trainings(sections.model, examples.doubled(sections.example)))


def _may_be_random(seen: Sequence[_Seen], places: Set[tuple]) -> bool:
    """Whether another recording may show places that none has shown; not if the first three lack the same."""
    missing = [places - each.parts.keys() for each in seen]
    return all(missing) and not (len(missing) == 3 and missing[0] == missing[1] == missing[2])


def _prefer_outer(
    found: dict[tuple, FoundSection], parts: dict[tuple, Residual], around: Callable[[tuple], FoundSection]
) -> bool:
    """Where sections within a section are less than half of it, the outer one may go instead of them; whether one is.

    `around` describes a section as if there were none within.
    """
    changed = False
    nested = [place for place, section in found.items() if section.reason == _CONTAINS]
    for place in sorted(nested, key=lambda each: len(parts[each].nodes)):
        if _is_within_another(place, found, parts):
            continue
        nodes = set(parts[place].nodes)
        inner = [each for each in found if parts[each].addition in nodes and found[each].removable]
        if 2 * sum(found[each].macs for each in inner) >= found[place].macs:
            continue
        outer = around(place)
        if outer.removable:
            changed, found[place] = True, outer
            kept = {each: f"is within '{outer.name}'" for each in inner}
            found.update({each: replace(found[each], removable=False, reason=why) for each, why in kept.items()})
    return changed


def _is_within_another(place: tuple, found: dict[tuple, FoundSection], parts: dict[tuple, Residual]) -> bool:
    """Whether a section that may go would take this one along."""
    addition = parts[place].addition
    return any(each.removable and other != place and addition in parts[other].nodes for other, each in found.items())


def _outer_blocks(found: dict[tuple, FoundSection]) -> dict[tuple, FoundSection]:
    """Of blocks within blocks that may go, the outer ones alone may."""
    paths = {each.residual.path: each.name for each in found.values() if each.removable and _is_block(each)}

    def told(each: FoundSection) -> FoundSection:
        around = [path for path in paths if _is_block(each) and each.residual.path.startswith(f"{path}.")]
        if not around or not each.removable:
            return each
        return replace(each, removable=False, reason=f"is within '{paths[min(around, key=len)]}'")

    return {place: told(each) for place, each in found.items()}


def _is_block(section: FoundSection) -> bool:
    return isinstance(section.residual, Block)


def _with_plain_layers(
    model: nn.Module, residual: dict[tuple, FoundSection], evaluation: _Seen, other: _Seen | None, size: int
) -> dict[tuple, FoundSection]:
    """Residual sections, and layers without a sum that may go outside of those that may.

    Raises LayerpruneError if there are neither.
    """
    spared = [each.residual for each in residual.values() if each.removable]
    taken = {node for part in spared for node in (*part.exclusive, part.addition)}
    found = runs(evaluation.recording)
    seen, twice = (each and _Seen(each.recording, blocks_of(each.recording, found)) for each in (evaluation, other))
    free = [place for place, part in seen.parts.items() if taken.isdisjoint(part.inside)]
    sections = {place: _described(model, place, seen, twice, size) for place in free}
    chosen = _outer_or_inner({place: each for place, each in sections.items() if each.removable})
    if not chosen and not residual:
        reason = next((f": {each.name}: {each.reason}" for each in sections.values()), "")
        raise LayerpruneError(
            f"{type(model).__name__}: no section found: no sum with a shortcut, and no removable layer that keeps the "
            f"shape of its input or is concatenated with it{reason}"
        )
    within = {node for each in chosen.values() for node in each.residual.inside}
    return {place: each for place, each in residual.items() if not within.issuperset(_computed_in(each))} | chosen


def _computed_in(section: FoundSection) -> Sequence[Node]:
    """What its layers compute, or all where it has none."""
    nodes = section.residual.nodes
    return [node for node in nodes if node.leaf is not None] or nodes


def _outer_or_inner(found: dict[tuple, FoundSection]) -> dict[tuple, FoundSection]:
    """Of layers within layers the inner ones, unless they are less than half of the outer one, or one is all of it."""
    chosen: dict[tuple, FoundSection] = {}
    inner_first = sorted(reversed(found.items()), key=lambda each: _extent(each[1].residual))
    for place, section in inner_first:
        nodes = set(section.residual.inside)
        inner = [each for each in chosen if not nodes.isdisjoint(chosen[each].residual.inside)]
        macs = sum(chosen[each].macs for each in inner)
        is_same = len(inner) == 1 and macs == section.macs
        if all(nodes.issuperset(chosen[each].residual.inside) for each in inner) and (
            is_same or 2 * macs < section.macs or not inner
        ):
            chosen = {each: one for each, one in chosen.items() if each not in inner} | {place: section}
    return chosen


def _extent(part: Block) -> tuple:
    return len(part.inside), part.vanishes, -len(part.paths)


def _described(
    model: nn.Module, place: tuple, evaluation: _Seen, other: _Seen | None, size: int, around: bool = False
) -> FoundSection:
    """A section; `around` others, if there are any within, or not to be removed then."""
    part = evaluation.parts[place]
    seen = [each for each in (evaluation, other) if each is not None and place in each.parts]
    pairs = [(each.recording, each.parts[place]) for each in seen]
    absence = absence_of(model, pairs)
    gateway, reason = None, ""
    for each in seen:
        reason = reason or _why_not(model, each, place, absence, around)
    if not reason and len({each.parts[place].is_part for each in seen}) > 1:
        reason = "part of what it computes is used elsewhere in training"
    if not reason and other is not None and place not in other.parts:
        reason = "it is not computed, or otherwise, in training"
    if not reason:
        try:
            gateway = _gateway(model, pairs, size)
        except LookupError as error:
            reason = str(error.args[0])
    return FoundSection(
        name=_name_of(part),
        shape=part.addition.shape[1:],
        macs=-(-part.macs // size),
        params=sum(each.numel() for each in _parameters(model, part, absence)),
        removable=not reason,
        reason=reason,
        residual=part,
        absence=absence,
        gateway=gateway,
    )


def _name_of(part: Residual) -> str:
    if isinstance(part, Block):
        return _common_path(part.paths) if part.vanishes else part.paths[0]
    paths = list(dict.fromkeys(node.leaf for node in part.nodes if node.leaf is not None)) or part.weights
    return _common_path(paths) or part.addition.name


def _parameters(model: nn.Module, part: Residual, absence: Absence) -> list[nn.Parameter]:
    names = [each.name for node in part.nodes for each in node.inputs if each.kind == "weight"]
    return parameters_of(model, [*absence.owned, *part.weights, *names])


_CONTAINS = "contains other sections"


def _why_not(model: nn.Module, seen: _Seen, place: tuple, absence: Absence, around: bool) -> str:
    """Why a section may not go by one recording; empty where it may."""
    recording, part = seen.recording, seen.parts[place]
    inside = {*part.computed, part.addition}
    whole = isinstance(part, Block)
    calls = len(recording.calls_of(part.path)) if whole else 1
    if calls != 1:
        return f"'{part.path}' is used more than once" if calls else f"'{part.path}' is not called, but its parts are"
    if whole and part.puts_out is None:
        return "does not put out what has the shape of its input"
    for node in part.computed:
        for user in node.users:
            if user not in inside and user not in recording.leading_nowhere:
                return f"what '{node.label}' computes is used by '{user.label}' too"
        if node in recording.returned:
            return f"what '{node.label}' computes is put out too"
        if node in recording.kept:
            return f"what '{node.label}' computes is kept in '{recording.kept[node]}'"
    for weight in _weights(part):
        for user in weight.users:
            if user not in part.exclusive and user not in recording.leading_nowhere and user.leaf is None:
                return f"'{weight.name}' is used by '{user.label}' too"
    repeated = _used_again(model, recording, part)
    if repeated:
        return f"'{repeated}' is used more than once"
    shared = _shared(model, part)
    if shared:
        return f"shares weights with '{shared}'"
    hooked = [path for path, _ in absence.modules for name in [_hooked(model, path)] if name]
    if hooked:
        return f"'{_hooked(model, hooked[0])}' has hooks"
    if not whole and seen.additions & set(part.nodes) and not around:
        return _CONTAINS
    if not whole and not is_absent(recording, part, absence):
        return "what it computes cannot be told apart from what else its modules compute"
    return ""


def _used_again(model: nn.Module, recording: Recording, part: Residual) -> str | None:
    """A layer with weights that is called elsewhere too, or twice."""
    inside = {node.inside[-1] for node in part.inside if node.leaf is not None} if isinstance(part, Block) else ()
    for node in part.nodes:
        calls = recording.calls_of(node.leaf) if node.leaf is not None else []
        if sum(each.number not in inside for each in calls) > (not inside):
            layer = model.get_submodule(node.leaf)
            if len(layer.state_dict()) > 0:
                return node.leaf
    return None


def _shared(model: nn.Module, part: Residual) -> str | None:
    """A name outside the section of a weight inside; not one of a module inside that has two names."""
    own = {id(each) for each in parameters_of(model, [node.name for node in _weights(part)])}
    used = {node.leaf for node in part.nodes if node.leaf is not None} | set(part.weights)
    used |= set(part.paths) if isinstance(part, Block) else set()
    others = [
        name
        for name, each in model.named_parameters(remove_duplicate=False)
        if id(each) in own and not any(name == path or name.startswith(f"{path}.") for path in used)
    ]
    if not others:
        return None
    modules = dict(model.named_modules())
    inside = {id(module) for path in used if path in modules for module in modules[path].modules()}
    others = [name for name in others if id(model.get_submodule(name.rpartition(".")[0])) not in inside]
    return others[-1] if others else None


def _weights(part: Residual) -> list[Node]:
    """The section's own, without those that no layer applies and others use too: these stay."""
    applied = {each for node in part.nodes if node.leaf is not None for each in node.inputs}
    return [each for each in {*applied, *part.exclusive} if each.kind == "weight"]


def _hooked(model: nn.Module, path: str) -> str | None:
    return next((name for name, each in model.get_submodule(path).named_modules(prefix=path) if is_hooked(each)), None)


def _common_path(modules: Sequence[str]) -> str:
    """The path that all have in common, at least without the last name of a single one's."""
    paths = [name.split(".") for name in modules]
    common = []
    for names in zip(*paths, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return ".".join(common)


def _named(found: Sequence[FoundSection]) -> list[FoundSection]:
    """The sections with names of their own: a second one at the same path has a number behind it."""
    seen: dict[str, int] = {}
    named = []
    for section in found:
        seen[section.name] = seen.get(section.name, 0) + 1
        count = seen[section.name]
        named.append(section if count == 1 else replace(section, name=f"{section.name}:{count}"))
    return named


def _passages(model: nn.Module, found: dict[tuple, FoundSection], seen: Sequence[_Seen | None]) -> tuple[Passage, ...]:
    loose = {place: section for place, section in found.items() if not isinstance(section.residual, Block)}
    removable = {place: section for place, section in loose.items() if section.removable}
    pairs = [
        (each.recording, {section.name: each.parts[place] for place, section in removable.items()})
        for each in seen
        if each is not None
    ]
    return passages(model, pairs, {section.name: section.absence for section in removable.values()})


# --- where it is gated ------------------------------------------------------------------------------------------


def _gateway(model: nn.Module, pairs: Sequence[tuple[Recording, Residual]], size: int) -> Gateway:
    """Raises LookupError, which says why, where the branch cannot be gated."""
    batch, spread = _batch_dimension([part.addition.shape for _, part in pairs], size)
    if spread and any(_is_packed(*pair) for pair in pairs):
        raise LookupError("how many rows it has of an example depends on what is in the example")
    block = pairs[0][1]
    if isinstance(block, Block):
        if any((part.given, part.leaf) != (block.given, block.leaf) for _, part in pairs):
            raise LookupError("its inputs or outputs differ in training")
        handed = {} if block.vanishes else {"given": block.given, "start": block.paths[0] if block.before else None}
        scripted = [path for path in (block.path, handed.get("start")) if path is not None and _is_script(model, path)]
        if scripted:
            raise LookupError(f"'{scripted[0]}' is TorchScript, which takes no hooks")
        return Gateway(block.path, batch, leaf=_joined(part.leaf for _, part in pairs), spread=spread, **handed)
    ends = [_module_at_the_end(*pair) for pair in pairs]
    first = ends[0]
    alike = first is not None and all(each is not None and _spot(each) == _spot(first) for each in ends)
    if alike and not _is_script(model, first[0].path):
        return Gateway(first[0].path, batch, leaf=_joined(place for _, place in ends), spread=spread)
    wrap, turn = _wrap(*pairs[0])
    node = pairs[0][1].addition
    module = model.get_submodule(node.path)
    method = method_of(module, wrap.site.code)
    if method is None and wrap.site.caller is not None and wrap.element is None:
        method = method_of(module, wrap.site.caller[0])
        wrap, turn = replace(wrap, in_function=True), _turn_of_call(*pairs[0])
    if method is None:
        raise LookupError(f"its addition is in '{wrap.site.code.co_name}', which is not a method of a module")
    gated_method(module, method, [(0, wrap)])
    if wrap.in_function:
        gated_function(wrap)
    return Gateway(node.path, batch, method=method, wrap=wrap, turn=turn, spread=spread)


def _is_script(model: nn.Module, path: str) -> bool:
    return isinstance(model.get_submodule(path), torch.jit.ScriptModule)


def _batch_dimension(shapes: Sequence[tuple[int, ...]], size: int) -> tuple[int, bool]:
    """The one that doubles with the batch, and whether it holds several values of each example."""
    if len(shapes) == 1:
        return 0, False
    first, second = shapes
    found = [place for place, (one, other) in enumerate(zip(first, second, strict=True)) if one != other]
    if len(found) != 1 or first[found[0]] % size or second[found[0]] != 2 * first[found[0]]:
        raise LookupError("what it adds has no batch dimension")
    return found[0], first[found[0]] != size


def _is_packed(recording: Recording, part: Residual) -> bool:
    """Whether which rows a branch gets depends on what is in them, as where padding is left out."""
    varying = recording.varying
    if not varying.isdisjoint(recording.read):
        return True
    asked, seen = [part.fork], set()
    while asked:
        each = asked.pop()
        if each.chooses and not varying.isdisjoint(each.inputs[-1:] if each.name == "__getitem__" else each.inputs):
            return True
        # What is put into a whole tensor has as many rows as that, and a number has none.
        before = [one for one in (each.inputs[:1] if each.name in _PUTTING else each.inputs) if one.shape]
        asked += [one for one in before if one not in seen]
        seen.update(before)
    return False


_PUTTING = ("index_add", "index_add_", "index_copy", "index_copy_", "index_put", "index_put_", "masked_scatter")
_PUTTING += ("masked_scatter_", "scatter", "scatter_", "scatter_add", "scatter_add_", "scatter_reduce", "__setitem__")


def _module_at_the_end(recording: Recording, part: Residual) -> tuple[ModuleCall, Place] | None:
    """The last module that returned what is added, called once, and the place in its output."""
    added = part.addition.operand_ids[part.addition.operands.index(part.added)]
    found = [
        (each, each.places[number])
        for each in recording.calls
        if each.end <= part.addition.index and each.number not in part.addition.inside
        for number, leaf in enumerate(each.outputs)
        if isinstance(leaf, tuple) and leaf == (part.added, added)
    ]
    if not found:
        return None
    last = max(found, key=lambda each: each[0].order)
    return last if len(recording.calls_of(last[0].path)) == 1 and last[0].path else None


def _spot(end: tuple[ModuleCall, Place]) -> tuple[str, Place]:
    return end[0].path, end[1]


def _joined(places: Iterable[Place]) -> Place:
    return reduce(Place.joined, places)


def _wrap(recording: Recording, part: Residual) -> tuple[Wrap, int]:
    """The operand in the code, and how often the code came by before in this call of the module."""
    node = part.addition
    operand = node.operands.index(part.added)
    before = [each for each in recording.nodes[: node.index] if _is_of_same_code(each, node)]
    starts = [place for place, each in enumerate(before) if None in each.operands[:2]]
    if not starts:  # no sum() of a list, which starts with 0 + the first
        return Wrap(node.site, operand), node.site.turn
    since = len(before) - starts[-1]
    return Wrap(node.site, operand, since if operand == 1 else 0), len(starts) - 1


def _turn_of_call(recording: Recording, part: Residual) -> int:
    """How often the function that adds was called from there before in this call of the module."""
    node = part.addition
    before = [each for each in recording.nodes[: node.index] if _is_of_same_code(each, node)]
    return sum(each.site.caller == node.site.caller for each in before)


def _is_of_same_code(one: Node, other: Node) -> bool:
    """Whether both are operations of one instruction, in one call of a module."""
    if one.site is None or one.inside != other.inside:
        return False
    return one.site.code is other.site.code and one.site.place == other.site.place
