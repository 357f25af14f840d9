"""ImageNet's two forms: images in their files, decoded while needed, and an excerpt decoded once into memory."""

import errno
import io
import os
import shutil
import signal
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from layerprune.core.data import catalog, stage
from layerprune.core.data.batches import training_batches
from layerprune.core.data.loading import Reading, load
from layerprune.core.networks.storage import read_weights
from layerprune.core.settings import TrainingSettings
from layerprune.core.training.loop import Trainer
from layerprune.errors import LayerpruneError, SettingError
from layerprune.suite import config
from layerprune.suite import run as running
from layerprune.system import paths
from layerprune.system.paths import RunKey
from layerprune.system.processes import Preempted

CLASSES = ("n01", "n02", "n03")
SIDE = 32
STREAMED = replace(catalog.IMAGENET, classes=3, size=SIDE, train=48, held_out_divisor=5)
TINY = replace(catalog.IMAGENET_TINY40, classes=3, size=SIDE, train=48, held_out_divisor=5)
FROM_FILES, IN_MEMORY = Reading("imagenet"), Reading("imagenet-tiny40")


def jpeg(label: int, number: int, size: int = SIDE) -> bytes:
    """Noise around a brightness that tells the class."""
    random = np.random.default_rng([label, number])
    pixels = (random.integers(0, 60, (size, size, 3)) + 90 * label).clip(0, 255).astype(np.uint8)
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "jpeg", quality=95)
    return packed.getvalue()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study whose data folder has both forms of an ImageNet with three classes of 20 and 4 images."""
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    monkeypatch.delenv("LAYERPRUNE_DATA", raising=False)
    monkeypatch.setitem(catalog._FORMS, "imagenet", (STREAMED, TINY))
    for form in ("imagenet", "imagenet-tiny40"):
        for part, count in (("train", 20), ("val", 4)):
            for label, name in enumerate(CLASSES):
                folder = tmp_path / "data" / form / part / name
                folder.mkdir(parents=True)
                for number in range(count):
                    (folder / f"{name}_{number}.JPEG").write_bytes(jpeg(label, number + 100 * (part == "val")))
    return tmp_path


def data_root(root: Path) -> Path:
    return root / "data"


@pytest.mark.parametrize("reading", [FROM_FILES, IN_MEMORY], ids=["from files", "in memory"])
def test_both_forms_are_split_alike(root: Path, reading: Reading) -> None:
    data = load("imagenet", data_root(root), reading=reading)
    assert (data.name, data.source, data.classes, data.shape) == ("imagenet", reading.source, 3, (3, SIDE, SIDE))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [48, 12, 12]
    for part, count in ((data.train, 16), (data.validation, 4), (data.test, 4)):
        assert torch.bincount(part.labels).tolist() == [count] * 3


def test_training_and_validation_share_no_file(root: Path) -> None:
    data = load("imagenet", data_root(root), reading=FROM_FILES)
    training, validation = ({*part.images.names.tolist()} for part in (data.train, data.validation))
    assert len(training | validation) == 60 and not training & validation


def test_the_first_form_that_is_there_is_taken_unless_one_is_asked_for(root: Path) -> None:
    assert load("imagenet", data_root(root)).source == "imagenet"
    (data_root(root) / "imagenet").rename(root / "elsewhere")
    assert load("imagenet", data_root(root)).source == "imagenet-tiny40"
    with pytest.raises(LayerpruneError, match="imagenet needs"):
        load("imagenet", data_root(root), reading=FROM_FILES)
    with pytest.raises(LayerpruneError, match=r"source 'imagenet-21k' is unknown \(known: imagenet, imagenet-tiny40\)"):
        load("imagenet", data_root(root), reading=Reading("imagenet-21k"))


def test_what_is_absent_is_left_out_not_downloaded(root: Path) -> None:
    assert catalog.is_available("imagenet", data_root(root), download=True, source="imagenet") == (True, "")
    (data_root(root) / "imagenet").rename(root / "elsewhere")
    available, why = catalog.is_available("imagenet", data_root(root), download=True, source="imagenet")
    assert not available and str(data_root(root)) in why and "\n" not in why


def test_a_wrong_number_of_classes_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog._FORMS, "imagenet", (replace(STREAMED, classes=1000), TINY))
    with pytest.raises(LayerpruneError, match=r"train/ holds 3 classes instead of 1000"):
        load("imagenet", data_root(root), reading=FROM_FILES)


def test_the_augmentations_of_one_form_are_refused_for_the_other(root: Path) -> None:
    streamed, in_memory = (load("imagenet", data_root(root), reading=each) for each in (FROM_FILES, IN_MEMORY))
    with pytest.raises(SettingError, match="'crop-flip' is for images in memory"):
        training_batches(streamed, TrainingSettings(batch_size=8, augment="crop-flip"), 0, "cpu")
    with pytest.raises(SettingError, match="'resized-crop' is for streamed images; for these, in memory, there"):
        training_batches(in_memory, TrainingSettings(batch_size=8, augment="resized-crop"), 0, "cpu")
    for views in ({"crop": 2}, {"flip": "alternating"}):
        with pytest.raises(SettingError, match="are for images in memory"):
            training_batches(streamed, TrainingSettings(augment="resized-crop", **views), 0, "cpu")


# --- damage -----------------------------------------------------------------------------------------------------


def spoil(root: Path, form: str, content: bytes = b"a page of an error") -> Path:
    path = data_root(root) / form / "train" / "n02" / "n02_3.JPEG"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("content", [b"a page of an error", jpeg(1, 3)[:200], jpeg(1, 3, size=16)])
def test_a_damaged_image_of_the_excerpt_stops_or_is_left_out_and_told(
    root: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = spoil(root, "imagenet-tiny40", content)
    for _ in range(2):  # decoded, then kept
        with pytest.raises(LayerpruneError, match="not a sound image") as caught:
            load("imagenet", data_root(root), reading=IN_MEMORY)
        assert str(path) in str(caught.value)
        data = load("imagenet", data_root(root), reading=IN_MEMORY._replace(bad_images="skip"))
        assert len(data.train) + len(data.validation) == 59 and list(data.left_out) == ["train/n02/n02_3.JPEG"]
        assert str(path) in caplog.messages[-1]


def test_an_excerpt_that_changed_is_decoded_anew(root: Path) -> None:
    before = load("imagenet", data_root(root), reading=IN_MEMORY)
    spoil(root, "imagenet-tiny40", jpeg(1, 77))
    after = load("imagenet", data_root(root), reading=IN_MEMORY)
    assert before.checksums != after.checksums


# --- runs -------------------------------------------------------------------------------------------------------

PRESET = """
training: {duration: 2ep, batch_size: 12, lr: 0.02, lr_batch: 24, schedule: thirds, precision: bf16}
finetune: {duration: 1ep}
datasets:
  imagenet:
    source: imagenet
    training: {augment: resized-crop}
    archs:
      imagenet-resnet-18: {model: {width: 4}}
    methods:
      dense: {}
      gated: {settings: {nu: 10.0, warmup: 2it, check_interval: 2, checks: 1, theta_lr: 1.0}}
      taylor: {settings: {keep: 5, sample: 24}}
