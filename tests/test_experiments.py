"""Experiments on trained networks: what they measure, what they leave alone, and what is made of their records."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from networks import images

from layerprune import paths, record, runner
from layerprune.analysis import frames, statistics, tables
from layerprune.analysis.claims import flow
from layerprune.analysis.claims.sample import Sample
from layerprune.analysis.figures import FIGURES
from layerprune.analysis.verify import verify
from layerprune.config import ModelSettings, RandomRemovalSettings
from layerprune.methods.experiments import random_removal
from layerprune.methods.experiments._subject import Subject
from layerprune.models.build import build
from layerprune.models.sections import SectionedNetwork
from layerprune.paths import RunKey

PRESET = """
training: {duration: 3ep, batch_size: 64, lr: 0.02}
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
    return runner.run(EXPERIMENT, "cpu", 1, lambda *_: None, lambda _: None)


def subject(arch: str = "resnet-14", **changes: object) -> Subject:
    network = build(arch, (3, 16, 16), 10, torch.Generator().manual_seed(0), ModelSettings(width=4)).eval()
    x = images(8, (3, 16, 16)).float() / 255
    values = {"network": network, "seed": 0, "classes": 10, "images_seen": 8, "certified": x, "accuracy": kept}
    return Subject(**(values | changes))


def kept(network: SectionedNetwork) -> float:
    """In place of an accuracy: the share of sections that are there."""
    return sum(network.keep()) / len(network.keep())


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
    found = random_removal.measure(RandomRemovalSettings(lists=9), subject())
    assert found["accuracies"] == [sum(keep) / len(keep) for keep in found["keep_lists"]]
    assert found["whole_accuracy"] == 1 and (found["classes"], found["images"]) == (10, 8)
    assert 0 <= max(found["gaps"]) < 1e-5


def test_the_network_that_was_looked_at_stays_whole() -> None:
    one = subject()
    before = {name: value.clone() for name, value in one.network.state_dict().items()}
    random_removal.measure(RandomRemovalSettings(lists=3), one)
    after = one.network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_removal_that_is_not_the_closing_of_a_gate_shows_in_the_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(subject: Subject, keep: list[int]) -> SectionedNetwork:
        with torch.no_grad():
            smaller = without(subject, keep)
            smaller.head[-1].bias += 1
        return smaller

    without = Subject.without
    monkeypatch.setattr(Subject, "without", spoil)
    assert min(random_removal.measure(RandomRemovalSettings(lists=3), subject())["gaps"]) > 0.01


# --- runs -------------------------------------------------------------------------------------------------------


def test_an_experiment_is_a_run_that_costs_nothing_of_its_own_and_leaves_the_dense_network(study: Path) -> None:
    found, dense = made(), record.read(paths.record(DENSE))
    assert (found.status, found.keep, found.steps_total) == ("ok", [1] * 6, 0)
    assert (found.test_accuracy, found.macs, found.train_macs) == (dense.test_accuracy, dense.macs, dense.train_macs)
    assert found.train_macs_own == 0 and found.wall_seconds_own == 0
    assert len(found.details["accuracies"]) == 12 and found.details["whole_accuracy"] == dense.val_accuracy
    assert [finding for finding in verify("study") if finding.is_error] == []


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
    for frame in (before, data, pd.DataFrame(columns=data.columns)):
        assert module.draw(frame, "heading").axes


# --- the claim --------------------------------------------------------------------------------------------------


def change(**details: object) -> None:
    found = record.read(paths.record(EXPERIMENT))
    record.write(paths.record(EXPERIMENT), found.model_copy(update={"details": found.details | details}))


def test_the_quantities_are_those_of_the_records(study: Path) -> None:
    assert flow.working_networks(frames.read_study("study", "digits", partial=True)) == [Sample("mlp-residual-6", ())]
    made()
    # Of 900 images in ten classes a guesser gets 10 % right, with a standard deviation of one point.
    change(accuracies=[0.9, 0.14, 0.129, 0.1], gaps=[1e-7, 3e-4, 2e-6, 0.0], images=900, classes=10)
    read = frames.read_study("study", "digits")
    assert flow.working_networks(read) == [Sample("mlp-residual-6", (0.5,))]
    assert flow.largest_gap(read) == [Sample("mlp-residual-6", (3e-4,))]
