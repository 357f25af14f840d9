"""Whatever stands in the environment's variables, a command works or says in one line what is wrong."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Say
from test_bad_input import PRESET, run_key, words, write_preset

from layerprune.suite import run as running
from layerprune.system import paths


def nothing(folder: Path) -> str:
    return str(folder / "none")


def a_file(folder: Path) -> str:
    (folder / "file").write_text("")
    return str(folder / "file")


def a_pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe")
    return str(folder / "pipe")


def a_device(folder: Path) -> str:
    return "/dev/zero"


def a_loop(folder: Path) -> str:
    (folder / "loop").symlink_to("loop")
    return str(folder / "loop")


def not_text(folder: Path) -> str:
    return str(folder / "\udcff\udcfe")


def pages(folder: Path) -> str:
    return "/x" * 5000


def lines(folder: Path) -> str:
    return f"{folder}/one\ntwo\x1b[2J"


ODD = [nothing, a_file, a_pipe, a_device, a_loop, not_text, pages, lines]


@pytest.mark.parametrize("odd", ODD, ids=lambda each: each.__name__)
@pytest.mark.parametrize("variable", ["LAYERPRUNE_ROOT", "LAYERPRUNE_DATA"])
@pytest.mark.parametrize("command", [["plan"], ["tables", "--partial"], ["stage", "mnist"]], ids=lambda each: each[0])
def test_a_folder_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say, odd: Callable, variable: str, command: list[str]
) -> None:
    write_preset(tmp_path, PRESET)
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    monkeypatch.setenv(variable, odd(tmp_path))
    status, said = say(*command, "--preset", "study")
    if variable == "LAYERPRUNE_ROOT" or command[0] == "stage":
        (line,) = said.splitlines()
        assert status == 2 and line.startswith("layerprune: error: ") and line.isprintable() and len(line) < 1300
    else:  # needs no data
        assert status == 0


@pytest.mark.parametrize("variable", ["LAYERPRUNE_ROOT", "LAYERPRUNE_DATA"])
def test_an_empty_variable_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say, variable: str) -> None:
    write_preset(tmp_path, PRESET)
    monkeypatch.chdir(tmp_path)
    for each in ("LAYERPRUNE_ROOT", "LAYERPRUNE_DATA"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(variable, "")
    assert say("plan", "--preset", "study")[0] == 0
    assert "data: no such data folder for mnist" in say("stage", "mnist", "--preset", "study")[1]


@pytest.mark.parametrize("name", ["with space", "\udcff\udcfe", "quote'\"$(x)", "line\nbreak"])
def test_a_checkout_may_be_called_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say, name: str
) -> None:
    (tmp_path / name).mkdir()
    write_preset(tmp_path / name, PRESET)
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path / name))
    assert running.run(run_key("dense"), "cpu", 1, lambda *_: None, lambda line: None).status == "ok"
    assert paths.record(run_key("dense")).is_file()
    assert say("tables", "--preset", "study", "--partial") == (0, "")


TORCHRUN = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}


ODD_PLACES = [
    (name, value) for name in TORCHRUN for value in ("", "x", "\udcff", None) if (name, value) != ("WORLD_SIZE", None)
]


@pytest.mark.parametrize("variable, value", ODD_PLACES)
def test_half_of_a_place_under_torchrun_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say, variable: str, value: str | None
) -> None:
    write_preset(tmp_path, PRESET)
    for each, told in (TORCHRUN | {"LAYERPRUNE_ROOT": str(tmp_path), variable: value}).items():
        monkeypatch.delenv(each, raising=False) if told is None else monkeypatch.setenv(each, told)
    status, said = say(*words(run_key("dense")))
    (line,) = said.splitlines()
    assert status == 2 and "all four are numbers under torchrun" in line and line.isprintable()
