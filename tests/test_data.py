"""The data sets: what they hold, how they are split and batched, and what is said when files are at fault."""

import gzip
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data_helpers import (
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    UNCHECKED,
    idx_bytes,
    write_idx,
    write_mnist_like,
)

from layerprune.core.data import (
    TrainingBatches,
    catalog,
    digits,
    evaluation_batches,
    load,
    loading,
    mnist,
    splits,
    stage,
)
from layerprune.core.data.batches import steps_per_epoch
from layerprune.core.data.checking import SPLITS
from layerprune.core.data.dataset import DataSet, Split, channel_statistics
from layerprune.core.data.mnist import read_idx
from layerprune.errors import LayerpruneError, SettingError
from layerprune.system.files import sha256

MNIST_LIKE = [
    pytest.param("", "", id="plain"),
    pytest.param(".gz", "mnist", id="gzipped, in mnist/"),
    pytest.param("", "MNIST/raw", id="plain, in MNIST/raw/"),
]


@pytest.fixture(scope="module")
def digits_data() -> DataSet:
    return load("digits", Path("nowhere"))


@pytest.fixture(scope="module")
def digits_labels() -> np.ndarray:
    return digits.read_embedded(digits.EMBEDDED, {})[1]


@pytest.fixture
def numbered() -> Split:
    """23 images of 2x5x5 with random pixels; the label of each is its number."""
    images = torch.randint(256, (23, 2, 5, 5), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return Split(images, torch.arange(23))


def batches_of(split: Split, batch_size: int = 10, seed: int = 0, augment: str = "none") -> TrainingBatches:
    """Batches whose pixels keep their values 0..255 (up to rounding): mean 0 and scale 1."""
    return TrainingBatches(split, (0.0, 0.0), (1 / 255, 1 / 255), batch_size, seed, augment)


def labels_of(batches) -> list[int]:
    return torch.cat([labels for _, labels in batches]).tolist()


def message_of(action, *arguments) -> str:
    """The text of the LayerpruneError that `action` raises, which must be one line."""
    with pytest.raises(LayerpruneError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestDigits:
    def test_splits_have_their_sizes_shapes_and_types(self, digits_data):
        for split, size in (
            (digits_data.train, 1237),
            (digits_data.validation, 200),
            (digits_data.test, 360),
        ):
            assert split.images.shape == (size, 1, 28, 28) and split.images.dtype == torch.uint8
            assert split.labels.shape == (size,) and split.labels.dtype == torch.int64
        assert digits_data.shape == (1, 28, 28)
        assert (digits_data.name, digits_data.source, digits_data.classes) == ("digits", "digits", 10)

    def test_images_use_the_whole_range_and_every_class_occurs(self, digits_data):
        assert digits_data.train.images.min() == 0 and digits_data.train.images.max() == 255
        assert digits_data.train.labels.unique().tolist() == list(range(10))

    def test_enlargement_agrees_with_bilinear_interpolation(self):
        images = digits.read_embedded(digits.EMBEDDED, {})[0][:50]
        floats = torch.from_numpy(images).float().unsqueeze(1) * 255 / 16
        expected = torch.nn.functional.interpolate(floats, size=(28, 28), mode="bilinear").squeeze(1)
        enlarged = torch.from_numpy(digits.enlarge(images, 28)).float()
        assert (enlarged - expected).abs().max() <= 0.501

    def test_two_loads_are_equal(self, digits_data):
        again = load("digits", Path("elsewhere"))
        assert torch.equal(again.train.images, digits_data.train.images)
        assert again.checksums == digits_data.checksums

    def test_every_example_lands_in_exactly_one_split(self, digits_data, digits_labels):
        parts = (digits_data.train, digits_data.validation, digits_data.test)
        counts = sum(torch.bincount(part.labels, minlength=10) for part in parts)
        assert counts.tolist() == np.bincount(digits_labels).tolist()
        images = torch.cat([part.images for part in parts]).flatten(1).numpy()
        whole = digits.enlarge(digits.read_embedded(digits.EMBEDDED, {})[0], 28).reshape(1797, -1)
        assert sorted(map(bytes, images)) == sorted(map(bytes, whole))

    def test_mean_and_deviation_are_those_of_the_training_images(self, digits_data):
        pixels = digits_data.train.images.double() / 255
        assert digits_data.mean == pytest.approx((pixels.mean().item(),), abs=1e-12)
        assert digits_data.std == pytest.approx((pixels.std(correction=0).item(),), abs=1e-12)

    def test_altered_embedded_file_is_refused(self, tmp_path, digits_labels):
        altered = tmp_path / "digits.npz"
        np.savez(altered, images=np.zeros((1797, 8, 8), np.uint8), labels=digits_labels)
        message = message_of(digits.read_embedded, altered, catalog.DIGITS.sha256)
        assert str(altered) in message and catalog.DIGITS.sha256["digits.npz/images"] in message

    def test_damaged_embedded_file_is_refused(self, tmp_path):
        damaged = tmp_path / "digits.npz"
        damaged.write_bytes(digits.EMBEDDED.read_bytes()[:1000])
        assert str(damaged) in message_of(digits.read_embedded, damaged, {})


class TestHeldOutIndices:
    def test_stored_digits_indices_regenerate(self, digits_labels):
        test = splits.choose(digits_labels, 360)
        validation = splits.choose(digits_labels, 200, taken=test)
        assert splits.indices(splits.DIGITS_TEST, digits_labels).tolist() == test.tolist()
        assert splits.indices(splits.DIGITS_VALIDATION, digits_labels).tolist() == validation.tolist()

    def test_stored_digits_indices_are_disjoint_sorted_and_of_their_sizes(self, digits_labels):
        test = splits.indices(splits.DIGITS_TEST, digits_labels).tolist()
        validation = splits.indices(splits.DIGITS_VALIDATION, digits_labels).tolist()
        assert len(set(test) | set(validation)) == 360 + 200
        assert test == sorted(test) and validation == sorted(validation)

    def test_stored_mnist_indices_are_distinct_sorted_and_in_range(self):
        stored = splits.indices(splits.MNIST_VALIDATION, np.zeros(60000, np.uint8)).tolist()
        assert stored == sorted(set(stored)) and len(stored) == 5000
        assert stored[0] >= 0 and stored[-1] < 60000

    @pytest.mark.parametrize("held_out", [splits.DIGITS_TEST, splits.DIGITS_VALIDATION], ids=lambda h: h.file_name)
    def test_each_class_has_its_share_within_one(self, held_out, digits_labels):
        chosen = splits.indices(held_out, digits_labels)
        exact = np.bincount(digits_labels) * held_out.count / held_out.total
        assert np.abs(np.bincount(digits_labels[chosen]) - exact).max() <= 1

    def test_another_size_gets_a_computed_twelfth(self):
        labels = np.arange(120) % 10
        chosen = splits.indices(splits.MNIST_VALIDATION, labels)
        assert sorted(labels[chosen]) == list(range(10))
        assert chosen.tolist() == splits.indices(splits.MNIST_VALIDATION, labels).tolist()

    def test_classes_of_unequal_size_are_shared_out_in_proportion(self):
        labels = np.repeat([0, 1, 2], [50, 30, 21])
        assert np.bincount(labels[splits.choose(labels, 10)]).tolist() == [5, 3, 2]


@pytest.mark.parametrize(("examples", "batch_size", "steps"), [(20, 10, 2), (21, 10, 3), (1, 10, 1), (30, 1, 30)])
def test_an_epoch_has_a_step_for_the_ragged_last_batch_too(examples: int, batch_size: int, steps: int) -> None:
    assert steps_per_epoch(examples, batch_size) == steps


class TestTrainingBatches:
    def test_cover_each_example_once_with_a_ragged_last_batch(self, numbered):
        batches = batches_of(numbered)
        seen = list(batches.epoch(0))
        assert batches.steps_per_epoch == 3
        assert [len(labels) for _, labels in seen] == [10, 10, 3]
        assert sorted(labels_of(seen)) == list(range(23))

    def test_keep_images_with_their_labels(self, numbered):
        for images, labels in batches_of(numbered).epoch(0):
            assert images.dtype == torch.float32 and images.is_contiguous()
            assert torch.equal(images.round(), numbered.images[labels].float())

    @pytest.mark.parametrize("augment", ["none", "shift"])
    def test_repeat_for_the_same_seed_and_epoch(self, numbered, augment):
        first, second = (list(batches_of(numbered, seed=3, augment=augment).epoch(5)) for _ in range(2))
        assert all(
            torch.equal(a, b) for one, two in zip(first, second, strict=True) for a, b in zip(one, two, strict=True)
        )

    def test_differ_between_epochs_and_between_seeds(self, numbered):
        first = labels_of(batches_of(numbered, seed=0).epoch(0))
        assert first != labels_of(batches_of(numbered, seed=0).epoch(1))
        assert first != labels_of(batches_of(numbered, seed=1).epoch(0))

    def test_augmentation_leaves_the_order_alone(self, numbered):
        plain, shifted = (batches_of(numbered, augment=augment).epoch(0) for augment in ("none", "shift"))
        assert labels_of(plain) == labels_of(shifted)

    @pytest.mark.parametrize("augment", ["none", "shift"])
    def test_started_in_mid_epoch_are_the_same_as_without_a_break(self, numbered, augment):
        batches = batches_of(numbered, augment=augment)
        whole, rest = list(batches.epoch(4)), list(batches.epoch(4, start_step=1))
        assert len(rest) == 2
        for (images, labels), (late_images, late_labels) in zip(whole[1:], rest, strict=True):
            assert torch.equal(images, late_images) and torch.equal(labels, late_labels)

    def test_two_epochs_can_be_read_side_by_side(self, numbered):
        batches = batches_of(numbered, augment="shift")
        alone = [images for images, _ in batches.epoch(1)]
        beside = [second[0] for _, second in zip(batches.epoch(0), batches.epoch(1), strict=True)]
        assert all(torch.equal(a, b) for a, b in zip(alone, beside, strict=True))

    def test_shift_moves_each_image_by_up_to_two_pixels_onto_black(self, numbered):
        for images, labels in batches_of(numbered, augment="shift").epoch(0):
            for image, label in zip(images.round(), labels, strict=True):
                candidates = all_shifts(numbered.images[label].float())
                assert any(torch.equal(image, candidate) for candidate in candidates.values())

    def test_crop_flip_moves_by_up_to_four_pixels_and_mirrors(self, numbered):
        seen = set()
        for images, labels in batches_of(numbered, augment="crop-flip").epoch(0):
            for image, label in zip(images.round(), labels, strict=True):
                original = numbered.images[label].float()
                views = {(False, *at): view for at, view in all_shifts(original, 4).items()}
                # A crop that is mirrored afterwards.
                views |= {(True, *at): view.flip(-1) for at, view in all_shifts(original, 4).items()}
                found = [where for where, view in views.items() if torch.equal(image, view)]
                assert found
                seen |= {where[0] for where in found}
        assert seen == {False, True}

    def test_crop_flip_mirrors_half_of_the_images(self):
        image = torch.arange(1, 26, dtype=torch.uint8).view(1, 1, 5, 5)
        many = Split(image.expand(5000, 1, 5, 5), torch.zeros(5000, dtype=torch.int64))
        images, _ = next(TrainingBatches(many, (0.0,), (1 / 255,), 5000, 0, "crop-flip").epoch(0))
        # Brightness rises along a row, mirrored it falls. Two crops of nine show a single column and tell nothing.
        slopes = (images[:, 0, :, 1:] - images[:, 0, :, :-1]).round()
        rising, falling = (int((slopes == step).flatten(1).any(1).sum()) for step in (1, -1))
        assert rising > 1800 and falling > 1800 and abs(rising - falling) < 250

    @pytest.mark.parametrize(("augment", "crop"), [("shift", 1), ("crop-flip", 1), ("shift", 3), ("crop-flip", 0)])
    def test_crop_is_the_reach_of_the_moves(self, numbered, augment, crop):
        batches = TrainingBatches(numbered, (0.0, 0.0), (1 / 255,) * 2, 10, 0, augment, crop=crop)
        seen = set()
        for epoch in range(12):
            for images, labels in batches.epoch(epoch):
                for image, label in zip(images.round(), labels, strict=True):
                    original = numbered.images[label].float()
                    found = [
                        at
                        for view in (image, image.flip(-1))
                        for at, shifted in all_shifts(original, crop).items()
                        if torch.equal(view, shifted)
                    ]
                    assert found
                    seen |= set(found)
        assert {abs(step) for at in seen for step in at} == set(range(crop + 1))

    def test_alternating_flips_show_each_image_and_its_mirror_image_in_two_epochs(self, numbered):
        batches = TrainingBatches(numbered, (0.0, 0.0), (1 / 255,) * 2, 10, 0, "crop-flip", crop=0, flip="alternating")
        mirrored = []
        for epoch in range(4):
            now = {}
            for images, labels in batches.epoch(epoch):
                for image, label in zip(images.round(), labels.tolist(), strict=True):
                    original = numbered.images[label].float()
                    now[label] = not torch.equal(image, original)
                    assert torch.equal(image, original.flip(-1) if now[label] else original)
            mirrored.append(now)
        assert mirrored[0] == mirrored[2] and mirrored[1] == mirrored[3]
        assert all(mirrored[0][label] != mirrored[1][label] for label in range(23))
        assert 3 < sum(mirrored[0].values()) < 20  # about half of them at once

    def test_alternating_flips_started_in_mid_epoch_are_the_same_as_without_a_break(self, numbered):
        batches = TrainingBatches(numbered, (0.0, 0.0), (1 / 255,) * 2, 10, 0, "crop-flip", flip="alternating")
        whole, rest = list(batches.epoch(3)), list(batches.epoch(3, start_step=1))
        assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[1:], rest, strict=True))

    def test_shift_draws_every_offset_about_equally_often(self):
        image = torch.arange(1, 26, dtype=torch.uint8).view(1, 1, 5, 5)
        many = Split(image.expand(5000, 1, 5, 5), torch.zeros(5000, dtype=torch.int64))
        images, _ = next(TrainingBatches(many, (0.0,), (1 / 255,), 5000, 0, "shift").epoch(0))
        counts = [
            (images.round() == shifted).flatten(1).all(1).sum().item()
            for shifted in all_shifts(image[0].float()).values()
        ]
        assert sum(counts) == 5000 and len(counts) == 25
        assert min(counts) > 130 and max(counts) < 270

    def test_are_normalised_per_channel_with_black_shifted_in(self):
        white = Split(torch.full((4, 2, 5, 5), 255, dtype=torch.uint8), torch.arange(4))
        images, _ = next(TrainingBatches(white, (0.5, 0.25), (0.5, 0.125), 4, 2, "shift").epoch(0))
        assert images[:, 0].unique().tolist() == pytest.approx([-1, 1], abs=1e-6)
        assert images[:, 1].unique().tolist() == pytest.approx([-2, 6], abs=1e-6)

    def test_have_mean_zero_and_deviation_one_over_an_epoch(self, digits_data):
        batches = TrainingBatches(digits_data.train, digits_data.mean, digits_data.std, 128, 0)
        pixels = torch.cat([images for images, _ in batches.epoch(0)]).double()
        assert abs(pixels.mean()) < 1e-6 and abs(pixels.std() - 1) < 1e-6

    def test_refuse_an_unknown_augmentation(self, numbered):
        message = message_of(lambda: batches_of(numbered, augment="flip"))
        assert "augment" in message and "none, shift" in message

    @pytest.mark.parametrize(
        ("augment", "views", "expected"),
        [
            (
                "resized-crop",
                {},
                "training.augment: 'resized-crop' is for streamed images; for these, in memory",
            ),
            ("none", {"crop": 4}, "training.crop: 4 moves images, and augment none does not"),
            ("none", {"flip": "alternating"}, "training.flip: alternating is for augment crop-flip, not for none"),
            ("shift", {"flip": "alternating"}, "training.flip: alternating is for augment crop-flip, not for shift"),
        ],
    )
    def test_refuse_views_that_the_augmentation_does_not_make(self, numbered, augment, views, expected):
        with pytest.raises(SettingError) as caught:
            TrainingBatches(numbered, (0.0, 0.0), (1 / 255,) * 2, 10, 0, augment, **views)
        assert expected in str(caught.value)

    def test_without_augmentation_may_have_a_crop_of_no_pixels(self, numbered):
        for batches in (batches_of(numbered), TrainingBatches(numbered, (0.0, 0.0), (1 / 255,) * 2, 10, 0, crop=0)):
            images, labels = next(batches.epoch(0))
            assert torch.equal(images.round(), numbered.images[labels].float())

    def test_refuse_a_batch_size_of_zero(self, numbered):
        assert "batch_size" in message_of(lambda: batches_of(numbered, batch_size=0))


