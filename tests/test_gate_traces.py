"""Traces of gates: the basin against the integrated system; what is premature, what comes back, what converges."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from layerprune.analysis.basin import condition, coordinates, fates
from layerprune.analysis.claims import removal
from layerprune.analysis.figures import FIGURES, basin, is_empty
from layerprune.analysis.gate_traces import (
    GateTrace,
    objective,
    premature_share,
    premature_share_seen_once,
    too_early,
    too_early_share,
    undecided_share,
)
from layerprune.core.settings import GatedSettings

NU, DECAY, MOMENTUM, LR, THETA_LR, BATCH = 0.02, 0.3, 0.5, 0.05, 0.4, 128
NOTES = ("theta", "norm", "delta", "gradient", "benefit")


def trace_with(
    keep: list[int] | None = None, removed: list[int | None] | None = None, steps_total: float = 1000, **notes: list
) -> GateTrace:
    """Checks every 25 steps, the sixteenth of 1,000 rounds; what is not given is plausible and constant."""
    shape = np.array(next(values for name, values in notes.items() if name in NOTES)).shape
    arrays = {name: np.array(notes.get(name, np.full(shape, 0.5)), float) for name in NOTES}
    sections = shape[1]
    made = SimpleNamespace(
        arch="made-up",
        seed=0,
        keep=keep or [1] * sections,
        removed_step=removed or [None] * sections,
        sections_total=sections,
        steps_total=steps_total,
        test_accuracy=0.9,
        details={"nu": NU, "theta_before_consolidation": list(arrays["theta"][-1])},
        provenance=SimpleNamespace(
            config={"training": {"weight_decay": DECAY, "momentum": MOMENTUM, "batch_size": BATCH}}
        ),
    )
    values = GatedSettings(nu=NU, theta_lr=THETA_LR, side_floor=1e-6, checks=2, theta_tol=0.01)
    step = np.arange(1, shape[0] + 1) * 25
    ones = np.ones(shape[0])
    losses = {name: np.array(notes.get(name, ones), float) for name in ("loss", "drawn", "rounded")}
    return GateTrace(made, values, step, LR * ones, **losses, **arrays)


# --- the basin --------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.floats(0.02, 0.98), st.floats(0.01, 3.0), st.floats(0.02, 2.0), st.floats(0.02, 2.0))
def test_the_prediction_is_where_the_integrated_comparison_system_goes(
    theta: float, w: float, k: float, m: float
) -> None:
    trace = trace_with(theta=[[0.5], [theta]], norm=[[w]] * 2, delta=[[-k * w]] * 2, gradient=[[m * 0.5], [m * theta]])
    x, y = (float(part[-1, 0]) for part in coordinates(trace))
    if abs(x + y - 1) < 0.02:  # on the manifold itself nobody can say
        return
    a, b = THETA_LR, LR / (1 - MOMENTUM)

    def flow(_: float, at: np.ndarray) -> list[float]:
        return [a * (k * at[1] - NU), b * (m * at[0] - DECAY * at[1])]

    closes, opens = (lambda _, at, end=end: at[0] - end for end in (0.0, 1e3))
    for event in (closes, opens):
        event.terminal = True
    end = solve_ivp(flow, (0, 1e7), [theta, w], events=[closes, opens], rtol=1e-9, atol=1e-12)
    assert len(end.t_events[0]) + len(end.t_events[1]) == 1
    assert (len(end.t_events[0]) == 1) == (x + y < 1)


def test_the_condition_asks_for_a_row_of_checks_and_a_positive_drift() -> None:
    theta = [[0.5, 0.5, 0.5], [0.0, 0.0, 0.0], [0.0, 0.2, 0.01], [0.01, 0.0, 0.0], [0.0, 0.0, 0.0]]
    delta = [[0.0, 0.0, -0.01]] * 4 + [[0.0, 0.0, -0.03]]
    met = condition(trace_with(theta=theta, delta=delta))
    assert met[:, 0].tolist() == [False, False, True, True, True]
    assert met[:, 1].tolist() == [False, False, False, False, True]
    assert met[:, 2].tolist() == [False, False, True, True, False]  # at last the drift is against it


def test_who_came_back_is_open_at_the_end_although_it_might_have_gone() -> None:
    theta = [[0.5, 0.5, 0.5], [0.0, 0.0, 0.9], [0.0, 0.0, 1.0], [0.3, 0.0, 1.0], [0.7, 0.0, 1.0]]
    trace = trace_with(keep=[1, 0, 1], theta=theta, norm=[[2.0] * 3] * 3 + [[1.0, 1.5, 1.0], [1.0, 0.5, 9.0]])
    found = fates(trace)
    assert found.may_go[-1].tolist() == [True, True, False] and found.closed.tolist() == [False, True, False]
    assert found.weights_since[:2].tolist() == [0.5, 0.25] and math.isnan(found.weights_since[2])


def test_a_training_whose_theta_never_moved_has_no_fates() -> None:
    assert fates(trace_with(theta=[[0.5, 0.5]] * 4)) is None


def test_the_drift_that_is_left_counts_only_what_theta_can_follow() -> None:
    theta = [[0.5, 0.5, 0.5], [0.4, 0.4, 0.4], [0.0, 1.0, 0.5]]
    delta = [[0.0] * 3, [0.38, -0.42, 0.38], [0.5, -0.7, 0.02]]  # drifts 0.4, -0.4, 0.4, then two held and 0.04
    assert removal._drift_left(trace_with(theta=theta, delta=delta)) == pytest.approx(0.1 / math.sqrt(3))


def test_the_squared_drift_is_the_product_of_two_measurements() -> None:
    def left(*drifts: list[float], theta: float = 0.5) -> float | None:
        delta = [[each - NU for each in row] for row in [[0.0, 0.0], *drifts]]
        thetas = [[0.5, 0.5]] + [[0.4, 0.4]] * (len(drifts) - 1) + [[theta, theta]]
        return removal._squared_drift_left(trace_with(theta=thetas, delta=delta))

    there, gone = [0.4, -0.4], [0.0, 0.0]
    assert left(there, there, there, there) == pytest.approx(1)
    assert left(there, there, gone, gone) == 0
    assert left(there, there, [0.04, 0.0], [0.04, -0.04]) == pytest.approx(0.005)
    assert left(there, there, there, there, theta=0.0) == pytest.approx(0.5)  # the first of both cannot follow any more
    assert left(there, there, [0.4, 0.4], [-0.4, -0.4]) == pytest.approx(-1)  # noise around nothing has either sign
    assert left([0.4, 0.4], [-0.4, -0.4], there, there) is None
    assert left(there) is None


@pytest.mark.parametrize("left", [1.0, 0.0])
def test_noise_is_no_drift(left: float) -> None:
    draw = np.random.default_rng(1)
    found, once = [], []
    for _ in range(100):
        drift = np.full((41, 8), 0.02)
        drift[21:] *= left
        trace = trace_with(
            theta=[[0.5] * 8] + [[0.4] * 8] * 40, delta=(drift + draw.normal(0, 0.01, drift.shape) - NU).tolist()
        )
        found.append(removal._squared_drift_left(trace))
        once.append(removal._drift_left(trace) ** 2)
    assert np.mean(found) == pytest.approx(left, abs=0.05)
    assert np.mean(once) > left + 0.1


def test_the_objective_has_a_price_for_what_is_open_and_the_losses_of_the_last_checks() -> None:
    theta = [[0.5, 0.5]] * 2 + [[0.0, 0.9]] * 2
    trace = trace_with(theta=theta, drawn=[9.0, 1.0, 2.0, 3.0], rounded=[9.0, 4.0, 4.0, 4.0])
    drawn, rounded = objective(trace)
    assert drawn[-1] == pytest.approx(2 + NU * 0.9) and rounded[-1] == pytest.approx(4 + NU)


# --- priors -----------------------------------------------------------------------------------------------------


def test_premature_is_what_was_worth_more_than_the_median_when_it_went() -> None:
    benefit = [[0.1, 0.3, 0.2, 0.5]] * 3 + [[0.1, 0.9, 0.2, math.nan]]
    trace = trace_with(removed=[100, 100, None, 75], benefit=benefit)
    # Section 3 went at step 75 as the best of four, section 1 at 100 as the best of three.
    assert premature_share(trace) == pytest.approx(2 / 3)
    assert premature_share_seen_once(trace) == pytest.approx(2 / 3)


def test_too_early_is_what_was_worth_more_than_the_median_of_what_stayed() -> None:
    benefit = [[0.1, 0.3, 0.2, 0.5, 0.4]] * 3 + [[0.1, 0.3, 0.2, math.nan, 0.4]]
    trace = trace_with(removed=[100, 100, None, 75, None], benefit=benefit)
    # Section 3 went at step 75 as the best. Of 0 and 1, which went at 100, neither was above the median of 2 and 4.
    assert too_early(trace) == (1, 3) and too_early_share(trace) == pytest.approx(1 / 3)


@pytest.mark.parametrize("leaving", range(1, 9))
def test_whoever_removes_what_is_worth_least_removes_nothing_too_early(leaving: int) -> None:
    """However many go at one check; beside the median of all, some would be."""
    removed = [150 if place < leaving else None for place in range(9)]
    trace = trace_with(removed=removed, benefit=[[0.1 * place for place in range(9)]] * 6)
    assert too_early(trace) == (0, leaving)
    assert (premature_share(trace) > 0) == (leaving > 5)


def test_what_rounding_removes_is_not_removed_too_early() -> None:
    """One left at step 150, of checks every 25 steps."""
    for due, counts in ((150, (0, 0)), (162, (0, 0)), (163, (1, 1))):
        steps_total = due / GatedSettings().consolidate_at
        trace = trace_with(removed=[150, None, None], benefit=[[0.9, 0.2, 0.3]] * 6, steps_total=steps_total)
        assert too_early(trace) == counts
        assert too_early_share(trace) == (1 if counts[1] else None)


def test_where_all_go_at_once_none_is_too_early() -> None:
    assert too_early(trace_with(removed=[150] * 3, benefit=[[0.9, 0.2, 0.3]] * 6)) == (0, 0)


def test_both_measurements_have_to_call_a_removal_premature() -> None:
    low, high, gone = [0.1, 0.2, 0.3], [0.9, 0.2, 0.3], [1, None, None, None]
    for benefit, share in (
        ([high] * 6, 1.0),
        ([low, high] * 3, 0.0),  # the even checks say that it is worth least
        ([high, low] * 3, 0.0),
        ([high] * 5 + [low], 1.0),  # 0.63 and 0.9 on average
        ([low] * 2 + [high] * 4, 1.0),
        ([low] * 4 + [[0.2, 0.2, 0.3]] * 2, 0.0),  # no more than the median
        ([high] * 6 + [low] * 6, 0.0),  # what is long past does not count
    ):
        gone[0] = 25 * len(benefit)
        for share_of in (premature_share, too_early_share):
            found = share_of(trace_with(removed=gone, benefit=[[*row, 0.2] for row in benefit], steps_total=2000))
            assert found == share, benefit


def test_noise_alone_calls_few_removals_premature() -> None:
    draw = np.random.default_rng(0)
    once, twice = [], []
    for _ in range(200):
        benefit = draw.normal([0.0] + [0.6] * 8, 1.0, (12, 9))  # section 0 is worth least, and the noise is larger
        trace = trace_with(removed=[300] + [None] * 8, benefit=benefit.tolist())
        once.append(premature_share_seen_once(trace))
        twice.append(premature_share(trace))
    assert np.mean(once) > 0.1 > 2 * np.mean(twice)


def test_worth_is_averaged_over_the_last_checks() -> None:
    benefit = [[9.0, 0.2, 0.3], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.5, 0.2, 0.3]]
    trace = trace_with(removed=[100, None, None], benefit=benefit)
    assert premature_share_seen_once(trace) == 0  # 0.23 on average, the median
    assert premature_share(trace_with(benefit=benefit)) is None


def test_a_removal_at_the_first_check_has_one_measurement() -> None:
    assert premature_share(trace_with(removed=[25, None, None], benefit=[[0.9, 0.2, 0.3]])) == 1


def test_undecided_sections_are_neither_open_nor_closed() -> None:
    assert undecided_share([0.0, 1.0, 0.3, 0.995]) == 0.25


# --- figures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["basin", "objective", "priors"])
def test_a_network_without_a_run_is_no_reason_to_draw(name: str) -> None:
    data = pd.DataFrame([{"arch": "net", FIGURES[name].SHOWS: None}])
    assert is_empty(name, data) and is_empty(name, data.iloc[:0])
    assert not is_empty(name, data.assign(**{FIGURES[name].SHOWS: 1.0}))


def test_a_networks_panels_stand_together(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = [trace_with(theta=[[0.5], [0.0], [0.0], [0.0], [0.0]]) for _ in range(4)]
    for trace, (arch, seed) in zip(traces, [("small", 1), ("large", 0), ("large", 1), ("small", 0)], strict=True):
        trace.record.arch, trace.record.seed = arch, seed
    monkeypatch.setattr(basin, "traces_of", lambda study, variant: traces)
    monkeypatch.setattr(basin, "archs_with", lambda study, variant: ["small", "large"])
    panels = basin.prepare(None)[["arch", "seed"]].drop_duplicates().to_numpy().tolist()
    assert panels == [["small", 0], ["small", 1], ["large", 0], ["large", 1]]
