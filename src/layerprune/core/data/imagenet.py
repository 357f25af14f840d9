"""ImageNet: class-folder trees train/ and val/, or plain tar files of them, decoded while they are needed.

A fiftieth of the training images, the same share of every class, is held out for validation; the publisher's val/,
whose labels are public, is the test set. The excerpt `imagenet-tiny40` (40 classes, 64x64 pixels) fits into memory and
is decoded once; a tenth of its training images is held out.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from layerprune.core.data import catalog, splits
from layerprune.core.data.catalog import DataSpec
from layerprune.core.data.class_folders import PARTS, Images, read_index, unpacked
from layerprune.core.data.dataset import AnySplit, DataSet, Split, channel_statistics
from layerprune.core.data.decoded import Arrays, decoded
from layerprune.core.data.streaming import StreamedSplit
from layerprune.core.data.views import Unreadable, decode
from layerprune.errors import LayerpruneError
from layerprune.system.files import sha256

VERSION = 1
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's usual channel means and deviations."""

BadImages = Literal["stop", "skip"]


def load(
    root: Path,
    source: str | None = None,
    workers: int = 0,
    bad_images: BadImages = "stop",
    decoder: str = "pil",
) -> DataSet:
    """Read the index, check and split. Raises LayerpruneError naming what is missing or at fault."""
    form = catalog.chosen_form("imagenet", root, source)
    path = catalog.require(form, root)["images"]
    return _in_memory(form, path, bad_images) if form.in_memory else _streamed(form, path, workers, bad_images, decoder)


def _streamed(form: DataSpec, path: Path, workers: int, bad_images: BadImages, decoder: str) -> DataSet:
    index = read_index(path, classes=form.classes)
    whole = StreamedSplit(index["train"], form.size, workers, bad_images, decoder=decoder)
    test = replace(whole, images=index["val"])
    held_out = splits.choose(index["train"].labels, len(whole) // form.held_out_divisor)
    kept = np.setdiff1d(np.arange(len(whole)), held_out)
    train, validation = (whole.take(torch.from_numpy(each)) for each in (kept, held_out))
    digests = {part: _listing_digest(images) for part, images in index.items()}
    return _data_set(form, train, validation, test, (MEAN, STD), held_out, digests, whole.left_out)


def _in_memory(form: DataSpec, path: Path, bad_images: BadImages) -> DataSet:
    arrays = decoded(form.sources[0], path, lambda: _decoded(path, form))
    left_out = dict(zip(arrays["damaged"].tolist(), arrays["reasons"].tolist(), strict=True))
    for name, reason in left_out.items():
        if bad_images == "stop":
            raise LayerpruneError(f"{path}/{name}: not a sound image: {reason} (data.bad_images: skip leaves it out)")
        logging.getLogger("layerprune").warning("left out: %s/%s: %s", path, name, reason)
    training, test = (
        Split(*(torch.from_numpy(arrays[f"{part}_{kind}"]) for kind in ("images", "labels"))) for part in PARTS
    )
    held_out = splits.choose(training.labels.numpy(), len(training) // form.held_out_divisor)
    validation = torch.from_numpy(held_out)
    train = training.without(validation)
    digests = {name: sha256(array.tobytes()) for name, array in arrays.items() if array.dtype.kind != "U"}
    statistics = channel_statistics(train.images)
    return _data_set(form, train, training.take(validation), test, statistics, held_out, digests, left_out)


def _data_set(
    form: DataSpec,
    train: AnySplit,
    validation: AnySplit,
    test: AnySplit,
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
    held_out: np.ndarray,
    digests: dict[str, str],
    left_out: dict[str, str],
) -> DataSet:
    mean, std = statistics
    source = form.sources[0]
    return DataSet(
        name=form.name,
        source=source,
        classes=form.classes,
        train=train,
        validation=validation,
        test=test,
        mean=mean,
        std=std,
        checksums={f"{source}/{name}": digest for name, digest in digests.items()}
        | {f"{source}/validation": splits.digest(held_out)},
        left_out=left_out,
    )


def _listing_digest(images: Images) -> str:
    """Digest of names and sizes: the contents are too many to be read for it."""
    lines = (f"{name.decode()} {size}" for name, size in zip(images.names, images.sizes.tolist(), strict=True))
    return sha256("\n".join(lines).encode())


def _decoded(path: Path, form: DataSpec) -> Arrays:
    """Images uint8 [N, 3, size, size] and labels of both parts, and the names of the damaged with what is wrong."""
    arrays: Arrays = {}
    damaged: dict[str, str] = {}
    with unpacked(path) as tree:
        for part, images in read_index(tree, classes=form.classes).items():
            pictures, labels = _sound(images, form.size, damaged)
            if not pictures:
                raise LayerpruneError(f"{path}: {part}/ holds no sound image")
            arrays |= {f"{part}_images": np.stack(pictures), f"{part}_labels": np.asarray(labels, np.int64)}
    return arrays | {"damaged": np.array(list(damaged), "U"), "reasons": np.array(list(damaged.values()), "U")}


def _sound(images: Images, size: int, damaged: dict[str, str]) -> tuple[list[np.ndarray], list[int]]:
    """Pictures and labels of the sound images; notes the others."""
    pictures, labels = [], []
    for place, label in enumerate(images.labels.tolist()):
        picture = _picture(images, place, size)
        if isinstance(picture, Unreadable):
            damaged[images.names[place].decode()] = picture.reason
        else:
            pictures.append(picture)
            labels.append(label)
    return pictures, labels


def _picture(images: Images, place: int, size: int) -> np.ndarray | Unreadable:
    try:
        image = decode(images.content(place), size)
    except OSError as error:
        return Unreadable(error.strerror or str(error))
    return image if isinstance(image, Unreadable) else np.asarray(image).transpose(2, 0, 1)
