"""A method and a network that do not go together are refused when the preset is read, before anything runs."""

from typing import Any

import pytest

from layerprune.core.methods import REQUIREMENTS, families, lack, method_file
from layerprune.core.networks import arch_file
from layerprune.errors import LayerpruneError
from layerprune.suite.config import Preset, parse_preset
from layerprune.system.files import constant_in


def a_preset(arch: str, *slugs: str, only: list[str] | None = None) -> Preset:
    block: dict[str, Any] = {"archs": {arch: {"only": only} if only else {}}, "methods": {slug: {} for slug in slugs}}
    return parse_preset({"datasets": {"cifar10": block}}, "config/own.yaml")


@pytest.mark.parametrize(
    ("arch", "method", "why"),
    [
        ("lenet5", "bn-scale", "batch normalisation in the branches"),
        ("vgg16", "bn-scale", "batch normalisation in the branches"),
        ("resnet-20", "epsilon-resnet", "do not end in batch normalisation"),
        ("vgg16", "epsilon-resnet", "do not end in batch normalisation"),
        ("mlp-residual-20", "shallower", "stages"),
    ],
)
def test_a_wrong_pair_is_one_line_naming_both_and_the_way_out(arch: str, method: str, why: str) -> None:
    with pytest.raises(LayerpruneError) as caught:
        a_preset(arch, "dense", method)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"config/own.yaml: datasets.cifar10.archs.{arch}: '{method}' needs ")
    assert why in line and "`only`" in line


@pytest.mark.parametrize(
    ("arch", "method"),
    [
        ("resnet-20", "bn-scale"),
        ("preact-resnet-20", "bn-scale"),
        ("preact-resnet-20", "epsilon-resnet"),
        ("mlp-residual-20", "epsilon-resnet"),
        ("resnet-56", "shallower"),
    ],
)
def test_a_right_pair_is_taken(arch: str, method: str) -> None:
    assert a_preset(arch, "dense", "gated", method)


def test_only_takes_an_architecture_out_of_a_methods_way() -> None:
    assert a_preset("resnet-20", "dense", "epsilon-resnet", only=["dense"])


def test_every_requirement_is_one_of_the_known_words() -> None:
    for slug in families():
        assert constant_in(method_file(slug), "REQUIRES") in (None, *REQUIREMENTS)
    assert lack("gated", arch_file("lenet5")) is None
