"""Images decoded while training goes on: every one once, the same views whoever decodes them, damage told by name."""

import gzip
import io
import os
import signal
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar_helpers import add
from PIL import Image
from torchvision import transforms

from layerprune.core.data.class_folders import Images, read_index, unpacked
from layerprune.core.data.streaming import EvaluationStream, TrainingStream
from layerprune.core.data.views import DECODERS, EvaluationView, TrainingView, Unreadable
from layerprune.errors import LayerpruneError
from layerprune.system.process_group import ProcessGroup

CLASSES = ("n01", "n02", "n03")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def jpeg(value: int, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> bytes:
    """An image (width, height) of noise around a brightness."""
    random = np.random.default_rng(value)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    pixels = (random.integers(0, 40, shape) + value).clip(0, 255).astype(np.uint8)
    packed = io.BytesIO()
    Image.fromarray(pixels, mode).save(packed, "jpeg", quality=95)
    return packed.getvalue()


def write_tree(folder: Path, train: int = 7, val: int = 2) -> Path:
    """A tree in which the brightness tells the class."""
    for part, count in (("train", train), ("val", val)):
        for label, name in enumerate(CLASSES):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                (folder / part / name / f"{name}_{number}.JPEG").write_bytes(jpeg(70 * label + number))
    return folder


def pack(tree: Path, path: Path, around: str = "") -> Path:
    """The tree as a plain tar file, its members in an order of no meaning."""
    with tarfile.open(path, "w") as archive:
        for file in sorted(tree.rglob("*.JPEG"), key=lambda each: each.name[::-1]):
            archive.add(file, around + file.relative_to(tree).as_posix())
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "images")


@pytest.fixture
def images(tree: Path) -> Images:
    return read_index(tree)["train"]


def training(images: Images, batch_size: int = 4, seed: int = 0, **options: object) -> TrainingStream:
    return TrainingStream(images, 16, MEAN, STD, batch_size, seed=seed, **options)


def epoch(stream: TrainingStream, number: int = 0, start: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(stream.epoch(number, start))


def same(one: list, other: list) -> bool:
    return len(one) == len(other) and all(
        torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(one, other, strict=True)
    )


# --- where they lie -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("around", ["", "./"])
def test_a_folder_and_a_tar_are_one_tree(tree: Path, tmp_path: Path, around: str) -> None:
    folder, archive = read_index(tree), read_index(pack(tree, tmp_path / "images.tar", around))
    for part, count in (("train", 21), ("val", 6)):
        there, packed = folder[part], archive[part]
        assert there.classes == packed.classes == CLASSES and len(there) == len(packed) == count
        assert there.labels.tolist() == packed.labels.tolist() == sorted(packed.labels.tolist())
        assert [there.content(place) for place in range(count)] == [packed.content(place) for place in range(count)]
        assert [Path(there.where(place)).name for place in range(count)] == [
            Path(packed.where(place)).name for place in range(count)
        ]


def test_a_compressed_tar_is_unpacked_for_a_while(tree: Path, tmp_path: Path) -> None:
    plain, packed = pack(tree, tmp_path / "images.tar"), tmp_path / "images.tar.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    with unpacked(packed) as copy:
        assert len(read_index(copy)["train"]) == 21
    assert not copy.exists()
    for there in (tree, plain):
        with unpacked(there) as same_place:
            assert same_place == there


def test_a_truncated_compressed_tar_is_named(tree: Path, tmp_path: Path) -> None:
    packed = tmp_path / "images.tar.gz"
    packed.write_bytes(gzip.compress(pack(tree, tmp_path / "images.tar").read_bytes())[:-100])
    with pytest.raises(LayerpruneError, match=r"images\.tar\.gz: not a sound gzip archive"), unpacked(packed):
        pass


def test_what_an_unpacked_copy_lacks_is_said_of_the_compressed_file(tree: Path, tmp_path: Path) -> None:
    packed = tmp_path / "images.tar.gz"
    packed.write_bytes(gzip.compress(pack(tree / "train", tmp_path / "images.tar").read_bytes()))
    with pytest.raises(LayerpruneError, match=f"^{packed}: has no folder train/"), unpacked(packed) as copy:
        read_index(copy)


def test_a_tree_may_lie_in_a_folder_of_its_own(tree: Path, tmp_path: Path) -> None:
    around = read_index(pack(tree, tmp_path / "images.tar", "of-somebody/"))["val"]
    plain = read_index(tree)["val"]
    assert [around.content(place) for place in range(6)] == [plain.content(place) for place in range(6)]


def test_a_tree_in_another_folder_is_not_mixed_with_the_one_at_the_top(tree: Path) -> None:
    write_tree(tree / "backup", train=9)
    assert len(read_index(tree)["train"]) == 21


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tree: [each.unlink() for each in (tree / "val" / "n02").iterdir()], "val/n02 holds no images"),
        (lambda tree: (tree / "val" / "n02").rename(tree / "n02"), r"val/ has no folder for class 'n02'"),
        (lambda tree: (tree / "train" / "n01").rename(tree / "n01"), r"train/ has no folder for class 'n01'"),
        (lambda tree: (tree / "val").rename(tree / "test"), r"has no folder val/"),
    ],
    ids=["empty class", "class missing in val", "class missing in train", "no val"],
)
def test_a_tree_that_is_not_whole_is_named(tree: Path, damage, message: str) -> None:
    damage(tree)
    with pytest.raises(LayerpruneError, match=f"{tree}: .*{message}"):
        read_index(tree)