resources: {workers: 1}
data: {bad_images: skip}
"""


def test_a_run_from_files_end_to_end(root: Path) -> None:
    name = spoil(root, "imagenet")
    paths.preset_file("study").parent.mkdir()
    paths.preset_file("study").write_text(PRESET)
    keys = [
        RunKey("study", "imagenet", "imagenet-resnet-18", each, "default", 0) for each in ("dense", "gated", "taylor")
    ]
    made = [running.run(key, "cpu", 1, lambda *_: None, lambda _: None) for key in keys]
    assert [sum(each.keep) for each in made] == [8, 0, 5]
    for each in made:
        assert each.data_source == "imagenet" and each.test_accuracy is not None and each.equivalence_gap < 1e-3
        assert list(each.details["images_left_out"]) == [str(name)]
        assert each.test_top5_accuracy is None  # three classes
    assert made[0].steps_total == 8 and made[0].epochs == 2


DISTURBED = RunKey("study", "imagenet", "imagenet-resnet-18", "gated", "default", 0)


@pytest.fixture
def undisturbed(root: Path) -> dict[str, str]:
    """The digests of DISTURBED's weights and curves had nothing come between; none of its files."""
    paths.preset_file("study").parent.mkdir()
    paths.preset_file("study").write_text(PRESET.replace("nu: 10.0", "nu: 0.1").replace("2ep", "3ep"))
    running.run(DISTURBED, "cpu", 1, lambda *_: None, lambda _: None)
    try:
        return outcome()
    finally:
        shutil.rmtree(paths.run_folder(DISTURBED))


def outcome() -> dict[str, object]:
    """What a run leaves, but for the times."""
    curves = pd.read_csv(paths.curves(DISTURBED)).drop(columns="wall_seconds")
    weights = read_weights(paths.weights(DISTURBED))
    return {"curves": curves.to_csv(), "weights": {name: value.tolist() for name, value in weights.items()}}


