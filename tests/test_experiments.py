"""Experiments on trained networks: what they measure, what they leave alone, and what is made of their records."""

import itertools
import os
import signal
from collections.abc import Callable
from math import prod
from operator import mul
from pathlib import Path

import made_up_runs as made_up
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import images

from layerprune.analysis import frames, statistics, tables
from layerprune.analysis.claims import removal
from layerprune.analysis.claims.sample import Sample
from layerprune.analysis.figures import FIGURES, is_empty
from layerprune.analysis.verify import verify
from layerprune.core.data import DataSet, Split, evaluation_batches, load
from layerprune.core.methods.experiments import estimator_error, random_removal
from layerprune.core.methods.experiments._input import ExperimentInput
from layerprune.core.networks.build import build
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.settings import EstimatorErrorSettings, ModelSettings, RandomRemovalSettings
from layerprune.core.training.evaluate import evaluate
from layerprune.core.training.loop import Trainer
from layerprune.errors import SettingError
from layerprune.suite import record
from layerprune.suite import run as running
from layerprune.suite.run import starts
from layerprune.system import paths
from layerprune.system.paths import RunKey
from layerprune.system.processes import Preempted

PRESET = """
training: {duration: 3ep, batch_size: 64, lr: 0.01}
datasets:
  digits:
    archs: {mlp-residual-6: {}}
    methods:
      dense: {}
      random-removal: {settings: {lists: 12}}
"""
DENSE, EXPERIMENT = (
    RunKey("study", "digits", "mlp-residual-6", method, "default", 0) for method in ("dense", "random-removal")
)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "study.yaml").write_text(PRESET)
    return tmp_path


def made() -> record.Record:
    return running.run(EXPERIMENT, "cpu", 1, lambda *_: None, lambda _: None)


def inputs(arch: str = "resnet-14", **changes: object) -> ExperimentInput:
    network = build(
        arch, (3, 16, 16), 10, torch.Generator().manual_seed(0), ModelSettings(width=4 if "resnet" in arch else None)
    ).eval()
    x = images(8, (3, 16, 16)).float() / 255
    values = {"network": network, "seed": 0, "classes": 10, "images_seen": 8, "certified": x, "accuracy": kept}
    trained = {"sample": lambda count: (x[:count], torch.arange(8)[:count]), "train": lambda method, epochs: network}
    return ExperimentInput(**(values | trained | {"go_on": lambda: None} | changes))


def kept(network: SectionedNetwork) -> float:
    """In place of an accuracy: the share of sections that are there."""
    return sum(network.keep()) / len(network.keep())


# --- being told to end ------------------------------------------------------------------------------------------