@pytest.mark.parametrize("name", ["../train/n01/x.JPEG", "/train/n01/x.JPEG", "train/../../x.JPEG"])
def test_a_member_that_leads_out_of_the_archive_is_refused(tree: Path, tmp_path: Path, name: str) -> None:
    archive = pack(tree, tmp_path / "images.tar")
    with tarfile.open(archive, "a") as opened:
        add(opened, name, jpeg(0))
    with pytest.raises(LayerpruneError, match=r"images\.tar: '.*x\.JPEG' leads out of the archive: refused"):
        read_index(archive)


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100])
def test_a_file_that_is_no_tar_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "images.tar").write_bytes(content)
    with pytest.raises(LayerpruneError, match=r"images\.tar: not a sound tar archive"):
        read_index(tmp_path / "images.tar")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LayerpruneError, match=r"none\.tar: no such folder or tar file"):
        read_index(tmp_path / "none.tar")


# --- views ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", range(5))
def test_a_training_view_is_that_of_the_reference_recipe(key: int) -> None:
    content = jpeg(100, (300, 200))
    recipe = transforms.Compose(
        [transforms.RandomResizedCrop(64), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
    )
    torch.manual_seed(key)
    expected = recipe(Image.open(io.BytesIO(content)))
    torch.manual_seed(99)
    assert torch.equal(TrainingView(64)(content, key), expected)
    after = torch.rand(3)
    torch.manual_seed(99)
    assert torch.equal(after, torch.rand(3))  # the view drew nothing from whoever else draws


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (50, 400)])
def test_an_evaluation_view_is_that_of_the_reference_recipe(size: tuple[int, int]) -> None:
    content = jpeg(100, size)
    recipe = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()])
    assert torch.equal(EvaluationView(224)(content), recipe(Image.open(io.BytesIO(content))))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_images_without_colours_become_colour(mode: str) -> None:
    content = jpeg(100, mode=mode)
    assert TrainingView(16)(content, 0).shape == EvaluationView(16)(content).shape == (3, 16, 16)


@pytest.mark.parametrize("content", [b"", b"text", jpeg(0)[:-200]], ids=["empty", "text", "truncated"])
def test_damage_has_a_reason_of_one_line(content: bytes) -> None:
    answer = EvaluationView(16)(content)
    assert isinstance(answer, Unreadable) and answer.reason and "\n" not in answer.reason and "0x" not in answer.reason


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("view", [TrainingView, EvaluationView])
def test_both_decoders_see_the_same_but_for_rounding(view: type, mode: str) -> None:
    content = jpeg(100, (300, 200), mode)
    for key in range(5):
        one, other = (view(64, decoder)(content, key).int() for decoder in DECODERS)
        assert other.shape == (3, 64, 64) and (one - other).abs().max() <= 2


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_what_is_no_jpeg_is_decoded_all_the_same(kind: str) -> None:
    packed = io.BytesIO()
    Image.open(io.BytesIO(jpeg(100))).convert("L").save(packed, kind)
    one, other = (EvaluationView(16, decoder)(packed.getvalue()).int() for decoder in DECODERS)
    assert one.shape == (3, 16, 16) and (one - other).abs().max() <= 2


