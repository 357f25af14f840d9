"""Latency: one measurement a network, taken in turns and alone, and the figure of its table."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import filelock
import made_up_runs as made_up
import pandas as pd
import pytest
import torch
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from layerprune import cli
from layerprune.analysis import build, frames, style
from layerprune.analysis.figures import is_empty
from layerprune.analysis.figures import latency_vs_macs as figure
from layerprune.analysis.frames import read_latencies
from layerprune.core import surgery, timing
from layerprune.core.measure import count_macs
from layerprune.core.networks import storage
from layerprune.core.networks.build import build as build_network
from layerprune.errors import LayerpruneError
from layerprune.library.latency import machine
from layerprune.library.latency.measuring import Conditions
from layerprune.suite import latency, record
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

PRESET, DATASET, ARCH = made_up.PRESET, made_up.DATASET, "lenet-300-100"
QUICK = Conditions(torch.device("cpu"), batches=(1, 2), repeats=2)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunKey]:
    """dense, gated and random of two seeds; each has left a network, all but dense without its first section."""
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)
    keys = made_up.write_study(made_up.preset({ARCH: {}}, ["dense", "gated", "random"], seeds=(0, 1)))
    for key in keys:
        network = build_network(ARCH, (1, 28, 28), 10, torch.Generator().manual_seed(key.seed))
        surgery.remove(network, [0] if key.method != "dense" else [])
        storage.save(network, paths.arch(key), paths.weights(key))
        paths.weights(key).unlink()  # not needed
        made_up.change(key, macs=count_macs(network, network.input_shape))
    return keys


def measured(*batches: int) -> pd.DataFrame:
    """Measure the study; its table."""
    conditions = Conditions(QUICK.device, batches or QUICK.batches, QUICK.repeats)
    (path,) = latency.measure_runs(PRESET, [DATASET], conditions, lambda text: None)
    assert path == paths.latency_table(PRESET, DATASET)
    return read_latencies(PRESET, DATASET)


def write_table(times: dict[tuple[str, int], float], batch: int = 1, seeds: tuple[int, ...] = (0, 1)) -> None:
    """A table of made-up times: (method, MACs) -> median; quartiles a tenth below and above."""
    rows = [
        dict(zip(latency.COLUMNS, (ARCH, method, "default", seed, batch, 1, "cpu", "a chip", macs), strict=False))
        | {"median_ms": time, "low_ms": 0.9 * time, "high_ms": 1.1 * time, "repeats": 5}
        for (method, macs), time in times.items()
        for seed in seeds
    ]
    files.write_text(paths.latency_table(PRESET, DATASET), pd.DataFrame(rows).to_csv(index=False))


def macs_of(key: RunKey) -> int:
    return record.read(paths.record(key)).macs


def prepared() -> pd.DataFrame:
    return figure.prepare(frames.read_study(PRESET, DATASET, partial=True))


def drawn(data: pd.DataFrame) -> Figure:
    with style.applied():
        return figure.draw(data, "heading")


# --- measuring ------------------------------------------------------------------------------------------------


def test_every_run_has_a_row_for_each_batch_without_its_weights(runs: list[RunKey]) -> None:
    table = measured()
    assert sorted(zip(table["method"], table["seed"], table["batch"], strict=True)) == sorted(
        (key.method, key.seed, batch) for key in runs for batch in (1, 2)
    )
    with open(paths.latency_table(PRESET, DATASET), encoding="utf-8") as stream:
        assert tuple(next(csv.reader(stream))) == latency.COLUMNS
    assert (table["low_ms"] > 0).all()
    assert (table["low_ms"] <= table["median_ms"]).all() and (table["median_ms"] <= table["high_ms"]).all()
    assert table.set_index(["method", "seed", "batch"])["macs"].to_dict() == {
        (key.method, key.seed, batch): macs_of(key) for key in runs for batch in (1, 2)
    }
    assert set(table["threads"]) == {1} and set(table["device"]) == {"cpu"} and (table["hardware"] != "").all()


def test_networks_that_are_the_same_are_measured_once(runs: list[RunKey], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def fake(works: list, repeats: int, device: torch.device) -> list[list[float]]:
        sizes.append(len(works))
        return [[float(place + 1)] * repeats for place in range(len(works))]

    monkeypatch.setattr(timing, "milliseconds", fake)
    table = measured(1)
    assert sizes == [2]  # the whole one and the one that lost a section, of six runs
    assert set(table[table["method"] == "dense"]["median_ms"]) == {1.0}
    assert set(table[table["method"] != "dense"]["median_ms"]) == {2.0}


def test_a_run_that_left_no_network_is_passed_over(runs: list[RunKey]) -> None:
    paths.arch(runs[-1]).unlink()
    table = measured(1)
    assert len(table) == len(runs) - 1


def test_networks_take_turns_and_who_begins_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = []
    monkeypatch.setattr(timing, "_calls_needed", lambda work, device: 5)
    monkeypatch.setattr(timing, "seconds", lambda work, device, calls=1: timed.append((work, calls)) or 0.01)
    times = timing.milliseconds(["a", "b"], repeats=2)
    assert [work for work, calls in timed if calls == 5] == ["a", "b", "b", "a"]
    assert timed[::2] == [(work, 1) for work in "abba"]  # one untimed call before each
    assert times == [[2.0, 2.0], [2.0, 2.0]]  # milliseconds of one of five calls


def test_a_fast_network_is_called_until_the_clock_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "seconds", lambda work, device, calls=1: 0.0006 * calls)
    assert timing._calls_needed(None, timing.CPU) == 9  # 5 ms
    monkeypatch.setattr(timing, "seconds", lambda work, device, calls=1: 0.2 * calls)
    assert timing._calls_needed(None, timing.CPU) == 1


def test_quartiles_are_of_the_repeats(runs: list[RunKey], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "milliseconds", lambda works, *_: [[5.0, 1.0, 4.0, 2.0, 3.0]] * len(works))
    table = measured(1)
    assert {tuple(row) for row in table[["low_ms", "median_ms", "high_ms"]].to_numpy()} == {(2.0, 3.0, 4.0)}


def test_it_computes_with_the_asked_threads_and_puts_them_back(
    runs: list[RunKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(latency, "_rows", lambda *_: seen.append(torch.get_num_threads()) or [])
    torch.set_num_threads(2)
    latency.measure_runs(PRESET, [DATASET], QUICK, lambda text: None)
    assert set(seen) == {1} and torch.get_num_threads() == 2


def test_a_busy_machine_is_remarked(runs: list[RunKey], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    for load in (1.7, 0.1):
        monkeypatch.setattr(machine.os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        latency.measure_runs(PRESET, [DATASET], QUICK, said.append)
    assert [text for text in said if "not idle" in text] == [said[0]] and "load 1.7" in said[0]


# --- the command ----------------------------------------------------------------------------------------------

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`layerprune latency` with these words on the study: status, stdout, stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["layerprune", "latency", "--preset", PRESET, *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, *capsys.readouterr()

    return call


def test_the_command_writes_the_table_and_names_it(runs: list[RunKey], command: Command) -> None:
    code, out, _ = command("--dataset", DATASET, "--batch", "3", "--batch", "1", "--repeats", "1")
    assert (code, out) == (0, f"{paths.latency_table(PRESET, DATASET)}\n")
    assert set(read_latencies(PRESET, DATASET)["batch"]) == {1, 3}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--batch", "0"], "'--batch'"),
        (["--repeats", "0"], "'--repeats'"),
        (["--threads", "0"], "'--threads'"),
        (["--device", "tpu"], "'tpu'"),
        (["--dataset", "cifar10"], "'cifar10' is not in preset"),
    ],
)
def test_a_mistake_is_one_line(runs: list[RunKey], command: Command, words: list[str], expected: str) -> None:
    assert complaint(command(*words)).startswith("layerprune: error: ")
    assert expected in complaint(command(*words))


def complaint(outcome: tuple[int, str, str]) -> str:
    """The one line of a command that failed and wrote nothing."""
    code, out, err = outcome
    assert (code, out) == (2, "")
    assert not paths.latency_table(PRESET, DATASET).exists()
    (line,) = err.splitlines()
    return line


def test_nothing_to_measure_is_one_line(runs: list[RunKey], command: Command) -> None:
    for key in runs:
        paths.arch(key).unlink()
    assert f"{paths.results(PRESET)}: no run has left a network" in complaint(command())


@pytest.mark.parametrize("damage", ["{", "{}", '"stem"'])
def test_a_damaged_description_is_named(runs: list[RunKey], command: Command, damage: str) -> None:
    paths.arch(runs[0]).write_text(damage)
    assert str(paths.arch(runs[0])) in complaint(command())


def test_a_description_whose_layers_do_not_fit_is_named(runs: list[RunKey], command: Command) -> None:
    described = files.read_json(paths.arch(runs[0]))
    files.write_json(paths.arch(runs[0]), described | {"input_shape": [1, 5, 5]})
    assert f"{paths.arch(runs[0])}: not a network's description" in complaint(command())


def test_two_measurements_never_run_at_once(runs: list[RunKey], command: Command) -> None:
    paths.latency_lock().parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(paths.latency_lock()):
        assert f"{paths.latency_lock()}: another process is measuring" in complaint(command())
    assert command("--repeats", "1", "--batch", "1")[0] == 0


# --- the figure -----------------------------------------------------------------------------------------------


def test_the_figure_shows_speed_up_against_macs_saved(runs: list[RunKey]) -> None:
    whole, less = macs_of(runs[0]), macs_of(key_of("gated"))
    write_table({("dense", whole): 4.0, ("gated", less): 1.0, ("random", less): 2.0})
    data = prepared().set_index("methods")
    assert data.loc["gated", "macs_saving"] == pytest.approx(whole / less)
    assert data.loc["gated", ["speed_up", "speed_up_low", "speed_up_high"]].tolist() == pytest.approx(
        [4.0, 4.0 / 1.1, 4.0 / 0.9]
    )
    assert data.loc["dense", "speed_up"] == 1.0
    (ax,) = drawn(data.reset_index()).axes
    others, *marks, diagonal = ax.lines
    assert list(others.get_xdata()) == []
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [1, pytest.approx(whole / less)]
    assert {mark.get_label(): mark.get_ydata()[0] for mark in marks} == {"random": 2.0, "gated": 4.0, "dense": 1.0}
    for mark in marks:
        assert same_color(mark.get_color(), style.color(mark.get_label()))
        assert mark.get_marker() == style.marker(mark.get_label())


def test_methods_that_left_the_same_network_stand_side_by_side(runs: list[RunKey]) -> None:
    less = macs_of(key_of("gated"))
    write_table({("dense", macs_of(runs[0])): 4.0, ("gated", less): 1.0, ("random", less): 1.0})
    data = prepared()
    assert list(zip(data["methods"], data["runs"], strict=True)) == [("dense", 2), ("gated random", 2 * 2)]
    drawing = drawn(data)
    assert [text.get_text() for text in drawing.legends[0].get_texts()] == [
        *("dense", "gated", "random", "in proportion to MACs")
    ]
    drawing.canvas.draw()
    _, *marks, _ = drawing.axes[0].lines
    places = {mark.get_label(): mark.get_transform().transform(mark.get_xydata())[0] for mark in marks}
    assert places["gated"][0] < places["random"][0] and places["gated"][1] == places["random"][1]


def test_every_engine_and_precision_has_panels_and_a_dense_of_its_own(runs: list[RunKey]) -> None:
    conditions = Conditions(QUICK.device, (1, 2), 1, precisions=("fp32", "bf16"))
    latency.measure_runs(PRESET, [DATASET], conditions, lambda text: None)
    data = prepared()
    assert (data[data["methods"] == "dense"]["speed_up"] == 1.0).sum() == 4
    titles = [ax.get_title() for ax in drawn(data).axes]
    assert titles == [f"{ARCH}, batch {n}\neager, {precision}" for n in (1, 2) for precision in ("bf16", "fp32")]


def test_a_table_from_before_there_were_engines_is_eagers_in_fp32(runs: list[RunKey]) -> None:
    write_table({("dense", macs_of(runs[0])): 4.0})
    table = read_latencies(PRESET, DATASET)
    assert len(table) == 2 and set(table["engine"]) == {"eager"} and set(table["precision"]) == {"fp32"}


def key_of(method: str, seed: int = 0) -> RunKey:
    return RunKey(PRESET, DATASET, ARCH, method, "default", seed)


def test_there_is_a_panel_for_each_architecture_and_batch(runs: list[RunKey]) -> None:
    measured()
    drawing = drawn(prepared())
    assert [ax.get_title() for ax in drawing.axes] == [f"{ARCH}, batch 1", f"{ARCH}, batch 2"]
    assert "1 thread" in drawing.get_suptitle()


def test_what_was_not_measured_is_not_drawn_and_the_index_says_how_to_measure(runs: list[RunKey]) -> None:
    assert prepared().empty
    *pictures, index = build.build_figures(PRESET, DATASET)
    assert "latency-vs-macs" not in {path.stem for path in pictures}
    assert "* `latency-vs-macs`: needs latencies (layerprune latency" in index.read_text()


def test_without_dense_there_is_nothing_to_compare_with(runs: list[RunKey]) -> None:
    write_table({("gated", macs_of(key_of("gated"))): 1.0})
    data = prepared()
    assert data["speed_up"].isna().all() and is_empty("latency-vs-macs", data)
    whole = data.assign(arch="with-dense", speed_up=1.0, speed_up_low=1.0, speed_up_high=1.0, macs_saving=1.0)
    both = drawn(pd.concat([data, whole], ignore_index=True))
    assert {ax.get_title() for ax in both.axes if ax.get_title()} == {"with-dense, batch 1"}


def test_failed_runs_and_networks_that_changed_since_are_left_out(runs: list[RunKey]) -> None:
    less = macs_of(key_of("gated"))
    write_table({("dense", macs_of(runs[0])): 4.0, ("gated", less): 1.0, ("random", less): 2.0})
    made_up.fail(key_of("random", 0))
    made_up.change(key_of("gated", 1), macs=less + 1)
    shown = prepared()
    assert dict(zip(shown["methods"], shown["runs"], strict=True)) == {"dense": 2, "gated": 1, "random": 1}


ODD_ROWS = {"median_ms": ["0", "-1", "nan", "inf", "x"], "low_ms": ["-inf"], "seed": ["9" * 20, "1e400", ""]}


@pytest.mark.parametrize(("column", "value"), [(name, value) for name, values in ODD_ROWS.items() for value in values])
def test_a_table_holds_times_and_whole_numbers(runs: list[RunKey], column: str, value: str) -> None:
    write_table({("dense", 1): 1.0})
    path = paths.latency_table(PRESET, DATASET)
    pd.read_csv(path).astype(object).assign(**{column: value}).to_csv(path, index=False)
    with pytest.raises(LayerpruneError, match=r"latency\.csv: not a table of latencies"):
        read_latencies(PRESET, DATASET)


def test_no_name_of_a_machine_is_a_formula(runs: list[RunKey]) -> None:
    write_table({("dense", macs_of(runs[0])): 4.0, ("gated", macs_of(key_of("gated"))): 1.0})
    path = paths.latency_table(PRESET, DATASET)
    pd.read_csv(path).assign(hardware=r"$\frac{$").to_csv(path, index=False)
    svg, _ = build.build_figures(PRESET, DATASET, ["latency-vs-macs"])
    assert r"\frac{" in "".join(svg.read_text())


@pytest.mark.parametrize("damage", ["", "arch,method\na,b\n", "no table"])
def test_a_damaged_table_is_named(runs: list[RunKey], damage: str) -> None:
    write_table({("dense", 1): 1.0})
    path = paths.latency_table(PRESET, DATASET)
    path.write_text(damage)
    with pytest.raises(LayerpruneError, match=r"latency\.csv: not a table of latencies"):
        read_latencies(PRESET, DATASET)


def test_the_figure_is_written_like_every_other(runs: list[RunKey]) -> None:
    measured(1)
    svg, table = build.build_figures(PRESET, DATASET, ["latency-vs-macs"])
    assert svg.stat().st_size > 1000
    assert pd.read_csv(table)["runs"].sum() == len(runs)
    assert "n = " not in build.heading(frames.read_study(PRESET, DATASET, partial=True), "title", prepared())