def test_an_experiment_that_is_told_to_end_ends_with_its_next_measurement(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.run(DENSE, "cpu", 1, lambda *_: None, lambda _: None)
    measured, measure = [], starts.evaluate

    def told(*given: object, **named: object) -> object:
        measured.append(given)
        if len(measured) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return measure(*given, **named)

    monkeypatch.setattr(starts, "evaluate", told)
    with pytest.raises(Preempted, match=r"told to end \(SIGTERM\): there is no state"):
        made()
    assert len(measured) == 3 and not paths.record(EXPERIMENT).exists()


def test_so_does_one_within_its_training_and_between_its_readings(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = RunKey("study", "digits", "mlp-residual-6", "estimator-error", "default", 0)
    settings = "estimator-error: {settings: {epochs: [1], batches: 1, repetitions: 2}}"
    (study / "config" / "study.yaml").write_text(PRESET + f"      {settings}\n")
    for owner, name in ((Trainer, "_step"), (estimator_error, "_take_in")):
        with monkeypatch.context() as patch:
            original = getattr(owner, name)

            def told(*given: object, original: Callable = original) -> object:
                os.kill(os.getpid(), signal.SIGTERM)
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
                return original(*given)

            patch.setattr(owner, name, told)
            with pytest.raises(Preempted, match="there is no state"):
                running.run(key, "cpu", 1, lambda *_: None, lambda _: None)


# --- random removal ---------------------------------------------------------------------------------------------


def test_keep_lists_remove_one_to_all_sections_and_hang_on_the_seed_alone() -> None:
    lists = random_removal.draw_keep_lists(400, 5, seed=3)
    removed = [keep.count(0) for keep in lists]
    assert set(removed) == {1, 2, 3, 4, 5}
    assert all(40 <= removed.count(number) <= 120 for number in range(1, 6))  # evenly: 80 each
    gone = [sum(keep[section] == 0 for keep in lists) for section in range(5)]
    assert min(gone) > 0.85 * max(gone)
    assert lists[:7] == random_removal.draw_keep_lists(7, 5, seed=3) != random_removal.draw_keep_lists(7, 5, seed=4)


def test_each_list_is_measured_on_the_network_without_its_sections() -> None:
    found = random_removal.measure(RandomRemovalSettings(lists=9), inputs())
    assert found["accuracies"] == [sum(keep) / len(keep) for keep in found["keep_lists"]]
    assert found["whole_accuracy"] == 1 and (found["classes"], found["images"]) == (10, 8)
    assert 0 <= max(found["gaps"]) < 1e-5


def test_the_network_that_was_looked_at_stays_whole() -> None:
    one = inputs()
    before = {name: value.clone() for name, value in one.network.state_dict().items()}
    random_removal.measure(RandomRemovalSettings(lists=3), one)
    after = one.network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_removal_that_is_not_the_closing_of_a_gate_shows_in_the_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(inputs: ExperimentInput, keep: list[int]) -> SectionedNetwork:
        with torch.no_grad():
            smaller = without(inputs, keep)
            smaller.head[-1].bias += 1
        return smaller

    without = ExperimentInput.without
    monkeypatch.setattr(ExperimentInput, "without", spoil)
    assert min(random_removal.measure(RandomRemovalSettings(lists=3), inputs())["gaps"]) > 0.01


# --- estimators' error ------------------------------------------------------------------------------------------


def test_where_sections_add_up_delta_is_what_each_adds() -> None:
    worth = (0.5, -1.0, 2.0)
    losses = {keep: 3 + sum(map(mul, worth, keep)) for keep in itertools.product((0, 1), repeat=3)}
    for theta in (0.1, 0.5, 0.9):
        torch.testing.assert_close(estimator_error.enumerated(losses, theta), torch.tensor(worth, dtype=torch.float64))


@given(st.lists(st.floats(-5, 5), min_size=8, max_size=8), st.floats(0.05, 0.95))
def test_delta_is_the_slope_of_the_expected_loss(values: list[float], theta: float) -> None:
    """Of a multilinear function: the difference of its values where one probability is 1 and 0."""
    losses = dict(zip(itertools.product((0, 1), repeat=3), values, strict=True))

    def expected(probabilities: list[float]) -> float:
        terms = [
            loss * prod(p if stays else 1 - p for p, stays in zip(probabilities, keep, strict=True))
            for keep, loss in losses.items()
        ]
        return sum(terms)

    for section, slope in enumerate(estimator_error.enumerated(losses, theta).tolist()):
        at = [[theta] * section + [end] + [theta] * (2 - section) for end in (1.0, 0.0)]
        assert slope == pytest.approx(expected(at[0]) - expected(at[1]), abs=1e-9)


def errors_of(found: dict) -> dict[tuple[str, int], float]:
    return {(row["reading"], row["batches"]): row["error"] for row in found["errors"]}


def test_unbiased_readings_come_nearer_with_every_batch_and_one_sided_ones_stay_away() -> None:
    settings = EstimatorErrorSettings(epochs=(1,), thetas=(0.5,), sample=8, batch_size=64, batches=256, repetitions=2)
    found = errors_of(estimator_error.measure(settings, inputs("mlp-residual-3")))
    for name in ("finite_difference", "disarm"):
        assert found[name, 256] < 0.5 * found[name, 4]
    assert found["two_sided", 256] < min(found["only_open", 256], found["only_closed", 256])


def test_error_bias_and_spread_are_told_apart() -> None:
    """Two readings at 1 and 3 of a truth of 4 in one entry: worked by hand."""
    readings, truth = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([4.0, 0.0])
    assert estimator_error.apart(readings, truth) == pytest.approx({"error": 0.5, "bias": 0.5, "spread": 2**0.5 / 4})
    assert estimator_error.apart(readings[:1], truth) == {"error": 0.75, "bias": 0.75, "spread": None}


def test_the_unbiased_readings_have_less_bias_than_the_one_sided_ones() -> None:
    settings = EstimatorErrorSettings(epochs=(1,), thetas=(0.5,), sample=8, batch_size=64, batches=64, repetitions=6)
    rows = estimator_error.measure(settings, inputs("mlp-residual-3"))["errors"]
    last = {row["reading"]: row for row in rows if row["batches"] == 64}
    for unbiased in ("finite_difference", "disarm"):
        for half in ("only_open", "only_closed"):
            assert last[unbiased]["bias"] < last[half]["bias"]


def test_too_many_sections_to_enumerate_are_refused() -> None:
    with pytest.raises(SettingError, match="estimator-error: 11 sections, at most 10"):
        estimator_error.measure(EstimatorErrorSettings(), inputs("mlp-residual-11"))


def test_a_run_of_it_trains_under_gates_and_pays_for_it(study: Path) -> None:
    text = PRESET.replace("random-removal: {settings: {lists: 12}}", f"estimator-error: {{settings: {FEW}}}")
    (study / "config" / "study.yaml").write_text(text.replace("mlp-residual-6", "mlp-residual-3"))
    key = RunKey("study", "digits", "mlp-residual-3", "estimator-error", "default", 0)
    found = running.run(key, "cpu", 1, lambda *_: None, lambda _: None)
    assert found.train_macs == found.train_macs_own == 3 * 3 * 1237 * found.macs  # one epoch and two
    assert {(row["epochs"], row["theta"]) for row in found.details["errors"]} == {(1, 0.3), (2, 0.3)}
    assert not paths.record(DENSE).exists()


def test_its_figure_has_means_over_seeds_and_says_what_was_not_run(study: Path) -> None:
    text = PRESET.replace("random-removal: {settings: {lists: 12}}", f"estimator-error: {{settings: {FEW}}}")
    (study / "config" / "study.yaml").write_text(text.replace("mlp-residual-6", "mlp-residual-3"))
    module = FIGURES["estimator-error"]
    before = module.prepare(frames.read_study("study", "digits", partial=True))
    assert before["arch"].tolist() == ["mlp-residual-3"] and before["error"].isna().all()
    keys = [RunKey("study", "digits", "mlp-residual-3", "estimator-error", "default", seed) for seed in (0, 1)]
    (study / "config" / "study.yaml").write_text((study / "config" / "study.yaml").read_text() + "seeds: [0, 1]\n")
    runs = [running.run(key, "cpu", 1, lambda *_: None, lambda _: None) for key in keys]
    data = module.prepare(frames.read_study("study", "digits", partial=True))
    (point,) = data[(data["reading"] == "disarm") & (data["batches"] == 4) & (data["epochs"] == 2)].to_dict("records")
    errors = [
        100 * row["error"]
        for run in runs
        for row in run.details["errors"]
        if (row["reading"], row["batches"], row["epochs"]) == ("disarm", 4, 2)
    ]
    assert point["n"] == 2 and point["error"] == pytest.approx(sum(errors) / 2)
    assert point["error_low"] <= min(errors) + 1e-6 and point["error_high"] >= max(errors) - 1e-6
    assert made_up.texts(module.draw(before, "heading"))[0] == "not run"
    assert is_empty("estimator-error", before) and not is_empty("estimator-error", data)
    assert [ax.get_title() for ax in module.draw(data, "heading").axes][:2] == [
        "mlp-residual-3, 1 epoch (n = 2)",
        "mlp-residual-3, 2 epochs (n = 2)",
    ]


FEW = "{epochs: [1, 2], thetas: [0.3], sample: 64, batches: 4, repetitions: 1}"

# --- runs -------------------------------------------------------------------------------------------------------


def test_an_experiment_is_a_run_that_costs_nothing_of_its_own_and_leaves_the_dense_network(study: Path) -> None:
    found, dense = made(), record.read(paths.record(DENSE))
    assert (found.status, found.keep, found.steps_total) == ("ok", [1] * 6, 0)
    assert (found.test_accuracy, found.macs, found.train_macs) == (dense.test_accuracy, dense.macs, dense.train_macs)
    assert found.train_macs_own == 0 and found.wall_seconds_own == 0
    assert len(found.details["accuracies"]) == 12 and found.details["whole_accuracy"] == dense.val_accuracy
    assert [finding for finding in verify("study") if finding.is_error] == []


def pictures(split: Split, data: DataSet) -> set[bytes]:
    """Images as networks see them, to be compared whole."""
    return {each.numpy().tobytes() for each in next(evaluation_batches(split, data.mean, data.std, len(split)))[0]}


def test_samples_are_of_the_training_split_and_accuracies_of_the_validation_split(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[ExperimentInput] = []
    monkeypatch.setattr(random_removal, "measure", lambda settings, given: told.append(given) or {})
    made()
    (given,), data = told, load("digits", paths.root())
    x, y = given.sample(300)
    drawn = {each.numpy().tobytes() for each in x}
    assert len(x) == len(y) == 300 and len(drawn) > 290
    assert drawn <= pictures(data.train, data) and not drawn & pictures(data.validation, data)
    on = {part: evaluate(given.network, data, getattr(data, part)).accuracy for part in ("train", "validation", "test")}
    assert len(set(on.values())) == 3 and given.accuracy(given.network) == on["validation"]
    assert given.images_seen == len(data.validation)


def test_an_experiment_is_in_no_table(study: Path) -> None:
    made()
    read = frames.read_study("study", "digits")
    assert set(read.runs["method"]) == {"dense"} and read.experiments == (EXPERIMENT,)
    assert "random-removal" not in tables.markdown_page(read, tables.comparison(statistics.summarise(read.runs)))


def test_the_figure_has_a_row_a_keep_list_and_says_what_was_not_run(study: Path) -> None:
    module = FIGURES["random-removal"]
    before = module.prepare(frames.read_study("study", "digits", partial=True))
    assert before["arch"].tolist() == ["mlp-residual-6"] and before["accuracy"].isna().all()
    made()
    data = module.prepare(frames.read_study("study", "digits"))
    assert len(data) == 12 and data["removed"].between(1, 6).all() and data["accuracy"].between(0, 100).all()
    assert is_empty("random-removal", before) and not is_empty("random-removal", data)
    assert made_up.texts(module.draw(before, "heading")) == ["not run"]
    unmade = before.assign(arch="another")
    (panel,) = module.draw(pd.concat([unmade, data], ignore_index=True), "heading").axes
    assert panel.get_title() == "mlp-residual-6"
    (dots, *_) = module.draw(data, "heading").axes[0].lines
    assert list(dots.get_xdata()) == list(data["removed"]) and list(dots.get_ydata()) == list(data["accuracy"])


# --- the claim --------------------------------------------------------------------------------------------------


def change(**details: object) -> None:
    found = record.read(paths.record(EXPERIMENT))
    record.write(paths.record(EXPERIMENT), found.model_copy(update={"details": found.details | details}))


def test_the_quantities_are_those_of_the_records(study: Path) -> None:
    unmade = frames.read_study("study", "digits", partial=True)
    assert removal.working_networks(unmade) == [Sample("mlp-residual-6", (), is_share=True)]
    made()
    # Of 900 images in ten classes a guesser gets 10 % right, with a standard deviation of one point.
    change(accuracies=[0.9, 0.14, 0.129, 0.1], gaps=[1e-7, 3e-4, 2e-6, 0.0], images=900, classes=10)
    read = frames.read_study("study", "digits")
    assert removal.working_networks(read) == [Sample("mlp-residual-6", (0.5,), is_share=True)]
    assert removal.largest_gap(read) == [Sample("mlp-residual-6", (3e-4,))]
