"""Whether a loaded data set is what its row of the catalog says, and what networks can be trained on.

A loader may be anybody's. What it returns is looked at once, without a pass over pixels and without decoding an image:
what is wrong comes as one line, before it becomes a wrong accuracy or an error in the middle of a training.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from layerprune.core.data import catalog
from layerprune.core.data.catalog import DataSpec
from layerprune.core.data.dataset import AnySplit, DataSet, Split
from layerprune.errors import LayerpruneError

SPLITS = ("train", "validation", "test")
_OF_A_SPLIT = ("labels", "shape", "device", "to", "take", "training_batches", "evaluation_batches")
"""What a split has that makes its batches itself: as in data.streaming."""


def check(name: str, data: DataSet) -> DataSet:
    """The same data set. Raises LayerpruneError with the first thing that is wrong with it."""
    problem = next(_problems(name, data), None)
    if problem is not None:
        raise LayerpruneError(f"data set {name}: {problem}")
    return data


def _problems(name: str, data: DataSet) -> Iterator[str]:
    """What is wrong; each may rely on the absence of those before it."""
    yield from _of_description(name, data)
    form = next(form for form in catalog.forms(name) if data.source in form.sources)
    if data.classes != form.classes:
        yield f"{data.classes} classes instead of {form.classes}, as the catalog has it"
    for part in SPLITS:
        yield from (f"{part}: {problem}" for problem in _of_split(getattr(data, part), form))
    yield from _of_statistics(data, form.channels)


def _of_description(name: str, data: DataSet) -> Iterator[str]:
    if data.name != name:
        yield f"its loader calls it {data.name!r}"
    sources = [source for form in catalog.forms(name) for source in form.sources]
    if data.source not in sources:
        yield f"its source is {data.source!r}, which the catalog does not have (it has {', '.join(sources)})"
    if not (isinstance(data.checksums, dict) and all(isinstance(each, str) for each in _flat(data.checksums))):
        yield "checksums are no dictionary from names of files to their digests, both texts"


def _flat(values: dict) -> Iterator[Any]:
    return (each for pair in values.items() for each in pair)


# --- splits ---------------------------------------------------------------------------------------------------------


def _of_split(split: AnySplit, form: DataSpec) -> Iterator[str]:
    if isinstance(split, Split):
        yield from _of_images(split.images, form)
    elif lacking := [name for name in _OF_A_SPLIT if not hasattr(split, name)]:
        yield f"is {_kind(split)}, no split: it has no '{lacking[0]}'"
    elif tuple(split.shape) != form.shape:
        yield f"images are {_sizes(split.shape)} instead of {_sizes(form.shape)}, as the catalog has it"
    yield from _of_labels(split.labels, form.classes)
    count = len(split.images) if isinstance(split, Split) else len(split)
    if len(split.labels) != count:
        yield f"{len(split.labels)} labels for {count} images"
    if count == 0:
        yield "holds no image"


def _of_images(images: Tensor, form: DataSpec) -> Iterator[str]:
    wanted = f"uint8 {_sizes(form.shape)} with values 0 to 255"
    if not isinstance(images, Tensor):
        yield f"images are {_kind(images)} instead of a tensor, {wanted}"
    if images.dtype != torch.uint8 or tuple(images.shape[1:]) != form.shape:
        yield f"images are {_found(images)} instead of {wanted}"


def _of_labels(labels: Tensor, classes: int) -> Iterator[str]:
    if not isinstance(labels, Tensor):
        yield f"labels are {_kind(labels)} instead of a tensor, int64 [N]"
    if labels.dtype != torch.int64 or labels.dim() != 1:
        yield f"labels are {_found(labels)} instead of int64 [N]"
    if not len(labels):
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        yield f"labels run from {low} to {high} instead of 0 to {classes - 1}"


# --- means and deviations -------------------------------------------------------------------------------------------

_CONSTANT = 1e-9
"""A std below it is rounding: one pixel in a billion that differs by 1 of 255 makes 1e-7."""


def _of_statistics(data: DataSet, channels: int) -> Iterator[str]:
    for name in ("mean", "std"):
        values = getattr(data, name)
        if not (isinstance(values, Sequence) and all(isinstance(each, int | float) for each in values)):
            yield f"{name} is {_kind(values)} instead of a tuple of numbers, one a channel"
        if len(values) != channels:
            yield f"{name} has {len(values)} numbers instead of {channels}, one a channel"
        if not all(0 <= each <= 1 for each in values):
            yield f"{name} is {tuple(values)}: in units where pixels of 255 are 1 it is between 0 and 1"
    constant = next((channel for channel, each in enumerate(data.std) if each < _CONSTANT), None)
    if constant is not None:
        yield f"channel {constant} has one value in all training images (std 0): leave it out, or give it another std"


# --- words ----------------------------------------------------------------------------------------------------------


def _sizes(shape: Sequence[int]) -> str:
    return f"[{', '.join(['N', *map(str, shape)])}]"


def _found(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} {_sizes(values.shape[1:]) if values.dim() else '[]'}"


def _kind(value: object) -> str:
    return f"of type {type(value).__name__}"
