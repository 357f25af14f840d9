"""The forecast counts every run's steps as the run takes them, and measures steps where it stands."""

import pytest
import torch

from layerprune.core import timing
from layerprune.core.data import catalog, load
from layerprune.suite import forecast
from layerprune.suite.config import parse_preset, plan, resolve
from layerprune.suite.forecast import Row, report, training_steps
from layerprune.system.paths import RunKey

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


@pytest.mark.parametrize(("experiment", "steps"), [("random-removal", 0), ("estimator-error", 13 * (1 + 4))])
def test_an_experiment_has_the_steps_of_the_trainings_in_it(experiment: str, steps: int) -> None:
    methods = {"dense": {}, experiment: {}}
    block = {"archs": {"mlp-residual-2": {}}, "methods": methods}
    preset = parse_preset({"training": {"batch_size": 100}, "datasets": {"digits": block}}, "test")
    (key,) = [key for key in plan(preset, "test") if key.method == experiment]
    assert training_steps(resolve(preset, key)) == steps


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
    monkeypatch.setattr(timing.time, "perf_counter", iter(range(100)).__next__)
    (row,) = forecast.forecast(parse_preset(raw, "test"), "test", "imagenet", torch.device("cpu"), 1, 2)
    assert set(seen) == {(10, 3, 224, 224)}
    assert row.seconds_a_step == pytest.approx(64 / 10)
    assert row.steps == 20 * -(-catalog.IMAGENET.train // 64)


def hours(**by_method: float) -> dict[RunKey, float]:
    """Hours of these methods' runs, absent ones 0."""
    return {key: by_method.get(key.method.replace("-", "_"), 0.0) for key in plan(PRESET, "test")}


def test_one_device_makes_one_run_after_the_other() -> None:
    assert forecast.hours_on(1, PRESET, hours(dense=4, gated=3, magnitude=2, gal=1, scratch_b=5, by_index=6)) == 21


def test_however_many_devices_a_run_waits_for_what_it_starts_from() -> None:
    assert forecast.hours_on(99, PRESET, hours(dense=4, gated=3, magnitude=2)) == 6  # magnitude waits for both
    assert forecast.hours_on(99, PRESET, hours(dense=4, gated=3, scratch_b=5)) == 8  # scratch for gated alone


def test_a_free_device_takes_the_next_run_that_is_ready() -> None:
    # dense and gated; gated's device then takes gal when dense has ended, dense's magnitude; by-index comes last.
    assert forecast.hours_on(2, PRESET, hours(dense=4, gated=4, magnitude=2, gal=3, by_index=2)) == 8


def test_every_run_has_the_hours_of_its_steps() -> None:
    found = forecast.hours_of_runs(PRESET, "test", [Row("digits", "mlp-residual-2", 6, 0, 36.0)])
    assert {key.method: value for key, value in found.items()}["gated"] == pytest.approx(70 * 36 / 3600)
    assert list(found) == plan(PRESET, "test")


@pytest.mark.parametrize(
    ("hours", "text"),
    [(1234.56, "1,234.6 h"), (1, "1.0 h"), (0.99, "59 min"), (1 / 60, "1 min"), (0.01, "0.6 min"), (0, "0.0 min")],
)
def test_where_hours_would_be_zero_there_are_minutes(hours: float, text: str) -> None:
    assert forecast.duration(hours) == text


def test_the_report_adds_up() -> None:
    text = report([Row("digits", "lenet5", 3, 7200, 0.5), Row("digits", "mlp-residual-20", 2, 3600, 1.0)])
    assert "5 runs, at most 2.0 h of training" in text
    assert all(len(line) <= 100 for line in text.splitlines())