def all_shifts(image: torch.Tensor, reach: int = 2) -> dict[tuple[int, int], torch.Tensor]:
    """Every shift of an image [C, H, W] by up to `reach` pixels along each axis, copied pixel by pixel."""
    _, height, width = image.shape
    shifts = {}
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            moved = torch.zeros_like(image)
            for y in range(height):
                for x in range(width):
                    if 0 <= y - down < height and 0 <= x - right < width:
                        moved[:, y, x] = image[:, y - down, x - right]
            shifts[down, right] = moved
    return shifts


def test_evaluation_batches_keep_the_order_and_the_ragged_end(numbered):
    batches = list(evaluation_batches(numbered, (0.0, 0.5), (1.0, 0.5), 10))
    assert [len(labels) for _, labels in batches] == [10, 10, 3]
    assert labels_of(batches) == list(range(23))
    first = torch.cat([images for images, _ in batches])[7]
    assert torch.allclose(first[0], numbered.images[7, 0] / 255, atol=1e-6)
    assert torch.allclose(first[1], numbered.images[7, 1] / 127.5 - 1, atol=1e-6)


class TestIdxFiles:
    values = np.arange(2 * 3 * 4).reshape(2, 3, 4)

    @pytest.mark.parametrize("name", ["images", "images.gz"])
    def test_return_what_was_written_and_its_digest(self, tmp_path, name):
        tensor, digest = read_idx(write_idx(tmp_path / name, self.values), 3, {})
        assert tensor.dtype == torch.uint8 and tensor.tolist() == self.values.tolist()
        assert digest == sha256(idx_bytes(self.values))

    @pytest.mark.parametrize("name", ["images", "images.gz"])
    def test_pass_with_the_right_checksum_and_not_with_another(self, tmp_path, name):
        path = write_idx(tmp_path / name, self.values)
        expected = sha256(idx_bytes(self.values))
        read_idx(path, 3, {"images": expected})
        write_idx(path, self.values + 1)
        message = message_of(read_idx, path, 3, {"images": expected})
        assert str(path) in message and expected in message and sha256(idx_bytes(self.values + 1)) in message

    @pytest.mark.parametrize(
        ("name", "content", "complaint"),
        [
            ("a", idx_bytes(values)[:-1], "truncated: 39 bytes, but its header promises 40"),
            ("b", idx_bytes(values)[:7], "truncated: 7 bytes"),
            ("c", idx_bytes(values) + b"x", "too long: 41 bytes"),
            ("d", b"\0\0\x0d" + idx_bytes(values)[3:], "magic number 0x00000d03 instead of 0x00000803"),
            ("e.gz", idx_bytes(values), "not a sound gzip file"),
            ("f.gz", gzip.compress(idx_bytes(values))[:-12], "truncated"),
            ("g.gz", gzip.compress(idx_bytes(values))[:-8] + bytes(8), "not a sound gzip file"),
            ("h.gz", gzip.compress(idx_bytes(values)[:-1]), "truncated: 39 bytes"),
        ],
        ids=[
            "short",
            "header only",
            "long",
            "bad magic",
            "not gzip",
            "gzip cut",
            "gzip altered",
            "gzipped short",
        ],
    )
    def test_at_fault_are_named_in_one_line(self, tmp_path, name, content, complaint):
        path = tmp_path / name
        path.write_bytes(content)
        message = message_of(read_idx, path, 3, {})
        assert message.startswith(f"{path}: {complaint}")