@pytest.mark.parametrize("content", [b"", b"text", jpeg(0)[:-200]], ids=["empty", "text", "truncated"])
def test_both_decoders_tell_of_damage_alike(content: bytes) -> None:
    one, other = (EvaluationView(16, decoder)(content) for decoder in DECODERS)
    assert isinstance(one, Unreadable) and one == other


# --- batches --------------------------------------------------------------------------------------------------


def test_an_epoch_has_every_image_once_and_a_ragged_end(images: Images) -> None:
    stream = training(images)
    batches = epoch(stream)
    assert [len(y) for _, y in batches] == [4, 4, 4, 4, 4, 1] and stream.steps_per_epoch == 6
    assert Counter(torch.cat([y for _, y in batches]).tolist()) == {0: 7, 1: 7, 2: 7}
    assert batches[0][0].shape == (4, 3, 16, 16) and batches[0][0].dtype == torch.float32


def test_brightness_still_tells_the_class_after_normalisation(images: Images) -> None:
    for x, y in epoch(training(images)):
        mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
        brightness = ((x * std + mean) * 255).mean((1, 2, 3))
        assert ((brightness - (70 * y + 23)).abs() < 12).all()  # the noise is 20 on average, the number up to 6


def test_seeds_and_epochs_differ_and_repeat(images: Images) -> None:
    first = epoch(training(images))
    assert same(first, epoch(training(images)))
    assert not same(first, epoch(training(images), 1)) and not same(first, epoch(training(images, seed=1)))


def test_an_epoch_goes_on_from_any_step(images: Images) -> None:
    whole = epoch(training(images), 3)
    assert same(whole[2:], epoch(training(images), 3, start=2))


def test_workers_change_nothing_and_serve_the_next_epoch_after_one_that_was_left(images: Images) -> None:
    alone, helped = training(images), training(images, workers=2)
    assert same(epoch(alone), epoch(helped))
    next(iter(helped.epoch(1)))  # and no further
    assert same(epoch(alone, 2), epoch(helped, 2))


def test_evaluation_counts_every_image_once_in_order(tree: Path) -> None:
    stream = EvaluationStream(read_index(tree)["val"], 16, MEAN, STD, 4)
    for _ in range(2):
        assert torch.cat([y for _, y in stream]).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_stops_the_run_with_its_name(tree: Path, workers: int) -> None:
    damaged = tree / "train" / "n02" / "n02_3.JPEG"
    damaged.write_bytes(damaged.read_bytes()[:300])
    with pytest.raises(LayerpruneError, match=r"n02/n02_3\.JPEG: not a sound image: Truncated File Read") as caught:
        epoch(training(read_index(tree)["train"], workers=workers))
    assert "\n" not in str(caught.value)


