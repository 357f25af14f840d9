"""layerprune: concurrent training and layer pruning of deep networks, and its rivals.

For networks of one's own: find_sections, ConcurrentPruner, prune_by_scores, section_scores, register_block, save, load.
They are loaded when they are first asked for: much of the package must do without torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "ConcurrentPruner",
    "find_sections",
    "load",
    "prune_by_scores",
    "register_block",
    "save",
    "section_scores",
]

_HOMES = {
    "find_sections": "sections",
    "register_block": "tracing",
    "ConcurrentPruner": "pruner",
    "prune_by_scores": "scoring",
    "section_scores": "scoring",
    "save": "saving",
    "load": "saving",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'layerprune' has no attribute '{name}'")
    return getattr(import_module(f"layerprune.anynet.{_HOMES[name]}"), name)
