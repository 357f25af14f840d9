"""Under what latency is measured."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from layerprune.errors import LayerpruneError

Engine = Literal["eager", "compiled", "onnxruntime"]
Precision = Literal["fp32", "bf16"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
STUDY_BATCHES = (1, 128)
"""Batch sizes where a preset's runs are measured, and where single networks are."""
SINGLE_BATCHES = (1, 32, 256)


@dataclass(frozen=True)
class Conditions:
    """Where, with what batch sizes, how many measurements of each network, CPU threads, engines and precisions.

    Every engine is combined with every precision and batch size.
    """

    device: torch.device
    batches: tuple[int, ...] = STUDY_BATCHES
    repeats: int = 30
    threads: int = 1
    engines: tuple[Engine, ...] = ("eager",)
    precisions: tuple[Precision, ...] = ("fp32",)


def chosen(option: str, words: str, known: tuple[str, ...]) -> tuple:
    """What words separated by commas name, each once. Raises LayerpruneError for one that is not known."""
    named = [word.strip() for word in words.split(",")]
    for word in named:
        if word not in known:
            raise LayerpruneError(f"{option}: '{word}' is not known (known: {', '.join(known)})")
    return tuple(dict.fromkeys(named))