class TestMnistFolder:
    @pytest.mark.parametrize(("suffix", "folder"), MNIST_LIKE)
    def test_is_read_wherever_its_files_may_lie(self, tmp_path, suffix, folder):
        write_mnist_like(tmp_path / folder, suffix=suffix)
        data = mnist.load(tmp_path, UNCHECKED)
        assert [len(part) for part in (data.train, data.validation, data.test)] == [110, 10, 30]
        assert data.shape == (1, 28, 28)
        assert set(data.checksums) == {*UNCHECKED.files.values(), "mnist_validation.txt"}
        assert catalog.is_available("mnist", tmp_path, download=False) == (True, "")

    def test_with_other_images_than_mnist_is_refused(self, tmp_path):
        write_mnist_like(tmp_path)
        message = message_of(load, "mnist", tmp_path)
        assert str(tmp_path / TRAIN_IMAGES) in message and "SHA-256" in message

    def test_with_a_label_out_of_range_names_the_first(self, tmp_path):
        labels = np.arange(120) % 10
        labels[[17, 40]] = [10, 255]
        path = write_idx(write_mnist_like(tmp_path) / TRAIN_LABELS, labels)
        assert message_of(mnist.load, tmp_path, UNCHECKED) == f"{path}: label 10 at position 17 is not in 0..9"

    def test_with_fewer_labels_than_images_names_both_files(self, tmp_path):
        path = write_idx(write_mnist_like(tmp_path) / TRAIN_LABELS, np.zeros(119))
        message = message_of(mnist.load, tmp_path, UNCHECKED)
        assert str(path) in message and str(tmp_path / TRAIN_IMAGES) in message and "119" in message

    @pytest.mark.parametrize("shape", [(0, 28, 28), (120, 28, 27)], ids=["none", "wrong size"])
    def test_with_unusable_images_names_the_file(self, tmp_path, shape):
        path = write_idx(write_mnist_like(tmp_path) / TRAIN_IMAGES, np.zeros(shape))
        assert str(path) in message_of(mnist.load, tmp_path, UNCHECKED)

    def test_that_lacks_one_file_is_told_which(self, tmp_path):
        (write_mnist_like(tmp_path / "mnist") / TEST_LABELS).unlink()
        message = message_of(load, "mnist", tmp_path)
        assert TEST_LABELS in message and TRAIN_IMAGES not in message

    def test_that_is_missing_is_named_with_the_ways_to_get_it(self, tmp_path):
        message = message_of(load, "mnist", tmp_path / "absent")
        assert str(tmp_path / "absent") in message
        assert all(way in message for way in ("layerprune stage mnist", "data.root", "LAYERPRUNE_DATA"))


