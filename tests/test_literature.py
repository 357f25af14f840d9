"""What the literature says: published numbers with source and tag, counts in closed form, patterns over stages."""

import re
from pathlib import Path

import made_up_runs as made_up
import pytest
import torch

from layerprune.analysis import literature, verify
from layerprune.core.measure import count_macs, count_params
from layerprune.core.networks.build import build
from layerprune.core.settings import ModelSettings
from layerprune.suite import config
from layerprune.suite.record import Record
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

METHODS = ["dense", "gated", "cka", "linear-probes", "dbp", "sr-init"]


@pytest.fixture
def parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Preset:
    """ResNet-20 and ResNet-56 on CIFAR-10, all sections removable; made-up records of dense and gated are there."""
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    archs = {"resnet-20": {}, "resnet-56": {}, "resnet-32": {"model": {"removable": "shape-preserving"}}}
    raw = made_up.preset(archs, METHODS, (0,))
    raw["datasets"] = {"cifar10": raw["datasets"][made_up.DATASET]}
    files.write_text(paths.preset_file(made_up.PRESET), str(raw))
    parsed = config.load_preset(made_up.PRESET)
    for arch in archs:
        for method in ("dense", "gated"):
            made_up.write_run(parsed, key(method, arch))
    return parsed


def key(method: str, arch: str = "resnet-20") -> RunKey:
    return RunKey(made_up.PRESET, "cifar10", arch, method, "default", 0)


def record(parsed: config.Preset, method: str, arch: str = "resnet-20", **changes) -> Record:
    return made_up.make_record(parsed, key(method, arch)).model_copy(update=changes)


