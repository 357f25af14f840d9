"""Smaller models as weights and a list of what was removed, to be read into a whole model and trained further.

The file is in safetensors' format; its metadata list, as JSON, the modules and weights of the whole model that are
absent, and what replaces them. It holds no code.
"""

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import nn
from torch.utils import _pytree as pytree

from layerprune.errors import LayerpruneError
from layerprune.library.absence import RELU, Gone, HandedOn, PassedOn, Removed, Zeros
from layerprune.library.arguments import require
from layerprune.library.caches import follow
from layerprune.library.find_sections import Granularity, find_sections, unwrapped
from layerprune.library.gates import has_gates
from layerprune.library.passages import Passage
from layerprune.library.places import KINDS, Argument, Parameter
from layerprune.library.removal import hand_on, take_out
from layerprune.library.rewriting import Forward
from layerprune.library.what_goes import Absence
from layerprune.library.whole_layers import follow_config, shorten, take_layers, taken
from layerprune.system import files

_KEY = "layerprune"
_LAYOUTS = ("builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict", None)
"""Trees that are read; of other kinds torch imports what the file names."""


def remove(
    model: nn.Module, names: Sequence[str], example_input: Any, granularity: Granularity = "section"
) -> nn.Module:
    """Remove sections from a model in place, and return it.

    `names` are those that find_sections gives for `example_input`, the arguments of one call, and `granularity`.

    Raises LayerpruneError for an unknown name, and for a section that may not be removed.
    """
    is_list = not isinstance(names, str) and isinstance(names, Iterable)
    require(is_list, "remove", "names are a list of sections' names", names)
    names = list(names)
    sections = find_sections(model, example_input, granularity)
    known = {each.name: each for each in sections}
    for name in names:
        if name not in known:
            raise LayerpruneError(f"remove: the model has no section '{name}'; it has {', '.join(known)}")
        if not known[name].removable:
            raise LayerpruneError(f"remove: section '{name}' cannot be removed: {known[name].reason}")
    Forward(sections).remove([place for place, each in enumerate(sections.removable) if each.name in set(names)])
    shorten(unwrapped(model), example_input)
    return unwrapped(model)


def write(model: nn.Module, path: Path) -> None:
    """Write a model's weights and buffers, and what has gone. Raises LayerpruneError while it is being pruned."""
    require(isinstance(model, nn.Module), "save", "module is the model itself", model)
    if has_gates(model):
        raise LayerpruneError("save: the model is being pruned: save what its pruner exports, or detach() it")
    weights = {name: each.detach().clone().contiguous() for name, each in model.state_dict().items()}
    content = safetensors.torch.save(weights, {_KEY: json.dumps(_gone_from(model))})
    files.write_atomically(path, lambda stream: stream.write(content))