@pytest.fixture
def at_step_six(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Lets something happen once, in the second of three epochs of four steps."""

    def plan(happening: Callable[[], None]) -> None:
        step, left = Trainer._step, [happening]

        def disturbed(trainer: Trainer, *batch: torch.Tensor) -> torch.Tensor:
            if trainer.progress.step == 5 and left:
                left.pop()()
            return step(trainer, *batch)

        monkeypatch.setattr(Trainer, "_step", disturbed)

    return plan


def test_told_to_end_within_an_epoch_of_files_it_goes_on_from_that_step(
    root: Path, undisturbed: dict, at_step_six: Callable
) -> None:
    at_step_six(lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Preempted, match=r"state\.pt: told to end \(SIGTERM\), state written"):
        running.run(DISTURBED, "cpu", 1, lambda *_: None, lambda _: None)
    made = running.run(DISTURBED, "cpu", 1, lambda *_: None, lambda _: None)
    assert made.resumed == 1 and outcome() == undisturbed


def test_a_disk_that_fills_up_under_a_run_from_files_is_said_and_the_run_made_again_with_room(
    root: Path, undisturbed: dict, at_step_six: Callable
) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as full:
        at_step_six(lambda: (full.setattr(os, "fsync", no_room), os.kill(os.getpid(), signal.SIGTERM)))
        with pytest.raises(LayerpruneError, match=r"state\.pt: cannot write: "):
            running.run(DISTURBED, "cpu", 1, lambda *_: None, lambda _: None)
    running.run(DISTURBED, "cpu", 1, lambda *_: None, lambda _: None)
    assert outcome() == undisturbed


def test_the_manifest_says_what_is_there(root: Path) -> None:
    manifest = stage("imagenet", data_root(root), reading=FROM_FILES)
    assert manifest["source"] == "imagenet" and manifest["shape"] == [3, SIDE, SIDE]
    assert manifest["sizes"] == {"train": 48, "validation": 12, "test": 12}
    (data_root(root) / "imagenet" / "train" / "n01" / "n01_9.JPEG").unlink()
    assert stage("imagenet", data_root(root), reading=FROM_FILES)["checksums"] != manifest["checksums"]


def test_a_source_that_a_preset_misspells_is_named() -> None:
    raw = {"datasets": {"imagenet": {"source": "tiny40", "archs": {}}}}
    with pytest.raises(LayerpruneError, match=r"datasets.imagenet.source: 'tiny40' is unknown"):
        config.parse_preset(raw, "study.yaml")


@pytest.mark.real_data("imagenet-tiny40.tar.gz")
def test_the_real_excerpt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    data = load("imagenet", Path(os.environ["LAYERPRUNE_DATA"]), reading=IN_MEMORY)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [18_000, 2_000, 2_000]
    assert data.shape == (3, 64, 64) and data.classes == 40 and not data.left_out
    assert len(data.train) == catalog.IMAGENET_TINY40.train


def test_top5_is_said_where_there_are_many_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    from networks import images

    from layerprune.core.data.dataset import DataSet, Split
    from layerprune.core.training.evaluate import evaluate

    class Ranked(torch.nn.Module):
        """Likes class 0 best, then 1, 2, ..."""

        def forward(self, x: torch.Tensor, gates: None) -> torch.Tensor:
            return -torch.arange(20.0).expand(len(x), 20)

    x = (images(40) * 0).to(torch.uint8)
    split = Split(x, torch.arange(40) % 20)
    data = DataSet("made", "made", 20, split, split, split, (0.5,), (0.5,), {})
    score = evaluate(Ranked(), data, split)
    assert (score.accuracy, score.top5) == (1 / 20, 5 / 20)
    assert evaluate(Ranked(), replace(data, classes=10), split).top5 is None


@pytest.mark.real_data("imagenet-fullsize60.tar")
def test_a_run_on_real_images_of_full_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe of `paper` in little: streamed from a tar, decoded by two workers, cut to 224, bf16, gates and all."""
    with tarfile.open(Path(os.environ["LAYERPRUNE_DATA"]) / "imagenet-fullsize60.tar") as archive:
        contents = [archive.extractfile(each).read() for each in archive if each.isfile()]
    (tmp_path / "data" / "imagenet").mkdir(parents=True)
    for part, chosen in (("train", contents[:48]), ("val", contents[48:])):
        with tarfile.open(tmp_path / "data" / "imagenet" / f"{part}.tar", "w") as packed:
            for number, content in enumerate(chosen):
                member = tarfile.TarInfo(f"{part}/n0{number % 4}/{number}.JPEG")
                member.size = len(content)
                packed.addfile(member, io.BytesIO(content))
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    monkeypatch.delenv("LAYERPRUNE_DATA")
    form = replace(catalog.IMAGENET, classes=4, train=36, held_out_divisor=4)
    monkeypatch.setitem(catalog._FORMS, "imagenet", (form,))
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "full.yaml").write_text(FULL_SIZE)
    made = running.run(
        RunKey("full", "imagenet", "imagenet-resnet-18", "gated", "default", 0),
        "cpu",
        1,
        lambda *_: None,
        lambda _: None,
    )
    assert (made.steps_total, made.data_source) == (3, "imagenet")
    assert made.macs_dense == 1_814_073_344 - 996 * 512  # torchvision's at 224 x 224, with 4 classes instead of 1000
    assert made.val_accuracy is not None and made.test_accuracy is not None and made.equivalence_gap < 0.1


FULL_SIZE = """
training: {duration: 1ep, batch_size: 16, lr: 0.01, precision: bf16, augment: resized-crop, schedule: thirds}
resources: {workers: 2}
datasets:
  imagenet:
    decoder: torchvision
    archs: {imagenet-resnet-18: {model: {removable: shape-preserving}}}
    methods: {gated: {settings: {nu: 0.02, warmup: 1it, drawn_share: 0.5, side_floor: 1.0}}}
"""
