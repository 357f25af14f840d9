"""Every figure plots the values of its frame, each on its own axis. Frames are written by hand, so that no two
columns agree and a wrong or exchanged one shows."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import same_color, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layerprune.analysis import style
from layerprune.analysis.basin import Fates
from layerprune.analysis.figures import FIGURES, _marks, basin, budgets, objective, survivors, theta

matplotlib.use("Agg")
Points = list[tuple[float, float]]


def drawn(name: str, rows: list[dict]) -> Figure:
    with style.applied():
        return FIGURES[name].draw(pd.DataFrame(rows), "heading")


def panels(figure: Figure) -> list[Axes]:
    """Without the bars that say what colours mean."""
    return [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]


def points(line: Line2D) -> Points:
    return [(float(x), float(y)) for x, y in line.get_xydata()]


def lines(ax: Axes, **look: str) -> list[Points]:
    """The points of every line that looks so: color, marker, linestyle, fillstyle, label."""
    chosen = ax.lines
    if "color" in look:
        chosen = [line for line in chosen if same_color(line.get_color(), look["color"])]
    for name in look.keys() - {"color"}:
        chosen = [line for line in chosen if getattr(line, f"get_{name}")() == look[name]]
    return [points(line) for line in chosen]


def one(ax: Axes, **look: str) -> Points:
    (found,) = lines(ax, **look)
    return found


def words(ax: Axes) -> dict[str, tuple[float, float]]:
    """Text -> where it stands, of labels beside marks."""
    return {text.get_text(): getattr(text, "xy", text.get_position()) for text in ax.texts}


# --- accuracy against something -----------------------------------------------------------------------------------

QUANTITIES = {"accuracy-vs-depth": "depth", "accuracy-vs-macs": "macs_ratio"}
QUANTITIES |= {"accuracy-vs-training-macs": "train_macs_ratio"}


def mark(method: str, base: float, curve: str = "main", **changes: object) -> dict:
    """A row whose numbers are all different: means base, base + 1, ... with intervals of 0.1 and 0.2."""
    row = {"arch": "net", "method": method, "variant": "default", "label": method, "curve": curve, "nu": np.nan}
    row |= {"n": 3, "n_failed": 0, "n_missing": 0, "stands_out": True}
    for place, name in enumerate(("depth", "sections_left", "test_accuracy", "macs_ratio", "train_macs_ratio")):
        row |= {f"{name}_mean": base + place, f"{name}_low": base + place - 0.1, f"{name}_high": base + place + 0.2}
    return row | changes


@pytest.mark.parametrize("name", QUANTITIES)
def test_accuracy_stands_above_its_quantity_with_both_intervals(name: str) -> None:
    x = 10 + {"depth": 0, "macs_ratio": 3, "train_macs_ratio": 4}[QUANTITIES[name]]
    (ax,) = drawn(name, [mark("gated", 10.0)]).axes
    assert one(ax, label="gated") == [(x, 12)]
    assert [(x, pytest.approx(11.9)), (x, pytest.approx(12.2))] in lines(ax)
    assert [(pytest.approx(x - 0.1), 12), (pytest.approx(x + 0.2), 12)] in lines(ax)
    assert words(ax) == {}


def test_what_does_not_stand_out_is_a_grey_dot_without_an_interval() -> None:
    grey = [mark("random", 30.0, stands_out=False), mark("sss", 20.0, "keep", stands_out=False)]
    (ax,) = drawn("accuracy-vs-depth", [mark("gated", 10.0), *grey]).axes
    assert one(ax, label="others") == [(30, 32), (20, 22)]
    assert same_color(next(line for line in ax.lines if line.get_label() == "others").get_color(), style.OTHER)
    assert lines(ax, color=style.color("random")) == lines(ax, color=style.color("sss")) == []
    assert one(ax, label="line of others") == [(20, 22)]


def test_grey_marks_far_below_are_triangles_at_the_edge_and_none_above_is() -> None:
    grey = [mark("sss", 5.0, stands_out=False), mark("random", 90.0, stands_out=False)]
    chosen = [mark("dense", 70.0), mark("gated", 60.0)]
    figure = drawn("accuracy-vs-depth", [*chosen, *grey])
    (ax,) = figure.axes
    low, high = ax.get_ylim()
    assert 7 < low < 60 and high > 92
    assert one(ax, marker="v") == [(5, 0.02)]
    assert [text.get_text() for text in figure.legends[0].texts].count("below the panel") == 1
    assert not lines(drawn("accuracy-vs-depth", chosen).axes[0], marker="v")


def test_alike_networks_whose_accuracies_do_not_overlap_have_scales_of_their_own() -> None:
    rows = [mark(method, base, arch=arch) for arch, method, base in (
        ("net-2", "dense", 10.0), ("net-2", "gated", 20.0), ("net-9", "dense", 40.0), ("net-9", "gated", 50.0),
    )]  # fmt: skip
    first, second = (ax.get_ylim() for ax in drawn("accuracy-vs-macs", rows).axes)
    assert first[1] < second[0]


def test_a_network_with_one_mark_has_no_panel_and_alike_networks_one_scale() -> None:
    rows = [mark(method, base, arch=arch) for arch, method, base in (
        ("net-2", "dense", 10.0), ("net-2", "gated", 20.0), ("net-9", "dense", 15.0), ("net-9", "gated", 50.0),
        ("other", "dense", 70.0), ("other", "gated", 75.0), ("lone", "gated", 5.0),
    )]  # fmt: skip
    figure = drawn("accuracy-vs-macs", rows)
    scales = {ax.get_title(): (ax.get_xlim(), ax.get_ylim()) for ax in figure.axes}
    assert list(scales) == ["net-2", "net-9", "other"]
    assert scales["net-2"] == scales["net-9"] and scales["other"][1] != scales["net-9"][1]
    assert scales["other"][0] == scales["net-9"][0]  # costs have one scale everywhere
    depths = {ax.get_title(): ax.get_xlim() for ax in drawn("accuracy-vs-depth", rows).axes}
    assert depths["net-2"] != depths["net-9"]


def test_curves_run_through_prices_in_their_order_and_through_depths_in_theirs() -> None:
    prices = [mark("gated", base, "nu", nu=nu, label=f"{nu}") for base, nu in ((30.0, 0.1), (20.0, 0.4))]
    depths = [mark("random", base, "keep", label=f"{base}") for base in (50.0, 40.0)]
    (ax,) = drawn("accuracy-vs-depth", [*prices, *depths, mark("gated", 5.0, nu=0.2)]).axes
    assert [(30, 32), (5, 7), (20, 22)] in lines(ax, color=style.color("gated"))
    assert [(40, 42), (50, 52)] in lines(ax, color=style.color("random"))


def test_another_length_of_training_is_a_hollow_mark_beside_the_curve_of_prices() -> None:
    assert [_marks.curve_of(name) for name in ("longer-0.08", "shorter", "long", "default")] == [
        "length", "length", "other", "main",
    ]  # fmt: skip
    rows = [mark("dense", 70.0), mark("gated", 10.0, nu=0.2), mark("gated", 20.0, "nu", nu=0.1, label="price")]
    figure = drawn("accuracy-vs-training-macs", [*rows, mark("gated", 30.0, "length", nu=0.1, label="longer")])
    (ax,) = figure.axes
    assert one(ax, label="longer") == [(34, 32)]
    (hollow,) = (line for line in ax.lines if line.get_label() == "longer")
    assert same_color(hollow.get_markerfacecolor(), "white") and same_color(hollow.get_color(), style.color("gated"))
    assert [(24, 22), (14, 12)] in lines(ax, color=style.color("gated"))
    legend = [text.get_text() for text in figure.legends[0].texts]
    assert legend.count(_marks.LENGTHS) == 1
    assert _marks.LENGTHS not in [text.get_text() for text in drawn("accuracy-vs-depth", rows).legends[0].texts]


def test_dense_is_a_line_at_its_accuracy_with_its_interval_as_a_band() -> None:
    (ax,) = drawn("accuracy-vs-macs", [mark("dense", 10.0), mark("gated", 20.0)]).axes
    assert [(0, 12), (1, 12)] in lines(ax, color=style.color("dense"))
    (band,) = ax.patches
    assert band.get_extents().transformed(ax.transData.inverted()).intervaly.tolist() == pytest.approx([11.9, 12.2])


# --- the basin --------------------------------------------------------------------------------------------------


def test_a_section_is_predicted_to_go_below_the_boundary_and_ever_after() -> None:
    x = np.array([[0.4, 0.4, 0.9, 0.5, 2.0], [3.0, 0.4, 0.9, 0.4, 2.0]])
    y = np.array([[0.5, 0.7, 0.2, 0.5, -1.5], [3.0, 0.7, 0.0, 0.5, -0.5]])
    nothing = np.zeros_like(x, bool)
    found = Fates(None, np.array([1, 2]), x, y, nothing, nothing[0]).predicted
    assert found.tolist() == [[True, False, False, False, True], [True, False, True, True, True]]


def test_sections_run_through_weights_and_theta_and_the_boundary_is_where_they_sum_to_one() -> None:
    shared = {"arch": "net", "seed": 0}
    rows = [
        shared | {"section": section, "step": step, "x": x, "y": y, "may_go": met}
        for section, (step, x, y, met) in enumerate([(1, 3.0, 0.2, False), (1, 4.0, 0.3, False), (1, 5.0, 0.4, False)])
    ]
    later = [(0, 2, 0.5, 0.1, True), (1, 2, 0.6, 0.15, True), (2, 2, 6.0, 0.9, False), (0, 3, 0.25, 0.05, True)]
    rows += [
        shared | {"section": section, "step": step, "x": x, "y": y, "may_go": met} for section, step, x, y, met in later
    ]
    for row in rows:
        row["came_back"] = row["section"] == 1
    (ax,) = drawn("basin", rows).axes
    assert lines(ax, color=basin.GONE) == [[(3, 0.2), (0.5, 0.1), (0.25, 0.05)], [(0.5, 0.1)]]
    assert lines(ax, color=basin.BACK) == [[(4, 0.3), (0.6, 0.15)], [(0.6, 0.15)]]
    assert lines(ax, color=basin.NEVER_MET) == [[(5, 0.4), (6, 0.9)]]
    boundary = one(ax, color=basin.BOUNDARY)
    assert boundary[0][0] < 0.25 and boundary[-1][0] > 6
    assert [x + y for x, y in boundary] == pytest.approx([1] * len(boundary))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("weights, w / w*", "theta, scaled")


# --- budgets ----------------------------------------------------------------------------------------------------


def test_what_is_left_stands_above_what_was_asked_for_and_the_search_by_hand_beside_it() -> None:
    shared = {"arch": "net", "kind": "sections", "tolerance": 1.0}
    rows = [
        shared | {"seed": 0, "asked": 4, "left": 9, "runs_by_hand": 3, "left_by_hand": 5},
        shared | {"seed": 0, "asked": 12, "left": 2, "runs_by_hand": 6, "left_by_hand": 15},
    ]
    (ax,) = drawn("budgets", rows).axes
    circles = [point for (point,) in lines(ax, marker="o")]
    assert [y for _, y in circles] == [9, 2]
    assert all(asked - 1 < x < asked for (x, _), asked in zip(circles, (4, 12), strict=True))
    near, far = one(ax, marker="s", fillstyle="full"), one(ax, marker="s", fillstyle="none")
    assert near[0][1] == 5 and 4 < near[0][0] < 5
    assert far[0][1] == 15 and 12 < far[0][0] < 13
    assert words(ax) == {"3": near[0], "6": far[0]}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("removable sections: budget", "removable sections: result")


def test_near_enough_is_a_tolerance_above_and_below_the_diagonal() -> None:
    row = {"arch": "net", "kind": "macs", "tolerance": 4.0, "seed": 0, "asked": 50, "left": 60}
    (ax,) = drawn("budgets", [row | {"runs_by_hand": np.nan, "left_by_hand": np.nan}]).axes
    assert [x - y for x, y in one(ax, color="#555555")] == [0, 0]
    (band,) = ax.collections
    assert {round(float(y - x), 6) for x, y in band.get_paths()[0].vertices} == {-4, 4}
    assert lines(ax, color=budgets.HAND) == []


# --- starting depths ----------------------------------------------------------------------------------------------


def test_final_depth_and_accuracy_stand_above_the_depth_at_the_start() -> None:
    shared = {"family": "mlp", "n_failed": 0, "n_missing": 0}
    values = [("run", 10, 7, 91), ("run", 20, 8, 82), ("mean", 20, 9, 73), ("mean", 10, 6, 64)]
    rows = [
        shared
        | {
            "kind": kind,
            "arch": f"mlp-{start}",
            "method": "gated",
            "start": start,
            "seed": 0,
            "n": 2,
            "stands_out": True,
        }
        | {"sections_left": left, "sections_left_low": left - 1, "sections_left_high": left + 2}
        | {"test_accuracy": accuracy, "test_accuracy_low": accuracy - 3, "test_accuracy_high": accuracy + 4}
        for kind, start, left, accuracy in values
    ]
    depths, accuracies = drawn("depth-vs-start", rows).axes
    for ax, runs, means, ends in (
        (depths, [(10, 7), (20, 8)], [(10, 6), (20, 9)], [[(10, 5), (10, 8)], [(20, 8), (20, 11)]]),
        (accuracies, [(10, 91), (20, 82)], [(10, 64), (20, 73)], [[(10, 61), (10, 68)], [(20, 70), (20, 77)]]),
    ):
        assert one(ax, marker=".") == runs and one(ax, marker=style.marker("gated")) == means
        assert all(each in lines(ax, color=style.color("gated")) for each in ends)
    assert one(depths, linestyle="--") == [(0, 0), (20, 20)]
    grey = drawn("depth-vs-start", [row | {"stands_out": False} for row in rows])
    assert lines(grey.axes[0], color=style.color("gated")) == []
    assert lines(grey.axes[0], color=style.OTHER)[1] == [(10, 6), (20, 9)]


# --- estimators ---------------------------------------------------------------------------------------------------


def reading(name: str, epochs: int, at: float, batches: int, error: float) -> dict:
    row = {"arch": "net", "reading": name, "epochs": epochs, "theta": at, "batches": batches, "n": 2}
    for place, quantity in enumerate(("error", "bias", "spread")):
        value = error * 10**place
        row |= {quantity: value, f"{quantity}_low": 0.9 * value, f"{quantity}_high": 1.2 * value}
    return row


def test_errors_of_estimators_stand_above_theta_and_batches() -> None:
    sizes = {
        (epochs, at, batches): epochs + at + batches / 100
        for epochs in (1, 5)
        for at in (0.3, 0.9)
        for batches in (1, 4)
    }
    rows = [reading("disarm", *point, error) for point, error in sizes.items()]
    axes = drawn("estimator-error", rows).axes
    color = "#CC79A7"
    found = [max(lines(ax, color=color, marker="D"), key=len) for ax in axes]
    assert found[0] == [(at, pytest.approx(sizes[1, at, 4])) for at in (0.3, 0.9)]
    assert found[1] == [(at, pytest.approx(sizes[5, at, 4])) for at in (0.3, 0.9)]
    assert found[2] == [(batches, pytest.approx(sizes[5, 0.9, batches])) for batches in (1, 4)]
    assert found[3] == [(at, pytest.approx(10 * sizes[5, at, 4])) for at in (0.3, 0.9)]
    assert found[4] == [(at, pytest.approx(100 * sizes[5, at, 1])) for at in (0.3, 0.9)]
    assert found[5] == [(at, pytest.approx(100 * sizes[5, at, 4])) for at in (0.3, 0.9)]
    (ends,) = [each for each in axes[0].collections if len(each.get_segments())]
    assert [segment[:, 1].tolist() for segment in ends.get_segments()] == [
        pytest.approx([0.9 * y, 1.2 * y]) for _, y in found[0]
    ]


def named(kind: str, name: str, base: float, **changes: object) -> dict:
    row = {"kind": kind, "arch": "net", "name": name, "prior": name, "start": "", "n": 2, "sections_total": 20}
    for place, quantity in enumerate(("sections_left", "premature", "undecided", "test_accuracy", "train_macs_ratio")):
        row |= {quantity: base + place, f"{quantity}_low": base + place - 0.5, f"{quantity}_high": base + place + 0.25}
    return row | changes


@pytest.mark.parametrize(
    ("figure", "names", "offsets"),
    [("estimators", ("two-sided", "DisARM"), (0, 3, 4)), ("priors", ("flattening", "none"), (0, 1, 2, 3))],
)
def test_each_quantity_has_a_panel_and_each_name_a_place(figure: str, names: tuple[str, str], offsets: tuple) -> None:
    first, second = names
    rows = [named("run", second, 7.0), named("mean", second, 11.0), named("run", first, 3.0), named("mean", first, 5.0)]
    axes = drawn(figure, rows).axes
    assert len(axes) == len(offsets)
    for ax, offset in zip(axes, offsets, strict=True):
        assert [label.get_text() for label in ax.get_xticklabels()] == [f"{first}, 2", f"{second}, 2"]
        assert sorted(one(ax, marker=".")) == [(-0.16, 3 + offset), (0.84, 7 + offset)]
        assert sorted(one(ax, marker="o")) == [(0.1, 5 + offset), (1.1, 11 + offset)]
        ends = sorted(segment[:, 1].tolist() for segment in ax.collections[0].get_segments())
        assert ends == [[4.5 + offset, 5.25 + offset], [10.5 + offset, 11.25 + offset]]


def test_rows_of_one_network_share_their_scales() -> None:
    rows = [named("mean", "none", base, start=start) for base, start in ((5.0, ""), (45.0, "-theta0-0.3"))]
    axes = drawn("priors", rows).axes
    assert [above.get_ylim() == below.get_ylim() for above, below in zip(axes[:4], axes[4:], strict=True)] == [True] * 4


def test_a_name_without_a_mean_has_a_dash() -> None:
    gap = {name: np.nan for name in ("sections_left", "test_accuracy", "train_macs_ratio")}
    rows = [named("mean", "two-sided", 5.0), named("mean", "DisARM", 5.0, n=0) | gap]
    assert [words(ax)["–"][0] for ax in drawn("estimators", rows).axes] == [1, 1, 1]


# --- costs --------------------------------------------------------------------------------------------------------


def test_speed_up_stands_above_macs_saved_with_its_quartiles() -> None:
    row = {"arch": "net", "batch": 1, "engine": "eager", "precision": "fp32", "methods": "gated", "runs": 2}
    row |= {"threads": 1, "device": "cpu", "hardware": "some", "macs": 5, "median_ms": 6.0, "stand_out": "gated"}
    row |= {"macs_saving": 4.0, "speed_up": 3.0, "speed_up_low": 2.5, "speed_up_high": 3.25}
    other = row | {"methods": "random", "stand_out": "", "macs_saving": 40.0, "speed_up": 30.0}
    (ax,) = drawn("latency-vs-macs", [row, other]).axes
    assert one(ax, label="gated") == [(4, 3)] and one(ax, linestyle="--") == [(1, 1), (40, 40)]
    assert one(ax, label="others") == [(40, 30)] and (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    (quartiles,) = ax.collections
    assert quartiles.get_segments()[0].tolist() == [[4, 2.5], [4, 3.25]]


def test_accuracy_stands_above_what_is_left_and_the_front_joins_what_nothing_beats() -> None:
    shared = {"arch": "net", "variant": "any", "seed": 0, "objective": "params"}
    marks = [("dense", 100.0, 95.0, True), ("price nu", 40.0, 93.0, True), ("budget", 60.0, 91.0, False)]
    rows = [shared | {"aim": aim, "left": left, "test_accuracy": y, "on_front": front} for aim, left, y, front in marks]
    whole = {"objective": "macs", "aim": "dense", "left": 100.0, "test_accuracy": 90.0, "on_front": True}
    rows.append(shared | whole | {"arch": "other"})
    macs, params, _, of_other = drawn("pareto", rows).axes
    assert one(params, marker="s") == [(100, 95)] and one(params, marker="o") == [(40, 93)]
    assert one(params, marker="D") == [(60, 91)]
    assert one(params, color="#999999") == [(40, 93), (100, 95)]
    assert [list(words(ax)) for ax in (macs, of_other)] == [
        ["multiply-adds: not measured"],
        ["parameters: not measured"],
    ]


# --- the course of training -----------------------------------------------------------------------------------------


def test_the_objective_and_the_open_sections_run_over_steps() -> None:
    rows = [
        {"arch": "net", "seed": seed, "steps_on_theta": steps, "step": step}
        | {"objective": base + step, "rounded": base + 2 * step, "open": base + 3 * step}
        for seed, steps, base in ((0, "constant", 100.0), (0, "falling", 200.0))
        for step in (25, 50)
    ]
    figure = drawn("objective", rows)
    left, right = figure.axes
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["constant step sizes (n = 1)", "falling step sizes (n = 1)", "theta rounded"]
    for steps, base in (("constant", 100), ("falling", 200)):
        look = {"color": objective.COLORS[steps]}
        assert one(left, linestyle="-", **look) == [(25, base + 25), (50, base + 50)]
        assert one(left, linestyle=":", **look) == [(25, base + 50), (50, base + 100)]
        assert one(right, **look) == [(25, base + 75), (50, base + 150)]


def test_sections_alive_and_cost_run_over_epochs() -> None:
    rows = [
        {"kind": kind, "arch": "net", "method": method, "seed": seed, "n": 2, "epoch": epoch, "stands_out": True}
        | {"sections_alive": base - epoch, "train_macs_ratio": base + epoch / 10}
        for kind, method, seed, base in (
            ("run", "gated", 0, 20),
            ("mean", "gated", None, 40),
            ("mean", "dense", None, 60),
        )
        for epoch in (0, 3)
    ]
    above, below = drawn("sections-alive", rows).axes
    assert lines(above, color=style.color("gated")) == [[(0, 20), (3, 17)], [(0, 40), (3, 37)]]
    assert lines(below, color=style.color("gated")) == [[(0, 20), (3, 20.3)], [(0, 40), (3, 40.3)]]
    assert one(above, linestyle="--") == [(0, 60), (3, 57)]
    assert {line.get_linewidth() for line in above.lines if points(line)[0][1] == 40} == {1.8}


def test_costs_of_all_networks_share_one_scale() -> None:
    rows = [
        {"kind": "mean", "arch": arch, "method": "dense", "seed": None, "n": 1, "epoch": epoch, "stands_out": True}
        | {"sections_alive": sections, "train_macs_ratio": cost * epoch}
        for arch, sections, cost in (("small", 3, 0.4), ("large", 9, 1.0))
        for epoch in (0, 1)
    ]
    axes = drawn("sections-alive", rows).axes
    tops = [ax.get_ylim()[1] for ax in axes]
    assert len(set(tops[2:])) == 1 and tops[0] < tops[1]


def test_a_cost_without_anything_to_compare_with_says_so() -> None:
    rows = [
        {"kind": "mean", "arch": "net", "method": "sss", "seed": None, "n": 1, "epoch": epoch, "stands_out": True}
        | {"sections_alive": 5, "train_macs_ratio": None}
        for epoch in (0, 6)
    ]
    assert words(drawn("sections-alive", rows).axes[1]) == {"no dense run to compare with": (0.5, 0.5)}


def test_a_cut_after_training_is_a_step_at_the_right_edge_with_a_dot() -> None:
    rows = [
        {"kind": "mean", "arch": "net", "method": method, "seed": None, "n": 2, "epoch": epoch, "stands_out": shown}
        | {"sections_alive": alive, "train_macs_ratio": epoch / 6}
        for method, shown in (("hard-concrete", True), ("sss", False))
        for epoch, alive in ((0, 20), (6, 20), (6, 5))
    ]
    above, _ = drawn("sections-alive", rows).axes
    step, dot = lines(above, color=style.color("hard-concrete"))
    assert step == [(0, 20), (6, 20), (6, 5)] and dot == [(6, 5)]
    assert lines(above, color=style.OTHER) == [step, dot]


def test_theta_runs_over_epochs_to_its_removal_and_both_ends_are_marked() -> None:
    shared = {"arch": "net", "seed": 0, "status": "ok", "epochs": 8, "every": 25}
    values = [("theta", 0, 1, 0.5), ("theta", 0, 2, 0.3), ("theta", 1, 1, 0.6), ("theta", 1, 2, 0.9)]
    values += [("removed", 0, 2.5, 0.0), ("warmup", None, 1.5, None), ("consolidation", None, 6.0, None)]
    rows = [shared | dict(zip(("kind", "section", "epoch", "theta"), each, strict=True)) for each in values]
    (ax,) = panels(drawn("theta", rows))
    assert words(ax) == {"every 25 steps": (0.98, 0.5)}
    first, last = (theta.section_color(section, 2) for section in (0, 1))
    assert lines(ax, color=first) == [[(1, 0.5), (2, 0.3), (2.5, 0)], [(2.5, 0)]]
    assert lines(ax, color=last) == [[(1, 0.6), (2, 0.9)]]
    assert [x for x, _ in one(ax, linestyle=":")] == [1.5, 1.5]
    assert [x for x, _ in one(ax, linestyle="--")] == [6, 6]


# --- which sections go --------------------------------------------------------------------------------------------


def test_accuracy_without_random_sections_stands_above_their_number_with_means() -> None:
    shared = {"arch": "net", "sections": 6, "whole": 97.0, "guessing": 13.0}
    values = [(0, 1, 96.0), (0, 1, 60.0), (0, 1, 30.0), (0, 4, 20.0), (1, 4, 10.0)]
    rows = [shared | {"seed": seed, "removed": gone, "accuracy": accuracy} for seed, gone, accuracy in values]
    (ax,) = drawn("random-removal", rows).axes
    dots = one(ax, marker=".")
    assert [y for _, y in dots] == [96, 60, 30, 20, 10]
    assert [x for x, _ in dots] == pytest.approx([0.94] * 3 + [3.94, 4.06])  # seeds side by side
    assert one(ax, marker="x") == [(1, 62), (4, 15)]
    assert [y for _, y in one(ax, linestyle="--")] == [97, 97] and [y for _, y in one(ax, linestyle=":")] == [13, 13]
    assert ax.get_xlim() == (0.5, 6.5)


def test_a_cell_of_agreement_has_its_row_and_column() -> None:
    taus = {("gated", "gated"): 1.0, ("gated", "random"): 0.25, ("random", "gated"): -0.5, ("random", "random"): np.nan}
    rows = [{"arch": "net", "sections": 5, "method": a, "other": b, "n": 2, "tau": tau} for (a, b), tau in taus.items()]
    figure = drawn("removal-agreement", rows)
    (ax,) = panels(figure)
    blank, cells = ax.collections
    assert [path.get_extents().min.tolist() for path in blank.get_paths()] == [[1, 1]]  # grey where there is no value
    corners = [tuple(path.get_extents().min) for path in cells.get_paths()]
    assert dict(zip(corners, cells.get_array(), strict=True)) == {(0, 0): 1, (0, 1): -0.5}  # the lower half: symmetric
    assert cells.get_clim() == (-1, 1) and ax.get_ylim() == (2, 0)
    assert words(ax) == {"1": (0.5, 0.5), "−0.50": (0.5, 1.5)}
    (bar,) = set(figure.axes) - {ax}
    assert bar.get_xlim() == (-1, 1) and bar.get_xlabel() == "Kendall's tau-b"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["gated", "random"]


def corners(shape: PathCollection) -> list[tuple[float, float]]:
    """Where the squares of a shape have their upper left corners."""
    (path,) = shape.get_paths()
    return [(float(x), float(y)) for (x, y), code in zip(path.vertices, path.codes, strict=True) if code == path.MOVETO]


def test_a_row_of_survivors_is_a_seed_and_its_cells_are_sections() -> None:
    keeps = {("gated", 0): [1, 0, 0], ("gated", 1): [0, 0, 1], ("random", 0): [1, 1, 0]}
    rows = [
        {"arch": "net", "method": method, "seed": seed, "status": "ok", "section": place, "keep": keep}
        for (method, seed), keeps_of in keeps.items()
        for place, keep in reversed(list(enumerate(keeps_of)))
    ]
    rows.append({"arch": "net", "method": "random", "seed": 1, "status": "failed", "section": None, "keep": None})
    (ax,) = drawn("survivors", rows).axes
    shapes = [(to_hex(shape.get_facecolor()[0]), corners(shape)) for shape in ax.collections]
    expected = []
    for top, ((method, _), keep) in zip((0, 1, 2.5), keeps.items(), strict=True):
        expected.append((survivors.GONE.lower(), [(x, top) for x, left in enumerate(keep) if not left]))
        expected.append((style.color(method).lower(), [(x, top) for x, left in enumerate(keep) if left]))
    assert shapes == expected
    (hatched,) = ax.patches
    assert (hatched.get_y(), hatched.get_width(), hatched.get_hatch()) == (3.6, 3, "////")


def test_every_method_has_a_row_with_its_numbers_and_the_share_of_seeds_that_keep_a_section() -> None:
    rows = [mark("dense", 10.0, group="dense", kept="100 100"), mark("taylor", 20.0, group="scores", kept="50 0")]
    rows = [row | {"label": row["method"], "same_as": None} for row in rows]
    rows[1]["same_as"] = "magnitude"
    figure = drawn("every-method", rows)
    accuracy, depth, macs, training, sections = panels(figure)
    for ax, place in ((depth, 0), (accuracy, 2), (macs, 3), (training, 4)):
        assert one(ax, label="dense") == [(10 + place, 0)] and one(ax, label="scores") == [(20 + place, 1)]
        ends = [segment[:, 0].tolist() for shape in ax.collections for segment in shape.get_segments()]
        assert ends == [pytest.approx([base + place - 0.1, base + place + 0.2]) for base in (10, 20)]
    assert [label.get_text() for label in accuracy.get_yticklabels()] == ["dense (3)", "taylor (3)"]
    (mesh,) = sections.collections
    assert mesh.get_array().tolist() == [[100, 100], [50, 0]] and mesh.get_clim() == (0, 100)
    assert figure.get_suptitle().endswith("net\nthe same sections with every seed: magnitude, taylor")
