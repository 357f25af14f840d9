"""Takes layers that were removed whole out of a Transformers model's lists, and updates its configuration.

Then `save_pretrained` and `from_pretrained` write and read the smaller model without this package. It is done only
where the model's class, made from the new configuration, has the same weights and computes the same of an example;
otherwise each layer is replaced by a block that passes its input through.
"""

import copy
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from layerprune.core.measure import evaluating
from layerprune.library import examples
from layerprune.library.absence import Gone, HandedOn, Removed
from layerprune.library.caches import NUMBERS, follow
from layerprune.library.recording import tensors_of, undisturbed

_PLACES = "_layerprune_places"
_MOST = 64
"""Configurations that are tried."""
_FOLLOWING = ("config", *NUMBERS)
"""Attributes that depend on how many layers there are."""
_FIRST = ("max_window_layers", "first_k_dense_replace")
"""Settings that hold how many of the first layers are of another kind."""
_NUMBERS = ("mlp_only_layers", "cross_attention_layers")
"""Settings that list layers by their numbers."""

Places = Mapping[str, Sequence[int]]
"""Of the layers that are left, by the paths of their lists, outer lists first."""


def shorten(model: nn.Module, example: Any = None) -> None:
    """Take layers that only hand on out of the lists of a Transformers model, if `from_pretrained` can follow.

    Without an example only the weights' names and shapes are compared.
    """
    if not _is_of_transformers(model):
        return
    left = {path: _left(each) for path, each in model.named_modules() if isinstance(each, nn.ModuleList)}
    left = {path: places for path, places in left.items() if places is not None}
    if not left:
        return
    before = _outputs(model, example)
    lists = take_layers(model, left)
    if not follow_config(model, lists, example, before):
        lists.put_back()
        warnings.warn(
            f"{type(model).__name__}: its configuration cannot express which layers were removed, so from_pretrained "
            "would build another model: use layerprune.save, and layerprune.load(path, into=model)",
            stacklevel=3,
        )


def follow_config(model: nn.Module, lists: "Taken", example: Any = None, expected: Sequence[Tensor] = ()) -> bool:
    """Let configuration and caches follow the layers that a model has left; False where that cannot be.

    With it the model's class has to compute what is expected of the example.
    """
    for config in _configs(model.config, lists.counts) if _is_of_transformers(model) else ():
        fresh = _fresh(model, config)
        if fresh is not None and _computes(fresh, example, expected):
            _take_over(model, fresh)
            follow(model)
            return True
    return False


@dataclass(frozen=True)
class Taken:
    """Lists that have been shortened, what they held, and which of that is left."""

    held: tuple[tuple[nn.ModuleList, dict[str, nn.Module], dict[str, Any]], ...]
    counts: tuple[tuple[int, Sequence[int]], ...] = ()

    def put_back(self) -> None:
        for layers, modules, attributes in self.held:
            layers._modules.clear()
            layers._modules.update(modules)
            vars(layers).pop(_PLACES, None)
            vars(layers).update(attributes)


def take_layers(model: nn.Module, left: Places) -> Taken:
    """Leave only these layers in the lists of a model. Raises LookupError where a list or a layer is not there."""
    held: list[tuple[nn.ModuleList, dict[str, nn.Module], dict[str, Any]]] = []
    try:
        for path, places in left.items():
            layers = dict(model.named_modules()).get(path)
            if not isinstance(layers, nn.ModuleList) or any(not 0 <= place < len(layers) for place in places):
                raise LookupError(f"no list of {1 + max(places, default=0)} layers at '{path}'")
            modules, before = dict(layers._modules), vars(layers).get(_PLACES)
            held.append((layers, modules, {} if before is None else {_PLACES: before}))
            known = list(range(len(layers))) if before is None else before
            layers._modules.clear()
            layers._modules.update({str(new): modules[str(place)] for new, place in enumerate(places)})
            vars(layers)[_PLACES] = [known[place] for place in places]
    except LookupError:
        Taken(tuple(held)).put_back()
        raise
    counts = [len(modules) for _, modules, _ in held]
    return Taken(tuple(held), tuple(zip(counts, left.values(), strict=True)))


def taken(model: nn.Module) -> dict[str, list[int]]:
    """Of lists that have been shortened: the places that their layers had."""
    named = [(path, vars(each).get(_PLACES)) for path, each in model.named_modules()]
    return {path: places for path, places in named if places is not None}


def _is_of_transformers(model: nn.Module) -> bool:
    return any(kind.__name__ == "PreTrainedModel" for kind in type(model).__mro__)


def _left(layers: nn.ModuleList) -> list[int] | None:
    """Places of layers that do more than hand on; None where all do."""
    left = [place for place, each in enumerate(layers) if not isinstance(each, HandedOn) or not each.is_bare]
    return left if len(left) < len(layers) else None


# --- the configuration ----------------------------------------------------------------------------------------------