def read_into(model: nn.Module, path: Path) -> nn.Module:
    """Take out of a whole model what a file says has gone, and load the file's weights; the model is returned.

    Raises LayerpruneError, and leaves the model as it was, for a file that is none, or is of another model.
    """
    require(isinstance(model, nn.Module), "load", "into is a whole model, an instance of its class", model)
    try:
        with safetensors.safe_open(path, "pt") as file:
            told = json.loads((file.metadata() or {})[_KEY])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
        absences = [_absence(each) for each in told["modules"]] + [
            Absence((), (_name(name),), False, name in told.get("shaped_weights", ())) for name in told["weights"]
        ]
        blocks = [_passage(each) for each in told["blocks"]]
        lists = _places(told.get("lists", {}))
    except (OSError, LookupError, TypeError, ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise LayerpruneError(f"{path}: not a model that layerprune.save has written: {error!r}") from None
    with ExitStack() as undoing:
        try:
            shortened = take_layers(model, lists)
            undoing.callback(shortened.put_back)
        except LookupError as error:
            raise LayerpruneError(
                f"{path}: belongs to another model than {type(model).__name__} ({error.args[0]})"
            ) from None
        _check(model, weights, absences, blocks, path)
        undoing.pop_all()
    take_out(model, absences)
    hand_on(model, blocks)
    follow(model)
    model.load_state_dict(weights)
    if lists:
        follow_config(model, shortened)
    return model


def _check(
    model: nn.Module, weights: dict[str, Any], absences: Sequence[Absence], blocks: Sequence[Passage], path: Path
) -> None:
    absent = list(_absent(model, absences, blocks))
    gone = [*(name for each in absences for name in each.owned), *(each.path for each in blocks)]
    left = {
        name: each.shape
        for name, each in model.state_dict().items()
        if not any(name == one or name.startswith(f"{one}.") for one in gone)
    }
    shapes = {name: each.shape for name, each in weights.items()}
    odd = absent + sorted(name for name in left.keys() | shapes.keys() if left.get(name) != shapes.get(name))
    if odd:
        raise LayerpruneError(f"{path}: belongs to another model than {type(model).__name__} (first at '{odd[0]}')")


def _absent(model: nn.Module, absences: Sequence[Absence], blocks: Sequence[Passage]) -> Iterator[str]:
    """What is to go, or to be used, and is not there."""
    modules = {name: each for name, each in model.named_modules(remove_duplicate=False) if name}
    own = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    named = [name for each in absences for name in each.weights]
    yield from (name for name in named if name not in dict(own) or named.count(name) > 1)
    yield from (name for each in absences for name, _ in each.modules if name not in modules)
    for each in blocks:
        if each.path not in modules:
            yield each.path
        elif each.activation not in (None, RELU):
            layer = modules.get(f"{each.path}.{each.activation}")
            if layer is None or layer.state_dict():  # an activation has no weights
                yield f"{each.path}.{each.activation}"


# --- as plain data --------------------------------------------------------------------------------------------------


def _gone_from(model: nn.Module) -> dict[str, Any]:
    named = [(name, each) for name, each in model.named_modules() if isinstance(each, Removed)]
    bare = {
        f"{name}.{key}".lstrip("."): value.like is not None
        for name, part in model.named_modules()
        if not isinstance(part, Removed)
        for key, value in vars(part).items()
        if isinstance(value, Gone)
    }
    return {
        "lists": taken(model),
        "modules": [_described(name, each) for name, each in named if not isinstance(each, HandedOn)],
        "blocks": [
            _described(name, each) | {"activation": each.put_through}
            for name, each in named
            if isinstance(each, HandedOn)
        ],
        "weights": list(bare),
        "shaped_weights": [name for name, is_shaped in bare.items() if is_shaped],
    }


def _described(path: str, part: Removed) -> dict[str, Any]:
    leaves, tree = pytree.tree_flatten(part.puts_out)
    try:
        layout = pytree.treespec_dumps(tree)
        _check_layout(json.loads(layout)[1])
    except NotImplementedError:
        kinds = "tuples, lists and dictionaries are"
        raise LayerpruneError(f"save: the output of '{path}' cannot be described: only {kinds}") from None
    except (TypeError, ValueError) as error:
        raise LayerpruneError(f"save: the output of '{path}' cannot be described: {error}") from None
    return {
        "path": path,
        "leaves": [_leaf(each, path) for each in leaves],
        "layout": layout,
        "copied": part.is_copied,
        "shaped": part.is_shaped,
    }


def _leaf(each: Any, path: str) -> Any:
    if isinstance(each, Gone):
        same_as = None if each.same_as is None else _argument(each.same_as, path)
        return {"dimensions": each.dimensions, "same_as": same_as, "other": each.other}
    if isinstance(each, PassedOn):
        return {"input": _argument(each, path)}
    if isinstance(each, Zeros):
        return {"zeros": _argument(each.given, path), "sizes": list(each.sizes)}
    if each is None or isinstance(each, bool | str):
        return each
    raise LayerpruneError(f"save: the output of '{path}' cannot be described: {type(each).__name__}")


def _argument(each: Argument, path: str) -> dict[str, Any]:
    if any(type(step) not in (int, str) for _, step in each.steps):
        warnings.warn(
            f"save: '{path}' hands on what is under a key that is no text or number: after load it is tensor number "
            f"{each + 1} of those that it is called with",
            stacklevel=2,
        )
        return {"number": int(each), "parameter": None, "steps": []}
    parameter = each.parameter and {"name": each.parameter.name, "position": each.parameter.position}
    return {"number": int(each), "parameter": parameter, "steps": [list(step) for step in each.steps]}


def _told_argument(told: Any) -> Argument:
    """Files of before say its number alone."""
    if type(told) is int:
        return Argument(told)
    parameter = told["parameter"]
    steps = tuple((kind, step) for kind, step in told["steps"])
    are_steps = all(kind in KINDS and type(step) in (int, str) for kind, step in steps)
    if type(told["number"]) is not int or not are_steps:
        raise ValueError("an argument that is none")
    return Argument(told["number"], parameter and Parameter(parameter["name"], parameter["position"]), steps)


def _output(told: dict[str, Any]) -> Any:
    def made(each: Any) -> Any:
        if not isinstance(each, dict):
            return each
        if "input" in each:
            return PassedOn.like(_told_argument(each["input"]))
        if "zeros" in each:
            return Zeros.told(_told_argument(each["zeros"]), each["sizes"])
        same_as = None if each["same_as"] is None else _told_argument(each["same_as"])
        return Gone(told["copied"], each["dimensions"], same_as=same_as, other=_other(each))

    _check_layout(json.loads(told["layout"])[1])
    return pytree.tree_unflatten(list(map(made, told["leaves"])), pytree.treespec_loads(told["layout"]))


def _other(told: dict[str, Any]) -> tuple[int, int] | None:
    """The size of an absent value that no input had. Files of before say the last one alone."""
    found = (-1, told["last"]) if told.get("last") is not None else told.get("other")
    if found is None:
        return None
    place, size = found
    if type(place) is not int or type(size) is not int:
        raise ValueError("a size that is no number")
    return place, size


def _places(told: Any) -> dict[str, list[int]]:
    pairs = told.items() if isinstance(told, dict) else [("", None)]
    if not all(isinstance(places, list) and all(type(each) is int for each in places) for _, places in pairs):
        raise ValueError("places of layers that are not lists of numbers")
    return dict(told)


def _name(told: Any) -> str:
    if not isinstance(told, str):
        raise ValueError(f"a name of type {type(told).__name__}")
    return told


def _check_layout(layout: dict[str, Any]) -> None:
    is_leaf = layout["type"] is None
    if layout["type"] not in _LAYOUTS or (is_leaf and (layout["context"] is not None or layout["children_spec"])):
        raise ValueError(f"an output of type {layout['type']}")
    keys = json.loads(layout["context"] or "null")
    if not isinstance(keys, list | None) or any(isinstance(each, list | dict) for each in keys or ()):
        raise ValueError("keys that are no texts or numbers")  # for torch they may name something to import
    for each in layout["children_spec"]:
        _check_layout(each)


def _absence(told: dict[str, Any]) -> Absence:
    return Absence(((_name(told["path"]), _output(told)),), (), told["copied"], told["shaped"])


def _passage(told: dict[str, Any]) -> Passage:
    return Passage(_name(told["path"]), frozenset(), _output(told), told["activation"], told["copied"])
