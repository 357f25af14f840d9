"""Presets that would fill the memory or the screen, and settings that make no sense: one short line, at once."""

import time
from itertools import pairwise
from pathlib import Path

import pytest
from test_bad_input import PRESET, write_preset

from layerprune.core.networks import known_archs, number_problem
from layerprune.core.networks.build import _module
from layerprune.errors import LayerpruneError
from layerprune.suite import config

LAUGHS = "description: {lol}\n" + PRESET


def laughs(kind: str) -> str:
    """Nine levels of nine aliases each, as lists or as maps."""
    names = "abcdefghi"
    lines = ["a: &a [lol, lol]"] if kind == "lists" else ["a: &a {x: lol}"]
    for before, name in pairwise(names):
        many = [f"*{before}"] * 9
        listed = ", ".join(many if kind == "lists" else [f"k{number}: {each}" for number, each in enumerate(many)])
        lines.append(f"{name}: &{name} " + (f"[{listed}]" if kind == "lists" else f"{{{listed}}}"))
    return "description:\n" + "".join(f"  {line}\n" for line in lines)


HUGE = {
    "billion laughs": (laughs("lists"), "aliases make more than 100,000 values of it"),
    "billion laughs of maps": (laughs("maps"), "aliases make more than 100,000 values of it"),
    "an alias of itself": ("description: &a [*a]\n", "an alias stands within what it names"),
    "a list as a key": ("? [1, 2]\n: 3\n", "line 1: a key that is no text"),
    "a map as a key": ("description: {? {a: 1} : 2}\n", "line 1: a key that is no text"),
    "5,000 digits": (f"seeds: [{'9' * 5000}]\n", "not valid YAML: Exceeds the limit"),
    "400 digits": (f"seeds: [{'9' * 400}]\n", "seeds.0: Input should be less than 2147483648"),
    "3,000 nested lists": (f"description: {'[' * 3000}{']' * 3000}\n", "nested too deeply"),
    "50 nested lists": (f"description: {'[' * 50}{']' * 50}\n", "nested too deeply"),
    "a value of pages": (f"description: {'x' * 20_000}\n", "a value of 20,000 characters"),
    "a long wrong value": (f"resources: {{threads: {'x' * 9_000}}}\n", "resources.threads: Input should be a valid"),
    "a long list": (f"resources: {{threads: [{'1, ' * 9_000}]}}\n", "resources.threads: Input should be a valid"),
    "a long key": (f"{'x' * 900}: 1\n", ": unknown key"),
    "a long name": (f"datasets: {{{'x' * 900}: {{}}}}\n", "datasets.xxx"),
    "very many seeds": (f"seeds: [{', '.join(map(str, range(20_001)))}]\n", "seeds: Tuple should have at most 20000"),
    "very many runs": (
        PRESET.replace("seeds: [0]", f"seeds: [{', '.join(map(str, range(10_000)))}]").replace(
            "      dense: {}\n ",
            f"      dense: {{variants: {{{', '.join(f'v{each}: {{}}' for each in range(20))}}}}}\n ",
        ),
        "study.yaml: more than 200,000 runs",
    ),
    "megabytes": ("#" * 3_000_000 + "\n", "too large: 3,000,"),
    "no such day": ("description: 2024-13-45\n", "not valid YAML: month must be in 1..12"),
    "a tag of its own": ("description: !!binary aGk=\n", "description: Input should be a valid string"),
    "half a character": ('description: "\\uD800"\n', "line 1: half a character"),
    "half a character as a key": ('"\\uD800": 1\n', "line 1: half a character"),
    "controls": ("description: \x07\n", "not valid YAML"),
}


def said(root: Path, text: str) -> str:
    path = write_preset(root, text)
    start = time.process_time()
    with pytest.raises(LayerpruneError) as error:
        config.load_preset("study")
    assert time.process_time() - start < 5
    line = str(error.value)
    assert line.startswith(f"{path}: ") and "\n" not in line and len(line) < len(str(path)) + 700
    return line


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("case", HUGE)
def test_what_is_huge_ends_at_once_in_a_short_line(root: Path, case: str) -> None:
    text, expected = HUGE[case]
    assert expected in said(root, text)