def spoil(tree: Path, *names: str) -> None:
    for name in names:
        (tree / "train" / name[:3] / f"{name}.JPEG").write_bytes(b"a page of an error")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_can_be_left_out_is_told_and_another_takes_its_place(
    tree: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    whole = epoch(training(read_index(tree)["train"], 4))
    (tree / "train" / "n01" / "n01_0.JPEG").write_bytes(b"")
    spoil(tree, "n02_3")
    stream = training(read_index(tree)["train"], 4, workers=workers, bad_images="skip")
    batches = epoch(stream)
    assert [len(y) for _, y in batches] == [len(y) for _, y in whole] == [4, 4, 4, 4, 4, 1]
    pairs = zip(torch.cat([x for x, _ in whole]), torch.cat([x for x, _ in batches]), strict=True)
    assert [torch.equal(one, other) for one, other in pairs].count(False) == 2
    assert sorted(Path(name).name for name in stream.left_out) == ["n01_0.JPEG", "n02_3.JPEG"]
    assert all(stream.left_out.values())
    epoch(stream)
    assert len(caplog.messages) == 2 and all(message.startswith("left out: ") for message in caplog.messages)


def test_in_evaluation_what_is_left_out_is_counted_nowhere(tree: Path) -> None:
    spoil(tree, "n01_0", "n02_3")
    stream = EvaluationStream(read_index(tree)["train"], 16, MEAN, STD, 4, bad_images="skip")
    assert Counter(torch.cat([y for _, y in stream]).tolist()) == {0: 6, 1: 6, 2: 7}


def test_a_batch_without_a_sound_image_stops_the_run(tree: Path) -> None:
    spoil(tree, *(f"n0{label}_{number}" for label in (1, 2, 3) for number in range(7)))
    with pytest.raises(LayerpruneError, match="no sound image in a batch of 4"):
        epoch(training(read_index(tree)["train"], 4, bad_images="skip"))


def test_processes_that_share_a_run_decode_each_image_of_a_batch_once(tree: Path) -> None:
    images = read_index(tree)["train"]
    whole = epoch(training(images, 7))
    parts = [epoch(training(images, 7, group=ProcessGroup(rank, 2))) for rank in range(2)]
    for (x, y), (first, firsts), (second, seconds) in zip(whole, *parts, strict=True):
        assert torch.equal(x[0::2], first) and torch.equal(x[1::2], second)
        assert torch.equal(y[0::2], firsts) and torch.equal(y[1::2], seconds)


def test_an_image_that_vanished_is_named(images: Images) -> None:
    (images.root / "train" / "n01" / "n01_2.JPEG").unlink()
    with pytest.raises(LayerpruneError, match=r"n01_2\.JPEG: not a sound image: No such file"):
        epoch(training(images))


def test_a_worker_that_is_killed_is_one_line(images: Images) -> None:
    stream = training(images, batch_size=1, workers=1)
    batches = stream.epoch(0)
    next(batches)
    (worker,) = stream._loader._iterator._workers
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(LayerpruneError, match="a process that decodes images died") as caught:
        list(batches)
    assert "\n" not in str(caught.value)


def test_what_a_training_step_raises_passes_unchanged(images: Images) -> None:
    with pytest.raises(RuntimeError, match="shapes differ"):
        for _ in training(images).epoch(0):
            raise RuntimeError("shapes differ")


@pytest.mark.parametrize("around", ["{part}/", "./{part}/", ""], ids=["part", "dot", "bare"])
def test_two_tar_files_are_the_tree_that_was_packed(tree: Path, tmp_path: Path, around: str) -> None:
    (tmp_path / "packed").mkdir()
    for part in ("train", "val"):
        pack(tree / part, tmp_path / "packed" / f"{part}.tar", around.format(part=part))
    ours, theirs = read_index(tmp_path / "packed"), read_index(tree)
    for part in ("train", "val"):
        assert ours[part].classes == theirs[part].classes
        assert ours[part].labels.tolist() == theirs[part].labels.tolist()
        assert [*map(ours[part].content, range(len(ours[part])))] == [
            *map(theirs[part].content, range(len(ours[part])))
        ]


def test_one_tar_file_of_two_that_is_damaged_is_named(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    pack(tree / "train", tmp_path / "packed" / "train.tar")
    (tmp_path / "packed" / "val.tar").write_bytes(b"a page of an error")
    with pytest.raises(LayerpruneError, match=r"val\.tar: not a sound tar archive"):
        read_index(tmp_path / "packed")


# --- real images ----------------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Path:
    return Path(os.environ["LAYERPRUNE_DATA"])


@pytest.mark.real_data("imagenet-tiny40.tar.gz")
def test_real_images_of_forty_classes_are_read_in_place(real: Path) -> None:
    with unpacked(real / "imagenet-tiny40.tar.gz") as copy:
        index = read_index(copy)
        x, y = next(iter(TrainingStream(index["train"], 64, MEAN, STD, 128, seed=0).epoch(0)))
    assert {part: len(images) for part, images in index.items()} == {"train": 20_000, "val": 2_000}
    assert len(index["train"].classes) == 40 and np.bincount(index["val"].labels).tolist() == [50] * 40
    assert x.shape == (128, 3, 64, 64) and len(set(y.tolist())) > 20


@pytest.mark.real_data("imagenet-fullsize60.tar")
def test_real_images_of_full_size_go_through_the_pipeline_of_224(real: Path) -> None:
    with tarfile.open(real / "imagenet-fullsize60.tar") as archive:
        contents = [archive.extractfile(each).read() for each in archive if each.isfile()]
    assert len(contents) == 60
    for key, content in enumerate(contents):
        for view in (TrainingView, EvaluationView):
            one, other = (view(224, decoder)(content, key).float() for decoder in DECODERS)
            assert one.shape == other.shape == (3, 224, 224)
            assert (one - other).abs().mean() < 0.5
