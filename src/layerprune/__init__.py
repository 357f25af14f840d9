"""layerprune: concurrent training and layer pruning of deep networks, and its rivals.

For networks of one's own: find_sections, ConcurrentPruner, prune_by_scores, section_scores, register_block, remove,
save, load, measure_latency. They are loaded when they are first asked for: much of the package must do
without torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "ConcurrentPruner",
    "find_sections",
    "load",
    "measure_latency",
    "prune_by_scores",
    "register_block",
    "remove",
    "save",
    "section_scores",
]

_HOMES = {
    "find_sections": "library.find_sections",
    "register_block": "library.registered_blocks",
    "ConcurrentPruner": "library.concurrent_pruner",
    "prune_by_scores": "library.prune_by_scores",
    "section_scores": "library.prune_by_scores",
    "remove": "library.smaller_models",
    "save": "library.network_files",
    "load": "library.network_files",
    "measure_latency": "library.latency.measuring",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'layerprune' has no attribute '{name}'")
    return getattr(import_module(f"layerprune.{_HOMES[name]}"), name)