def test_an_unknown_data_set_is_answered_with_the_known_ones(tmp_path):
    for action in (lambda: load("mnits", tmp_path), lambda: stage("mnits", tmp_path)):
        message = message_of(action)
        assert "'mnits'" in message and "digits, mnist" in message


# --- a data set of one's own ------------------------------------------------------------------------------------

OWN = replace(catalog.CIFAR10, name="own", classes=3, size=8, sources=("own",), files={}, train=12, md5={})


def own_split(count: int) -> Split:
    source = torch.Generator().manual_seed(count)
    return Split(torch.randint(256, (count, 3, 8, 8), generator=source, dtype=torch.uint8), torch.arange(count) % 3)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> DataSet:
    """What a loader for the row OWN of the catalog should return."""
    monkeypatch.setitem(catalog._FORMS, "own", (OWN,))
    parts = own_split(12), own_split(6), own_split(9)
    return DataSet("own", "own", 3, *parts, *channel_statistics(parts[0].images), {})


@pytest.fixture
def load_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def load_own(returned: DataSet) -> DataSet:
        monkeypatch.setattr(loading, "loader_of", lambda name: lambda root: returned)
        return load("own", tmp_path)

    return load_own


def with_images(change, part: str = "train"):
    """The data set with a split's images changed."""
    return lambda data: replace(data, **{part: Split(change(getattr(data, part).images), getattr(data, part).labels)})