@pytest.mark.parametrize("arch", ["resnet-8", "resnet-20", "resnet-56"])
@pytest.mark.parametrize("width", [None, 8, 6])
@pytest.mark.parametrize("classes", [10, 100])
def test_the_closed_form_is_what_the_network_counts(arch, width, classes):
    network = build(arch, (3, 32, 32), classes, torch.Generator(), ModelSettings(width=width))
    form = literature.CifarResNet((int(arch[7:]) - 2) // 6, width or 16, classes)
    assert form.macs() == count_macs(network, network.input_shape)
    assert form.params() == count_params(network)


def test_wrong_counts_are_an_error_and_right_ones_none(parsed):
    right = {"macs_dense": 40_551_040, "params_dense": 269_722}
    assert list(literature.wrong_counts(record(parsed, "dense", **right))) == []
    (message,) = literature.wrong_counts(record(parsed, "dense", **{**right, "macs_dense": 40_551_041}))
    assert "40551041" in message and "40551040" in message
    found = [finding for finding in verify.verify(made_up.PRESET) if finding.where == str(key("dense"))]
    assert {finding.kind for finding in found} == {"out-of-range"} and verify.has_errors(found)


def test_a_record_from_before_its_network_had_settings_has_the_defaults(parsed):
    run = record(parsed, "cka")
    older = run.provenance.model_copy(update={"config": run.provenance.config | {"model": {}}})
    before = run.model_copy(update={"provenance": older})
    assert list(literature.wrong_counts(before)) == list(literature.wrong_counts(run)) != []
    assert list(literature.unlike_published(before)) == list(literature.unlike_published(run))


def test_networks_without_a_closed_form_are_left_alone(parsed):
    option_b = record(parsed, "dense", macs_dense=1)
    option_b.provenance.config["model"]["shortcut"] = "b"
    assert list(literature.wrong_counts(option_b)) == []
    for elsewhere in ({"dataset": "mnist"}, {"arch": "vgg16"}, {"arch": "preact-resnet-20"}):
        changed = record(parsed, "dense", macs_dense=1).model_copy(update=elsewhere)
        assert list(literature.wrong_counts(changed)) == []


def cka(parsed: config.Preset, steps: dict[int, int], arch: str = "resnet-56") -> list[str]:
    """Findings of a CKA run that removed these sections at these steps, one at a time."""
    total = made_up.sections_of(arch)
    removed = [steps.get(index) for index in range(total)]
    keep = [int(step is None) for step in removed]
    run = record(parsed, "cka", arch, keep=keep, removed_step=removed, details={"scores_by_round": [[0.0]]})
    return list(literature.unlike_published(run))


def test_cka_takes_the_middle_stage_first_and_the_last_stage_last(parsed):
    published = {10: 0, 1: 100, 12: 200, 20: 300}  # ResNet-56: stages are sections 0-8, 9-17, 18-26
    assert cka(parsed, published) == []
    (message,) = cka(parsed, {20: 0, 10: 100, 1: 200})
    assert "3, 2, 1" in message
    assert cka(parsed, {20: 0, 10: 100}) == [], "two removals show no pattern"


def test_probes_should_rise_nearly_everywhere(parsed):
    rising = [0.1] * 8 + [-0.05]
    assert list(literature.unlike_published(record(parsed, "linear-probes", details={"scores": rising}))) == []
    falling = [0.1] * 6 + [-0.05] * 3
    (message,) = literature.unlike_published(record(parsed, "dbp", details={"scores": falling}))
    assert "6 of 9" in message


def test_sr_init_takes_most_from_the_last_stage(parsed):
    published = [int(index not in (1, 8, 17, 19, 21, 22, 23, 24, 25, 26)) for index in range(27)]
    assert list(literature.unlike_published(record(parsed, "sr-init", "resnet-56", keep=published))) == []
    (message,) = literature.unlike_published(record(parsed, "sr-init", "resnet-56", keep=published[::-1]))
    assert message.startswith("7, 1, 2")


def test_stages_are_told_where_the_first_sections_are_fixed(parsed):
    # ResNet-32, shape-preserving: 5 + 4 + 4 sections; the last four are of stage 3.
    keep = [1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    (message,) = literature.unlike_published(record(parsed, "sr-init", "resnet-32", keep=keep))
    assert message.startswith("1, 4, 0")


def test_another_pattern_is_worth_a_look_and_no_error(parsed):
    made_up.write_run(parsed, key("dbp"), details={"scores": [-0.5] * 9})
    found = [each for each in verify.verify(made_up.PRESET, "cifar10") if each.kind == "unlike-published"]
    assert [each.where for each in found] == [str(key("dbp"))] and not verify.has_errors(found)


# --- published numbers ----------------------------------------------------------------------------------------

DATASETS = ["cifar10", "cifar100", "imagenet"]


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_row_has_a_source_and_a_known_tag(dataset: str) -> None:
    rows = literature.published(dataset)
    assert len(rows) and set(rows["tag"]) <= set(literature.TAGS)
    assert (rows["source"] != "").all() and (rows["network"] != "").all()


@pytest.mark.parametrize("dataset", DATASETS)
def test_numbers_are_numbers(dataset: str) -> None:
    rows = literature.published(dataset)
    for column in ("base", "pruned", "change", "macs_cut", "params_cut"):
        assert all(re.fullmatch(r"[+-]?\d+(\.\d+)?|", cell) for cell in rows[column])


def test_blocks_and_cuts_of_cka_agree_with_a_count_of_option_b_resnets() -> None:
    """A block of ResNet-56 is 3.7524 % of its multiply-adds with option B, one of ResNet-110 1.8639 %."""
    rows = literature.published("cifar10")
    for row in rows[rows["method"] == "CKA"].itertuples():
        share = {"ResNet-56": 3.7524, "ResNet-110": 1.8639}[row.network]
        assert float(row.macs_cut) == pytest.approx(share * int(row.blocks_out.split()[0]), abs=0.01)


def test_a_data_set_about_which_nothing_was_published_has_no_rows() -> None:
    assert len(literature.published("digits")) == 0


def test_the_page_shows_every_row_and_explains_its_tags() -> None:
    rows = literature.published("cifar10")
    page = literature.published_page("cifar10", rows)
    assert page.count("\n| ") == len(rows) + 2  # heading and rule
    assert all(f"{tag}: {meaning}" in page for tag, meaning in literature.TAGS.items())
    assert "None of these numbers was measured here" in page