def test_a_preset_that_is_no_file_is_named(root: Path) -> None:
    path = write_preset(root, PRESET)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(LayerpruneError, match=r"study\.yaml: no such preset|not a regular file"):
        config.load_preset("study")


NONSENSE = {
    "a price in quotes": ("nu: 0.001", "nu: '20'", "gated.settings.nu: Input should be a valid number, not '20'"),
    "a step that is true": ("nu: 0.001", "theta_lr: true", "gated.settings.theta_lr: Input should be a valid number"),
    "a rate in quotes": ("lr: 0.05", "lr: '0.05'", "training.lr: Input should be a valid number, not '0.05'"),
    "a switch as a number": ("lr: 0.05", "lr: 0.05, nesterov: 1", "training.nesterov: Input should be a valid boolean"),
    "a switch in quotes": ("{download: false}", "{download: 'no'}", "data.download: Input should be a valid boolean"),
    "a seed twice": ("seeds: [0]", "seeds: [0, 0]", "seeds: 0 appears twice"),
    "no seed": ("seeds: [0]", "seeds: []", "seeds: Tuple should have at least 1 item"),
    "no seed of a method": ("dense: {}\n ", "dense: {seeds: []}\n ", "dense.seeds: Tuple should have at least 1 item"),
    "only nothing": (
        "archs: {lenet-300-100: {}}\n    methods:\n",
        "archs: {lenet-300-100: {only: []}}\n    methods:\n",
        "lenet-300-100.only: Tuple should have at least 1 item",
    ),
    "no training": ("duration: 1ep, b", "duration: 0ep, b", "training.duration: String should match pattern"),
    "a long training": ("duration: 1ep, b", "duration: 99999999999ep, b", "training.duration: String should match"),
    "no fine-tuning": ("finetune: {duration: 1ep}", "finetune: {duration: 0it}", "finetune.duration: String should"),
    "momentum for ever": ("lr: 0.05", "lr: 0.05, momentum: 1.0", "training.momentum: Input should be less than 1"),
    "a price beyond reason": ("nu: 0.001", "nu: 1e308", "settings.nu: Input should be less than or equal to 1"),
    "a warm-up beyond training": (
        "lr: 0.05",
        "lr: 0.05, lr_warmup: 2ep",
        "dense (default): training.lr_warmup: 2ep is longer than training (1ep)",
    ),
    "gates that stay frozen": (
        "nu: 0.001",
        "nu: 0.001, warmup: 3ep",
        "gated (default): settings.warmup: 3ep is longer than training (1ep)",
    ),
    "a share as a number to keep": ("{keep: 1}", "{keep: 1e30}", "random.settings.keep"),
    "more than there can be": ("{keep: 1}", f"{{keep: {10**30}}}", "random.settings.keep"),
    "a crop without augmentation": (
        "lr: 0.05",
        "lr: 0.05, crop: 4",
        "dense (default): training.crop: 4 moves images, and augment none does not: set crop to 0, or augment to shift",
    ),
    "mirrored without augmentation": (
        "lr: 0.05",
        "lr: 0.05, flip: alternating",
        "training.flip: alternating is for augment crop-flip, not for none: set flip to random",
    ),
    "mirrored shifts": (
        "lr: 0.05",
        "lr: 0.05, augment: shift, flip: alternating",
        "training.flip: alternating is for augment crop-flip, not for shift",
    ),
    "a crop of one method without augmentation": (
        "nu: 0.001}",
        "nu: 0.001}, training: {crop: 1}",
        "gated (default): training.crop: 1 moves images, and augment none does not",
    ),
    "streamed views of images in memory": (
        "lr: 0.05",
        "lr: 0.05, augment: resized-crop",
        "training.augment: resized-crop is for streamed images, and those of digits are in memory",
    ),
    "scores without dense": ("      dense: {}\n", "", "random: starts from dense, which is not among the methods"),
    "no data set": (PRESET[PRESET.index("datasets:") :], "datasets: {}\n", "datasets: a preset needs one at least"),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_what_makes_no_sense_is_refused_when_the_preset_is_read(root: Path, case: str) -> None:
    right, wrong, expected = NONSENSE[case]
    assert PRESET.count(right) == 1
    assert expected in said(root, PRESET.replace(right, wrong))


VIEWS = {
    "a crop of no pixels": "crop: 0",
    "flips as they are anyway": "flip: random",
    "another reach of shifts": "augment: shift, crop: 3",
    "a recipe": "augment: crop-flip, crop: 2, flip: alternating",
}


@pytest.mark.parametrize("case", VIEWS)
def test_views_that_the_augmentation_makes_are_read(root: Path, case: str) -> None:
    write_preset(root, PRESET.replace("lr: 0.05", f"lr: 0.05, {VIEWS[case]}"))
    config.load_preset("study")


def test_only_the_whole_of_a_run_s_settings_is_refused(root: Path) -> None:
    """The data set says how far images move, the preset that they do; a method may do without both."""
    text = PRESET.replace("lr: 0.05", "lr: 0.05, augment: crop-flip")
    text = text.replace("  digits:\n", "  digits:\n    training: {crop: 2, flip: alternating}\n")
    plain = "nu: 0.001}, training: {augment: none, crop: null, flip: random}"
    write_preset(root, text.replace("nu: 0.001}", plain))
    preset = config.load_preset("study")
    keys = {key.method: key for key in config.plan(preset, "study", "digits")}
    dense, gated = (config.resolve(preset, keys[method]).training for method in ("dense", "gated"))
    assert (dense.augment, dense.crop, dense.flip) == ("crop-flip", 2, "alternating")
    assert (gated.augment, gated.crop, gated.flip) == ("none", None, "random")


STREAMED = """
training: {duration: 1ep, augment: resized-crop}
datasets: {imagenet: {SOURCE training: {VIEWS}, archs: {imagenet-resnet-18: {}}, methods: {dense: {}}}}
"""


def test_views_of_streamed_images_take_neither_crop_nor_flip(root: Path) -> None:
    def text(views: str, source: str = "") -> str:
        return STREAMED.replace("VIEWS", views).replace("SOURCE", source)

    for source in ("", "source: imagenet,"):  # absent: whichever form is there
        write_preset(root, text("", source))
        config.load_preset("study")
    assert "training.crop: is for shift and crop-flip, not for augment resized-crop" in said(root, text("crop: 2"))
    assert "flip: alternating is for augment crop-flip" in said(root, text("flip: alternating"))
    assert "those of imagenet are in memory" in said(root, text("", "source: imagenet-tiny40,"))


BAD_NUMBERS = [
    "mlp-residual-0",
    "resnet-7",
    "resnet-020",
    "imagenet-resnet-51",
    "preact-resnet-9",
    "resnet",
    "resnet-x",
]


@pytest.mark.parametrize("arch", BAD_NUMBERS)
def test_a_number_that_no_network_has_is_refused(root: Path, arch: str) -> None:
    assert "needs a number, as in " in said(root, PRESET.replace("lenet-300-100", arch))


def test_the_numbers_are_those_that_can_be_built() -> None:
    for family in known_archs():
        for arch in (family, *(f"{family}-{number}" for number in (0, 1, 7, 8, 18, 20, 50, 56, 101, 152))):
            if number_problem(arch) is None:
                size = 28 if "lenet" in family else 32
                shape = (3, size, size)
                assert _module(arch).build(arch, shape, 10).arch == arch
            elif "lenet" not in family:
                with pytest.raises(LayerpruneError):
                    _module(arch).build(arch, (3, 32, 32), 10)
