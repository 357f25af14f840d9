"""A preset's layers: what is named nearest to a run wins, key by key, in every group of settings."""

import pytest

from layerprune.core.settings.training import FinetuneSettings, ModelSettings, TrainingSettings
from layerprune.suite import config
from layerprune.suite.config.preset import Preset
from layerprune.system.paths import RunKey

LAYERS = {"preset": 0, "dataset": 1, "arch": 2, "method": 3, "arch's method": 4, "variant": 5, "arch's variant": 6}
CHANGES = {
    "training": ("lr", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
    "finetune": ("lr", [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07]),
}


def resolved(preset: dict, variant: str = "default") -> config.RunSettings:
    key = RunKey("made-up", "cifar10", "resnet-8", "magnitude", variant, 0)
    return config.resolve(Preset.model_validate(preset), key)


def layered(group: str, upto: int) -> dict:
    """A preset in which every layer up to a number names the setting."""
    name, values = CHANGES[group]

    def at(layer: str) -> dict:
        return {group: {name: values[LAYERS[layer]]}} if LAYERS[layer] <= upto else {}

    def method(own: str, variant: str) -> dict:
        return at(own) | {"settings": {"keep": 1}, "variants": {"other": at(variant)}}

    arch = at("arch") | {"methods": {"magnitude": method("arch's method", "arch's variant")}}
    methods = {"dense": {}, "magnitude": method("method", "variant")}
    return at("preset") | {"datasets": {"cifar10": at("dataset") | {"archs": {"resnet-8": arch}, "methods": methods}}}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("group", CHANGES)
def test_the_nearest_layer_that_names_a_setting_decides(group: str, layer: str) -> None:
    name, values = CHANGES[group]
    found = getattr(resolved(layered(group, LAYERS[layer]), "other"), group)
    assert getattr(found, name) == values[LAYERS[layer]]


@pytest.mark.parametrize("group", CHANGES)
def test_a_variants_settings_are_not_the_methods(group: str) -> None:
    name, values = CHANGES[group]
    preset = layered(group, LAYERS["arch's variant"])
    assert getattr(getattr(resolved(preset), group), name) == values[LAYERS["arch's method"]]


def test_a_layer_speaks_only_of_the_keys_it_names() -> None:
    preset = layered("finetune", LAYERS["preset"])
    preset["datasets"]["cifar10"]["methods"]["magnitude"]["variants"]["other"] = {"finetune": {"duration": "7ep"}}
    assert resolved(preset, "other").finetune == FinetuneSettings(duration="7ep", lr=0.01)
    assert resolved(preset, "other").training == TrainingSettings()
    assert resolved(preset, "other").model == ModelSettings()