def with_labels(change, part: str = "train"):
    return lambda data: replace(data, **{part: Split(getattr(data, part).images, change(getattr(data, part).labels))})


PIXELS = "uint8 [N, 3, 8, 8] with values 0 to 255"
NOT_AS_THE_CATALOG_SAYS = {
    "another name": (lambda data: replace(data, name="mine"), "its loader calls it 'mine'"),
    "another source": (
        lambda data: replace(data, source="web"),
        "its source is 'web', which the catalog does not have",
    ),
    "more classes": (lambda data: replace(data, classes=4), "4 classes instead of 3, as the catalog has it"),
    "checksums as a list": (
        lambda data: replace(data, checksums=["a"]),
        "checksums are no dictionary from names of files",
    ),
    "a checksum as a number": (
        lambda data: replace(data, checksums={"a": 1}),
        "checksums are no dictionary from names of files",
    ),
    "images in 0..1": (
        with_images(lambda images: images / 255),
        f"train: images are float32 [N, 3, 8, 8] instead of {PIXELS}",
    ),
    "float images in 0..255": (
        with_images(torch.Tensor.double, "test"),
        "test: images are float64 [N, 3, 8, 8] instead",
    ),
    "channels last": (
        with_images(lambda images: images.permute(0, 2, 3, 1)),
        f"train: images are uint8 [N, 8, 8, 3] instead of {PIXELS}",
    ),
    "no channels": (with_images(lambda images: images[:, 0]), "train: images are uint8 [N, 8, 8] instead"),
    "one channel": (with_images(lambda images: images[:, :1]), "train: images are uint8 [N, 1, 8, 8] instead"),
    "other images to test": (
        with_images(lambda images: images[..., :7], "test"),
        "test: images are uint8 [N, 3, 8, 7]",
    ),
    "an array": (with_images(torch.Tensor.numpy), f"train: images are of type ndarray instead of a tensor, {PIXELS}"),
    "labels as an array": (
        with_labels(torch.Tensor.numpy),
        "train: labels are of type ndarray instead of a tensor, int64 [N]",
    ),
    "labels from 1": (with_labels(lambda labels: labels + 1), "train: labels run from 1 to 3 instead of 0 to 2"),
    "labels from -1": (
        with_labels(lambda labels: labels - 1, "test"),
        "test: labels run from -1 to 1 instead of 0 to 2",
    ),
    "labels in tens": (
        with_labels(lambda labels: labels * 10, "validation"),
        "validation: labels run from 0 to 20 instead",
    ),
    "int32 labels": (with_labels(torch.Tensor.int), "train: labels are int32 [N] instead of int64 [N]"),
    "float labels": (with_labels(torch.Tensor.float), "train: labels are float32 [N] instead of int64 [N]"),
    "a column of labels": (
        with_labels(lambda labels: labels[:, None]),
        "train: labels are int64 [N, 1] instead of int64",
    ),
    "one-hot labels": (
        with_labels(lambda labels: torch.eye(3)[labels].long()),
        "train: labels are int64 [N, 3] instead",
    ),
    "labels missing": (with_labels(lambda labels: labels[:7]), "train: 7 labels for 12 images"),
    "no example": (lambda data: replace(data, train=own_split(0)), "train: holds no image"),
    "nothing to select by": (lambda data: replace(data, validation=own_split(0)), "validation: holds no image"),
    "pairs": (lambda data: replace(data, train=[(0, 1)]), "train: is of type list, no split: it has no 'labels'"),
    "one mean": (
        lambda data: replace(data, mean=0.5),
        "mean is of type float instead of a tuple of numbers, one a channel",
    ),
    "too few means": (lambda data: replace(data, mean=(0.5,)), "mean has 1 numbers instead of 3, one a channel"),
    "means of bytes": (lambda data: replace(data, mean=(127.0,) * 3), "mean is (127.0, 127.0, 127.0): in units where"),
    "a deviation that is none": (
        lambda data: replace(data, std=(0.2, math.nan, 0.2)),
        "std is (0.2, nan, 0.2): in units",
    ),
}


