"""Data sets that live on the device as one uint8 tensor; splits, staging with checksums, and batches.

    data = layerprune.core.data.load("digits", root=Path("data"))        # digits needs neither files nor network

Names resolve when first used, so that `layerprune.core.data.catalog` can be imported where torch cannot.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "load": "loading",
    "stage": "loading",
    "DataSet": "dataset",
    "Split": "dataset",
    "TrainingBatches": "batches",
    "evaluation_batches": "batches",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
