"""Figures that compare variants of gated: estimators, and several objectives at once."""

from pathlib import Path

import made_up_runs as made_up
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerprune.analysis.figures import FIGURES, is_empty
from layerprune.analysis.figures.pareto import OBJECTIVES, _on_front
from layerprune.analysis.frames import read_study
from layerprune.suite import record
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

ESTIMATORS = ("straight_through", "finite_difference", "disarm")
COORDINATE = st.integers(0, 5)


def study(variants: dict[str, dict]) -> list[RunKey]:
    """Made-up runs of dense and of gated with these variants, two seeds."""
    raw = made_up.preset({"mlp-residual-20": {}}, ["dense", "gated"], (0, 1))
    gated = raw["datasets"][made_up.DATASET]["methods"]["gated"]
    gated["variants"] = {name: {"settings": settings} for name, settings in variants.items()}
    return made_up.write_study(raw)


def prepared(name: str, partial: bool = False) -> pd.DataFrame:
    return FIGURES[name].prepare(read_study(made_up.PRESET, made_up.DATASET, partial))


def is_not_drawn(name: str) -> bool:
    return is_empty(name, prepared(name))


def write_latencies(keys: list[RunKey]) -> None:
    """A table in which every other network takes a quarter of dense's time."""
    lines = ["arch,method,variant,seed,batch,threads,device,hardware,macs,median_ms,low_ms,high_ms,repeats"]
    for key in keys:
        macs, time = record.read(paths.record(key)).macs, 4.0 if key.method == "dense" else 1.0
        run = f"{key.arch},{key.method},{key.variant},{key.seed}"
        lines += [f"{run},{batch},1,cpu,some,{macs},{time},{time},{time},30" for batch in (1, 128)]
    files.write_text(paths.latency_table(made_up.PRESET, made_up.DATASET), "\n".join(lines) + "\n")


# --- estimators -------------------------------------------------------------------------------------------------


def test_each_estimator_has_its_runs_and_their_mean(root: Path) -> None:
    keys = study({f"estimator-{name.replace('_', '-')}": {"estimator": name} for name in ESTIMATORS})
    for key in keys:
        if key.variant == "estimator-disarm":
            made_up.change(key, keep=[1] * (4 + 2 * key.seed) + [0] * (16 - 2 * key.seed), status="ok")
    data = prepared("estimators")
    assert set(data["name"]) == {"two-sided", "straight-through", "finite difference", "DisARM"}
    disarm = data[data["name"] == "DisARM"]
    assert sorted(disarm[disarm["kind"] == "run"]["sections_left"]) == [4, 6]
    (mean,) = disarm[disarm["kind"] == "mean"].to_dict("records")
    assert (mean["sections_left"], mean["n"]) == (5, 2)


def test_an_estimator_that_has_not_run_is_named_and_the_default_alone_is_no_comparison(root: Path) -> None:
    keys = study({"estimator-disarm": {"estimator": "disarm"}})
    for key in keys:
        if key.variant != "default":
            paths.record(key).unlink()
    data = prepared("estimators", partial=True)
    (gap,) = data[(data["name"] == "DisARM")].to_dict("records")
    assert gap["n"] == 0 and made_up.texts(FIGURES["estimators"].draw(data, "heading")).count("–") == 3
    study({})
    assert is_not_drawn("estimators")


# --- several objectives -----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=1, max_size=12))
def test_on_the_front_is_what_nothing_else_beats(points: list[tuple[int, int]]) -> None:
    frame = pd.DataFrame(points, columns=["left", "test_accuracy"]).assign(arch="one")
    for flag, (left, accuracy) in zip(_on_front(frame), points, strict=True):
        better = [(x, y) for x, y in points if (x <= left and y > accuracy) or (x < left and y >= accuracy)]
        assert flag == (not better)


def test_objectives_are_shares_of_dense_and_latency_waits_for_its_measurement(root: Path) -> None:
    keys = study({"nu-0.1": {"nu": 0.1}, "cost-params": {"cost": "params"}, "target-5": {"target_depth": 5}})
    data = prepared("pareto")
    assert set(data["objective"]) == {"macs", "params"}
    assert set(data["aim"]) == {"dense", "price nu", "price by parameters or latency", "budget"}
    assert data[data["aim"] == "dense"]["left"].tolist() == [100] * 4
    labels = [ax.get_xlabel() for ax in FIGURES["pareto"].draw(data, "heading").axes]
    assert labels == ["multiply-adds (% of dense)", "parameters (% of dense)"]  # nothing is kept free for latency
    write_latencies(keys)
    data = prepared("pareto")
    assert set(data["objective"]) == set(OBJECTIVES)
    latency = data[data["objective"] == "latency"]
    assert latency[latency["aim"] != "dense"]["left"].unique().tolist() == [25.0] and len(latency) == len(keys)


def test_without_a_sweep_there_is_nothing_to_draw(root: Path) -> None:
    study({"stay": {"remove": False}})
    assert is_not_drawn("pareto")


@pytest.mark.parametrize("left", [88.0, 70.0])
def test_a_budget_in_latency_is_compared_with_what_its_training_measured(root: Path, left: float) -> None:
    keys = study({"target-latency-0.7": {"target_latency": 0.7}})
    for key in keys:
        told = {"whole_ms": 2.0, "section_ms": [0.09] * 20, "left_ms": 0.02 * left}
        made_up.change(key, details={"latency": told} if key.variant != "default" else {})
    data = prepared("budgets")
    assert data["left"].tolist() == pytest.approx([left, left]) and set(data["asked"]) == {70.0}
    assert data["tolerance"].tolist() == pytest.approx([4.5, 4.5]) and data["runs_by_hand"].isna().all()
    write_latencies(keys)
    assert prepared("budgets")["left"].tolist() == [25.0, 25.0]  # measured in turns with dense
    made_up.change(keys[-1], macs=record.read(paths.record(keys[-1])).macs - 1)
    assert prepared("budgets")["left"].tolist() == pytest.approx([25.0, left])