@pytest.mark.parametrize("case", NOT_AS_THE_CATALOG_SAYS)
def test_a_data_set_that_is_not_what_its_row_of_the_catalog_says_is_refused_in_one_line(own, load_own, case):
    change, expected = NOT_AS_THE_CATALOG_SAYS[case]
    assert message_of(load_own, change(own)).startswith(f"data set own: {expected}")


def test_a_sound_data_set_of_one_s_own_is_loaded(own, load_own):
    assert torch.equal(load_own(own).train.images, own.train.images)


def test_images_need_not_be_square(own, load_own, monkeypatch):
    monkeypatch.setitem(catalog._FORMS, "own", (replace(OWN, size=(8, 5)),))
    parts = {name: Split(split.images[..., :5], split.labels) for name, split in vars(own).items() if name in SPLITS}
    assert load_own(replace(own, **parts)).shape == (3, 8, 5)
    assert "instead of uint8 [N, 3, 8, 5]" in message_of(lambda: load_own(own))


def test_a_row_of_the_catalog_without_a_module_is_named(own, tmp_path):
    missing = "there is no module layerprune.core.data.own with a function load(root)"
    assert message_of(load, "own", tmp_path) == f"data set own: {missing}"


@pytest.mark.parametrize("value", [0, 37, 255])
def test_a_channel_of_one_value_is_named(own, load_own, value):
    flat = own.train.images.clone()
    flat[:, 1] = value
    mean, std = channel_statistics(flat)
    found = replace(own, train=Split(flat, own.train.labels), mean=mean, std=std)
    assert "channel 1 has one value in all training images" in message_of(load_own, found)
    assert load_own(replace(found, std=(std[0], 1.0, std[2]))).std[1] == 1.0


