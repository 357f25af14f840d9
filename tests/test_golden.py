"""Numbers change only together with a version: golden runs and golden values of their pieces (see tests/golden)."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from golden import cases, compare, runs, store

from layerprune.core import methods, networks
from layerprune.core.data import catalog


@pytest.fixture(scope="module")
def _workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with runs.workplace(tmp_path_factory.mktemp("golden") / "root"):
        yield


@pytest.mark.usefixtures("_workplace")
@pytest.mark.parametrize("name", cases.all_cases())
def test_numbers_are_those_of_their_versions(name: str) -> None:
    case = cases.all_cases()[name]
    told = cases.complaint(case, store.read(case.group).get(name), case.values())
    assert told is None, told


DRAWN_ON_THE_HOST = ("dense", "sss", "stochastic-depth", "epsilon-resnet", "magnitude")


@pytest.mark.gpu
@pytest.mark.usefixtures("_workplace")
@pytest.mark.parametrize("method", DRAWN_ON_THE_HOST)
def test_a_gpu_makes_the_same_numbers(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where gates are not drawn on the device. In a root of its own: runs of the CPU count as up to date."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(runs, "DEVICE", "cuda")
    case = cases.all_cases()[f"mlp/digits/mlp-residual-6/{method}/default/seed0"]
    with runs.workplace(tmp_path / "root"):
        found = case.values()
    told = cases.complaint(case, store.read(case.group)[case.name], found)
    assert told is None, told


def test_there_are_no_values_of_cases_that_are_no_more() -> None:
    stored = {name for path in store.FOLDER.glob("*.json") for name in store.read(path.stem)}
    assert stored == set(cases.all_cases())


def test_every_method_architecture_and_data_set_has_golden_values() -> None:
    keys = runs.all_keys()
    assert {key.method for key in keys} == set(methods.families())
    pieces = {name.removeprefix("pieces/") for name in cases.all_cases()}
    for arch in networks.known_archs():
        assert any(name.startswith(f"network {arch}") for name in pieces), arch
    for data in catalog.NAMES:
        assert any(name.startswith(f"data {data}") for name in pieces), data


# --- what the comparison says ---------------------------------------------------------------------------------

NAME = "mlp/digits/mlp-residual-6/gated/default/seed0"


def a_case() -> tuple[cases.Case, dict]:
    case = cases.all_cases()[NAME]
    return case, store.read(case.group)[NAME]


def test_a_change_without_a_version_is_told_to_raise_one() -> None:
    case, stored = a_case()
    told = cases.complaint(case, stored, stored["values"] | {"keep": [1, 1, 1, 1, 1, 1]})
    assert "raise VERSION" in told and "keep: [0, 1, 0, 0, 0, 1] stored, [1, 1, 1, 1, 1, 1] found" in told


@pytest.mark.parametrize("part", ["results", "method", "arch", "dataset"])
def test_a_raised_version_asks_for_new_values(part: str) -> None:
    case, stored = a_case()
    raised = replace(case, versions=case.versions | {part: case.versions[part] + 1})
    told = cases.complaint(raised, stored, stored["values"])
    assert f"write new golden values with `{cases.COMMAND}`" in told and "raise VERSION" not in told


def test_a_parents_version_counts_too() -> None:
    case = cases.all_cases()["mlp/digits/mlp-residual-6/magnitude/default/seed0"]
    assert "parent dense" in case.versions


def test_new_settings_ask_for_new_values() -> None:
    case, stored = a_case()
    told = cases.complaint(replace(case, settings="other"), stored, stored["values"])
    assert "no golden values for these settings" in told
    assert "no golden values" in cases.complaint(case, None, {})


def test_equal_numbers_pass() -> None:
    case, stored = a_case()
    assert cases.complaint(case, stored, stored["values"]) is None


@pytest.mark.parametrize(
    ("stored", "found", "alike"),
    [
        (1.0, 1.0 + compare.RELATIVE / 2, True),
        (1.0, 1.0 + 2 * compare.RELATIVE, False),
        ([1.0, 1e-9], [1.0, 2e-9], True),
        ([1.0, 0.5], [1.0, 0.51], False),
        ([1.0, None], [1.0, 0.0], False),
        ([3, 4], [3, 5], False),
        (7, 8, False),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": [[1, 2], [3.0]]}, {"a": [[1, 2], [4.0]]}, False),
        ({"accuracy": 0.5}, {"accuracy": 0.55}, True),
        ({"accuracy": 0.5}, {"accuracy": 0.65}, False),
        ("ok", "collapsed", False),
        (None, 1.0, False),
        (float("nan"), float("nan"), False),
    ],
)
def test_what_counts_as_equal(stored: object, found: object, alike: bool) -> None:
    assert (list(compare.differences(stored, found, {"accuracy": 0.1})) == []) is alike