def _configs(config: Any, lists: Sequence[tuple[int, Sequence[int]]]) -> Iterator[Any]:
    """Copies of a configuration in which some of the numbers that may count the layers of lists have changed."""
    ways = [_counts(config, old) for old, _ in lists]
    for chosen in itertools.islice(itertools.product(*ways), _MOST):
        if len(set(chosen)) == len(chosen):
            changed = copy.deepcopy(config)
            for way, (old, places) in zip(chosen, lists, strict=True):
                _change(changed, way, old, places)
            yield changed


def _counts(config: Any, old: int) -> list[tuple[str, str, int | None]]:
    """Numbers of layers in a configuration and in those within it: whose, which, and the place in a list of numbers."""
    found: list[tuple[str, str, int | None]] = []
    for part, each in _parts(config).items():
        for name, value in vars(each).items():
            if ("layer" in name or "block" in name) and type(value) is int and value == old:
                found.append((part, name, None))
            elif "depth" in name and isinstance(value, list | tuple):
                found += [(part, name, place) for place, one in enumerate(value) if type(one) is int and one == old]
    return found


def _parts(config: Any) -> dict[str, Any]:
    inner = {name: each for name, each in vars(config).items() if hasattr(each, "to_dict")}
    return {"": config, **inner}


def _change(config: Any, way: tuple[str, str, int | None], old: int, places: Sequence[int]) -> None:
    part, name, index = way
    of = _parts(config)[part]
    if index is None:
        setattr(of, name, len(places))
    else:
        numbers = list(getattr(of, name))
        numbers[index] = len(places)
        setattr(of, name, numbers)
    for key, value in list(vars(of).items()):
        if key in _FIRST and type(value) is int:
            setattr(of, key, sum(place < value for place in places) if value < old else value)
        elif key in _NUMBERS and isinstance(value, list | tuple):
            setattr(of, key, [places.index(each) for each in value if each in places])
        elif "layer" in key and isinstance(value, list | tuple) and len(value) == old:
            setattr(of, key, [value[place] for place in places])
    if "attention_types" in vars(of) and "attention_layers" in vars(of):  # GPT-Neo writes them twice
        of.attention_types = [[[each], 1] for each in of.attention_layers]


# --- the model as its class makes it --------------------------------------------------------------------------------


def _fresh(model: nn.Module, config: Any) -> nn.Module | None:
    """A model of the same class from a configuration, with the same tensors; None where they do not fit."""
    attention = getattr(model.config, "_attn_implementation", None)
    try:
        made = type(config).from_dict(config.to_dict())
        made._attn_implementation = attention
        with torch.random.fork_rng(), torch.device("meta"):
            fresh = type(model)(made)
        for path, part in model.named_modules():
            _put_gone(fresh, path, part)
        fresh.load_state_dict(model.state_dict(), assign=True)
        for name, buffer in model.named_buffers():
            owner, _, leaf = name.rpartition(".")
            fresh.get_submodule(owner)._buffers[leaf] = buffer
    except Exception:  # whatever a class makes of a configuration that is not for it
        return None
    same = [name for name, _ in fresh.named_modules()] == [name for name, _ in model.named_modules()]
    tensors = [*fresh.parameters(), *fresh.buffers()]
    return fresh if same and not any(each.is_meta for each in tensors) else None


def _put_gone(fresh: nn.Module, path: str, part: nn.Module) -> None:
    """What stands for removed parts of layers that are left."""
    if isinstance(part, Removed):
        owner, _, name = path.rpartition(".")
        fresh.get_submodule(owner)._modules[name] = part
        return
    for name, value in vars(part).items():
        if isinstance(value, Gone):
            vars(fresh.get_submodule(path))[name] = value
            fresh.get_submodule(path)._parameters.pop(name, None)
            fresh.get_submodule(path)._buffers.pop(name, None)


def _take_over(model: nn.Module, fresh: nn.Module) -> None:
    fresh.config._name_or_path = model.config._name_or_path
    for part, made in zip(model.modules(), fresh.modules(), strict=True):
        if not isinstance(part, Removed):
            vars(part).update({name: vars(made)[name] for name in _FOLLOWING if name in vars(made)})


def _outputs(model: nn.Module, example: Any) -> list[Tensor]:
    if example is None:
        return []
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    with undisturbed(model), evaluating(model), torch.no_grad():
        torch.manual_seed(0)
        return tensors_of(examples.call(model, examples.moved(example, device)))


def _computes(model: nn.Module, example: Any, expected: Sequence[Tensor]) -> bool:
    try:
        return _are_same(expected, _outputs(model, example))
    except Exception:  # whatever a class does that cannot do without all layers of a stage
        return False


def _are_same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return len(one) == len(other) and all(
        a.shape == b.shape and torch.allclose(a.float(), b.float(), rtol=1e-4, atol=1e-5, equal_nan=True)
        for a, b in zip(one, other, strict=True)
    )