def test_a_channel_with_one_pixel_that_differs_is_none_of_one_value(own, load_own):
    images = torch.zeros(100_000, 3, 8, 8, dtype=torch.uint8)
    images[7, :, 2, 3] = 1
    train = Split(images, torch.arange(len(images)) % 3)
    load_own(replace(own, train=train, **dict(zip(("mean", "std"), channel_statistics(images), strict=True))))


@dataclass(frozen=True)
class Streamed:
    """A split that makes its batches itself, and must not be asked for any."""

    labels: torch.Tensor
    shape: tuple[int, int, int] = (3, 8, 8)
    device: str = "cpu"

    def __len__(self) -> int:
        return 6

    def to(self, device) -> "Streamed":
        return self

    def take(self, indices: torch.Tensor) -> "Streamed":
        raise AssertionError

    training_batches = evaluation_batches = take


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (Streamed(torch.arange(6) % 4), "train: labels run from 0 to 3 instead of 0 to 2"),
        (Streamed(torch.arange(5) % 3), "train: 5 labels for 6 images"),
        (Streamed(torch.arange(6) % 3, (8, 8, 3)), "train: images are [N, 8, 8, 3] instead of [N, 3, 8, 8]"),
    ],
)
def test_a_streamed_split_is_checked_without_decoding(own, load_own, split, expected):
    assert load_own(replace(own, train=Streamed(torch.arange(6) % 3))).shape == (3, 8, 8)
    assert message_of(load_own, replace(own, train=split)).startswith(f"data set own: {expected}")


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (torch.rand(4, 3, 8, 8), "float32 [4, 3, 8, 8]"),
        (torch.zeros(4, 8, 8, dtype=torch.uint8), "uint8 [4, 8, 8]"),
        (np.zeros((4, 3, 8, 8), np.uint8), "uint8 [4, 3, 8, 8]"),
        ([1], "list"),
    ],
)
def test_the_statistics_of_other_images_are_refused_with_the_data_set_s_name(own, monkeypatch, tmp_path, images, found):
    monkeypatch.setattr(loading, "loader_of", lambda name: lambda root: channel_statistics(images))
    expected = f"data set own: images are {found} instead of uint8 [N, C, H, W], values 0 to 255"
    assert message_of(load, "own", tmp_path) == expected


def test_availability_depends_on_files_or_leave_to_download(tmp_path):
    assert catalog.is_available("digits", tmp_path / "absent", download=False) == (True, "")
    assert catalog.is_available("mnist", tmp_path, download=True) == (True, "")
    available, reason = catalog.is_available("mnist", tmp_path, download=False)
    assert not available and str(tmp_path) in reason and "\n" not in reason


