"""The forecast counts every run's steps as the run takes them, and measures steps where it stands."""

import pytest
import torch

from layerprune import forecast
from layerprune.config import parse_preset, plan, resolve
from layerprune.data import catalog, load
from layerprune.forecast import Row, report, training_steps

PRESET = parse_preset(
    {
        "training": {"duration": "3ep", "batch_size": 100},
        "finetune": {"duration": "2ep"},
        "datasets": {
            "digits": {
                "archs": {"mlp-residual-2": {}},
                "methods": {
                    "dense": {},
                    "gated": {"training": {"duration": "70it"}},
                    "magnitude": {},
                    "gal": {"settings": {"search": "4ep"}},
                    "scratch-b": {},
                    "by-index": {},
                },
            }
        },
    },
    "test",
)


@pytest.mark.parametrize(
    ("method", "steps"),
    [("dense", 39), ("gated", 70), ("magnitude", 26), ("gal", 78), ("scratch-b", 39), ("by-index", 26)],
)
def test_steps_are_those_of_thirteen_an_epoch(method: str, steps: int) -> None:
    """1,237 images in batches of 100."""
    (key,) = [key for key in plan(PRESET, "test") if key.method == method]
    assert training_steps(resolve(PRESET, key)) == steps


def test_the_catalog_knows_how_many_images_train(tmp_path) -> None:
    assert catalog.find("digits").train == len(load("digits", tmp_path, torch.device("cpu")).train)


def test_a_forecast_measures_every_network_once_and_reads_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = forecast.forecast(PRESET, "test", "digits", torch.device("cpu"), 1, 2)
    assert [(row.arch, row.runs, row.steps) for row in rows] == [("mlp-residual-2", 6, 39 + 70 + 26 + 78 + 39 + 26)]
    assert 0 < rows[0].seconds_a_step < 5


def test_of_a_batch_too_large_for_a_cpu_a_part_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = {
        "training": {"batch_size": 64},
        "datasets": {"imagenet": {"archs": {"imagenet-resnet-18": {"model": {"width": 2}}}, "methods": {"dense": {}}}},
    }
    seen = []
    monkeypatch.setattr(forecast.Trainer, "_step", lambda trainer, images, labels: seen.append(tuple(images.shape)))
    monkeypatch.setattr(forecast.time, "perf_counter", iter(range(100)).__next__)
    (row,) = forecast.forecast(parse_preset(raw, "test"), "test", "imagenet", torch.device("cpu"), 1, 2)
    assert set(seen) == {(10, 3, 224, 224)}
    assert row.seconds_a_step == pytest.approx(64 / 10)
    assert row.steps == 20 * -(-catalog.IMAGENET.train // 64)


def test_the_report_adds_up() -> None:
    text = report([Row("digits", "lenet5", 3, 7200, 0.5), Row("digits", "mlp-residual-20", 2, 3600, 1.0)])
    assert "5 runs, at most 2.0 hours" in text
    assert all(len(line) <= 100 for line in text.splitlines())
