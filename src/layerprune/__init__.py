"""layerprune: concurrent training and layer pruning of deep networks, and its rivals.

For networks of one's own: find_sections, ConcurrentPruner, register_block, save, load. They are loaded when they are
first asked for: much of the package must do without torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["ConcurrentPruner", "find_sections", "load", "register_block", "save"]

_HOMES = {
    "find_sections": "sections",
    "register_block": "tracing",
    "ConcurrentPruner": "pruner",
    "save": "saving",
    "load": "saving",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'layerprune' has no attribute '{name}'")
    return getattr(import_module(f"layerprune.anynet.{_HOMES[name]}"), name)