def test_the_catalog_imports_no_torch():
    code = "import sys, layerprune.core.data.catalog; sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


class TestStaging:
    def test_digits_touches_no_folder(self, tmp_path):
        manifest = stage("digits", tmp_path / "absent")
        assert not (tmp_path / "absent").exists()
        assert manifest["sizes"] == {"train": 1237, "validation": 200, "test": 360}
        assert json.loads(json.dumps(manifest)) == manifest

    def test_without_leave_to_download_says_what_is_missing(self, tmp_path):
        assert str(tmp_path) in message_of(stage, "mnist", tmp_path, False)
        assert list(tmp_path.iterdir()) == []

    def test_without_network_says_what_to_do(self, tmp_path, monkeypatch):
        def fail(*_, **__):
            raise RuntimeError("Error downloading\ntrain-images-idx3-ubyte.gz")

        replace_download(monkeypatch, fail)
        message = message_of(stage, "mnist", tmp_path)
        assert "download" in message and "network" in message and str(tmp_path) in message
        assert only_lock(tmp_path)

    def test_leaves_nothing_of_a_download_that_fails_its_checksums(self, tmp_path, monkeypatch):
        replace_download(monkeypatch, lambda root, **_: write_mnist_like(Path(root) / "MNIST/raw"))
        assert "SHA-256" in message_of(stage, "mnist", tmp_path)
        assert only_lock(tmp_path)

    def test_into_a_place_that_is_a_file_says_so(self, tmp_path):
        (tmp_path / "data").write_text("")
        assert str(tmp_path / "data") in message_of(stage, "mnist", tmp_path / "data")


def replace_download(monkeypatch: pytest.MonkeyPatch, download) -> None:
    """Let `download(folder, download=True)` stand in for torchvision's MNIST, which stays unimported."""
    monkeypatch.setitem(sys.modules, "torchvision.datasets", SimpleNamespace(MNIST=download))


def only_lock(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} <= {".mnist.lock"}


@pytest.fixture(scope="module")
def real_root() -> Path:
    root = Path(os.environ.get("LAYERPRUNE_DATA", "data"))
    available, reason = catalog.is_available("mnist", root, download=False)
    if not available:
        pytest.skip(f"real MNIST is absent: {reason}")
    return root


@pytest.fixture(scope="module")
def real_mnist(real_root) -> DataSet:
    return load("mnist", real_root)


@pytest.mark.real_data
class TestRealMnist:
    def test_has_the_published_checksums(self, real_mnist):
        assert {name: real_mnist.checksums[name] for name in catalog.MNIST.sha256} == catalog.MNIST.sha256

    def test_has_55000_5000_and_10000_images(self, real_mnist):
        parts = (real_mnist.train, real_mnist.validation, real_mnist.test)
        assert [part.images.shape for part in parts] == [(size, 1, 28, 28) for size in (55000, 5000, 10000)]

    def test_has_its_known_mean_and_deviation(self, real_mnist):
        assert real_mnist.mean == pytest.approx((0.1307,), abs=2e-4)
        assert real_mnist.std == pytest.approx((0.3081,), abs=2e-4)

    def test_validation_regenerates_and_balances_the_classes_within_one(self, real_root):
        paths = catalog.require(catalog.MNIST, real_root)
        labels = read_idx(paths["train_labels"], 1, {})[0].numpy()
        stored = splits.indices(splits.MNIST_VALIDATION, labels)
        assert stored.tolist() == splits.choose(labels, 5000).tolist()
        assert np.abs(np.bincount(labels[stored]) - np.bincount(labels) / 12).max() <= 1

    def test_download_is_verified_and_moved_into_place_whole(self, real_root, tmp_path, monkeypatch):
        def download(root: str, **_) -> None:
            raw = Path(root) / "MNIST/raw"
            raw.mkdir(parents=True)
            for path in catalog.require(catalog.MNIST, real_root).values():
                shutil.copy(path, raw / path.name)

        replace_download(monkeypatch, download)
        manifest = stage("mnist", tmp_path / "new")
        assert manifest["sizes"] == {"train": 55000, "validation": 5000, "test": 10000}
        assert {path.name for path in (tmp_path / "new").iterdir()} <= {".mnist.lock", "mnist"}
        replace_download(monkeypatch, None)
        assert stage("mnist", tmp_path / "new") == manifest

    def test_staging_from_a_folder_that_holds_it_writes_nothing(self, real_root):
        before = sorted(real_root.rglob("*"))
        assert stage("mnist", real_root)["source"] == "mnist"
        assert sorted(real_root.rglob("*")) == before
