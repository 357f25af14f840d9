"""Pruning anybody's trained network by the scores of layerprune.core.methods.scores: no training, one cut.

    sections = layerprune.find_sections(model, example_input)
    smaller = layerprune.prune_by_scores(model, sections, "cka", keep=10, batches=batches)

Train the result further, as the published methods do. A score sees the model in evaluation mode.
"""

import copy
import importlib
from typing import Any

import torch
from torch import nn

from layerprune.core import methods
from layerprune.core.methods import settings_class
from layerprune.core.methods.base import checked_scores, keep_highest
from layerprune.core.methods.parts.first_layer import WeightLayer, first_batch_norm, gate_position
from layerprune.core.seeding import stream_seed
from layerprune.errors import LayerpruneError
from layerprune.library.arguments import is_whole, require
from layerprune.library.find_sections import unwrapped
from layerprune.library.found_sections import FoundSections
from layerprune.library.gates import detach, has_gates
from layerprune.library.network_files import reason_of
from layerprune.library.pruner_checks import check_sections
from layerprune.library.rewriting import Forward
from layerprune.library.scored_batches import Batches, Repeated
from layerprune.library.scored_network import Branch, ScoredNetwork
from layerprune.library.whole_layers import shorten


def prune_by_scores(
    model: nn.Module,
    sections: FoundSections,
    method: str = "cka",
    *,
    keep: int,
    batches: Batches | None = None,
    seed: int = 0,
) -> nn.Module:
    """A copy of the model with the `keep` removable sections that a score method ranks highest.

    `method` is any of the family scores (`layerprune methods` lists them). Methods that look at data need `batches`:
    pairs of inputs and labels (of examples [B], or of tokens [B, T]), or dictionaries as Transformers' models take
    them; they may be read several times. `seed` is for methods that draw random numbers: random and sr-init. `model`,
    whose `sections` find_sections gives, does not change.

    Raises LayerpruneError for an unknown method, a `keep` that the network does not have, missing batches, and a
    network that the method cannot score, with the reason.
    """
    require(is_whole(keep), "prune_by_scores", "keep is the number of removable sections to keep", keep)
    scores = section_scores(model, sections, method, batches, seed)
    if not 0 <= keep <= len(scores):
        raise LayerpruneError(f"keep: {keep} sections requested, but the network has {len(scores)} removable ones")
    kept = _choose(method, list(scores.values()), keep)
    copied = copy.deepcopy(sections.model)
    detach(copied)
    forward = Forward(sections.of_copy(copied))
    forward.remove([place for place, stays in enumerate(kept) if not stays])
    shorten(copied, sections.example)
    return copied


def section_scores(
    model: nn.Module, sections: FoundSections, method: str, batches: Batches | None = None, seed: int = 0
) -> dict[str, float]:
    """The score of every removable section by its name: the lowest go first.

    `model`, `sections`, `method`, `batches` and `seed` are those of prune_by_scores, which raises the same errors.
    """
    _check(unwrapped(model), sections, method)
    network = ScoredNetwork(sections)
    _check_layers(method, network)
    score = methods.entry_point(method)
    names = [section.name for section in network.found]
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(stream_seed("score", seed))
        try:
            values = checked_scores(method, score(network, Repeated(method, batches, network.model)), names)
        except LayerpruneError:
            raise
        except Exception as error:  # of a model that the score was not written for
            raise LayerpruneError(f"{method}: cannot score {network.arch}: {reason_of(error)}") from None
    return dict(zip(names, values, strict=True))


def _choose(method: str, scores: list[float], keep: int) -> list[int]:
    module = importlib.import_module(methods.module_name(method))
    if not hasattr(module, "choose") or keep == 0:
        return keep_highest(scores, keep)
    return module.choose(scores, keep, settings_class(method)())


# --- what cannot be ---------------------------------------------------------------------------------------------


def _check(model: nn.Module, sections: FoundSections, method: str) -> None:
    known = sorted(slug for slug, family in methods.families().items() if family == "scores")
    if method not in known:
        raise LayerpruneError(f"method: '{method}' is not a score method (known: {', '.join(known)})")
    check_sections("prune_by_scores", sections)
    if sections.model is not model:
        raise LayerpruneError("prune_by_scores: the sections were found in another model")
    if has_gates(model):
        raise LayerpruneError(
            "prune_by_scores: the model is already being pruned: use what its pruner exports, or detach() it"
        )
    if not sections.removable:
        raise LayerpruneError(f"prune_by_scores: no section can be removed: {sections[0].reason}")


def _check_layers(method: str, network: ScoredNetwork) -> None:
    """Say in which section a score finds nothing to look at. A score of somebody's own is not looked after."""
    lacking = _LACKING.get(method)
    for place, section in zip(network.sections, network.found, strict=True):
        reason = lacking(place.branch, section.shape) if lacking else None
        if reason:
            raise LayerpruneError(f"{method}: cannot score {network.arch}: section '{section.name}' has {reason}")


def _no_weights(branch: Branch, shape: tuple[int, ...]) -> str | None:
    if any(isinstance(layer, WeightLayer) for layer in branch.modules()):
        return None
    return "no linear layer or convolution whose weights could be scored"


def _no_channels(branch: Branch, shape: tuple[int, ...]) -> str | None:
    if _no_weights(branch, shape):
        return _no_weights(branch, shape)
    position = gate_position(branch)
    if not any(position is layer for layer in branch):
        return "its first weights within a layer that does not show what they put out"
    return "channels that come last, as tokens have them" if _is_last(position, shape) else None


def _is_last(position: nn.Module, shape: tuple[int, ...]) -> bool:
    return isinstance(position, nn.Linear) and len(shape) > 1


def _no_batch_norm(branch: Branch, shape: tuple[int, ...]) -> str | None:
    if getattr(first_batch_norm(branch), "weight", None) is not None:
        return None
    return "no batch normalisation with gammas after its weights"


def _no_fresh_start(branch: Branch, shape: tuple[int, ...]) -> str | None:
    for layer in branch.modules():
        own = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
        if own and not isinstance(layer, WeightLayer) and not hasattr(layer, "reset_parameters"):
            what = "weights of no layer" if layer is branch else f"a {type(layer).__name__}"
            return f"{what}, for which there is no rule of initialisation"
    return None


_LACKING: dict[str, Any] = {
    "magnitude": _no_weights,
    "taylor": _no_weights,
    "feature-taylor": _no_channels,
    "gate-taylor": _no_channels,
    "bn-scale": _no_batch_norm,
    "sr-init": _no_fresh_start,
}
