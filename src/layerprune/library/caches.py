"""Key-value caches of Transformers' language models once some layers have lost their attention.

A cache has a slot for each layer, and a model reads the number of past tokens from the first slot of each kind. So the
first remaining attention takes the first slot of its kind; all others keep theirs, and the configuration is unchanged.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from layerprune.library.absence import HandedOn, Removed

NUMBERS = ("layer_idx", "layer_id")
"""Attributes of attention that say which slot of a cache is its own."""


@contextmanager
def uncached(model: nn.Module) -> Iterator[None]:
    """For a while the model returns no cache unless the caller wants one: a single pass needs none."""
    configs = [vars(part).get("config") for part in model.modules()]
    caching = [each for each in configs if getattr(each, "use_cache", None) is True]
    for each in caching:
        each.use_cache = False
    try:
        yield
    finally:
        for each in caching:
            each.use_cache = True


def follow(model: nn.Module) -> None:
    """Give the first attention that is left of each kind the first slot of that kind, in every list of layers.

    Of models whose configuration knows of a cache: numbers in anybody else's layers may mean anything.
    """
    if not hasattr(_config(model), "use_cache"):
        return
    lists = [path for path, part in model.named_modules() if isinstance(part, nn.ModuleList)]
    for path in lists:
        if not any(path.startswith(f"{outer}.") for outer in lists):
            _follow(model, model.get_submodule(path))


def _follow(model: nn.Module, layers: nn.ModuleList) -> None:
    left = [(place, name, each) for place, layer in enumerate(layers) for name, each in _attention_in(layer)]
    if not left or any(_number(each) > place for place, _, each in left):  # numbers of another meaning
        return
    kinds = _kinds(model, layers)
    if kinds[0] not in {kinds[place] for place, _, _ in left}:  # slot 0 tells how many tokens there were
        kinds[0] = _become(model, layers[0], kinds[left[0][0]])
    taken = set()
    for place, name, each in left:
        first = (name, kinds[place]) not in taken
        vacant = [one for one in range(place) if kinds[one] == kinds[place] and _is_vacant(layers, one, name)]
        vars(each).update(dict.fromkeys(_numbers(each), vacant[0] if first and vacant else place))
        taken.add((name, kinds[place]))


def _become(model: nn.Module, layer: nn.Module, kind: Any) -> Any:
    """The first slot is of another kind from now on; the layer that was there has no attention left."""
    config = _own_config(model)
    for part in layer.modules():
        for name in ("attention_type", "layer_type"):
            if vars(part).get(name) == config.layer_types[0]:
                setattr(part, name, kind)
    config.layer_types = [kind, *config.layer_types[1:]]
    return kind


def _attention_in(layer: nn.Module) -> list[tuple[str, Any]]:
    """What has a number in the cache, by its path in the layer."""
    return [(name, each) for name, each in layer.named_modules() if _numbers(each) and not isinstance(each, Removed)]


def _numbers(module: nn.Module) -> list[str]:
    """The attributes in which a module has its number in the cache."""
    return [name for name in NUMBERS if type(vars(module).get(name)) is int]


def _number(module: nn.Module) -> int:
    return vars(module)[_numbers(module)[0]]


def _kinds(model: nn.Module, layers: nn.ModuleList) -> list[Any]:
    """Of slots, such as that of a sliding window, where the configuration tells."""
    told = getattr(_config(model), "layer_types", None)
    return list(told) if told is not None and len(told) == len(layers) else [None] * len(layers)


def _is_vacant(layers: nn.ModuleList, place: int, name: str) -> bool:
    layer = layers[place]
    if isinstance(layer, HandedOn):
        return all(isinstance(each, HandedOn) or name in dict(each.named_modules()) for each in layers)
    return isinstance(dict(layer.named_modules()).get(name), Removed)


def _config(model: nn.Module) -> Any:
    """That of the decoder of text."""
    config = getattr(model, "config", None)
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config


def _own_config(model: nn.Module) -> Any:
    """The decoder's configuration, of this model alone from now on: others may have been made from the same."""
    old = model.config
    text = _config(model)
    new = copy.deepcopy(old)
    for part in model.modules():
        if vars(part).get("config") is old:
            part.config = new
    if text is not old:
        for part in model.modules():
            if vars(part).get("config") is text:
                part.config = _config(model)
    return _config(model)
