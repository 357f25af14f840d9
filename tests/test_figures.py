"""Figures draw what their CSV says, show gaps, and come out the same each time."""

import re
import shutil
from functools import cache
from pathlib import Path

import made_up_runs as made_up
import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from layerprune.analysis import build, frames, style
from layerprune.analysis.figures import FIGURES, _marks, captions, theta
from layerprune.analysis.selections import standing_out
from layerprune.core import methods
from layerprune.errors import LayerpruneError
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

matplotlib.use("Agg")
REPOSITORY = Path(__file__).parents[1]
RANKED = ["depth-vs-start", "accuracy-vs-training-macs", "survivors", "random-removal", "sections-alive"]
RANKED += ["accuracy-vs-depth", "pareto"]
NAMES = [
    *RANKED,
    *("accuracy-vs-macs", "basin", "budgets", "estimator-error", "estimators", "every-method", "latency-vs-macs"),
    *("objective", "priors", "removal-agreement", "theta"),
]
MADE = [*RANKED, "accuracy-vs-macs", "removal-agreement", "theta"]
"""What the made-up study has records for; random-removal apart, and every-method has a picture a network."""
MADE.remove("random-removal")
ARCHS = ["lenet5", "mlp-residual-20", "mlp-residual-5", "mlp-residual-40"]


@pytest.fixture(scope="module")
def full_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every method on two networks, two seeds, starting depths, a sweep; two failed runs, one missing."""
    root = tmp_path_factory.mktemp("study")
    starts = {f"mlp-residual-{count}": {"only": ["dense", "gated"]} for count in (5, 40)}
    raw = made_up.preset({"lenet5": {}, "mlp-residual-20": {}, **starts}, seeds=(0, 1), sweep=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPRUNE_ROOT", str(root))
        made_up.write_study(raw)
        made_up.fail(key("sss", 0))
        made_up.fail(key("gated", 0, "mlp-residual-40"))
        shutil.rmtree(paths.run_folder(key("random", 1)))
    return root


@pytest.fixture
def full(full_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(full_root))
    return full_root


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """dense and gated on lenet5, two seeds: no starting depths, no sweep."""
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    made_up.write_study(made_up.preset(methods=["dense", "gated"], seeds=(0, 1)))
    return tmp_path


def key(method: str, seed: int, arch: str = "lenet5") -> RunKey:
    return RunKey(made_up.PRESET, made_up.DATASET, arch, method, "default", seed)


def drawn(name: str) -> tuple[pd.DataFrame, Figure]:
    """A figure and its frame; drawn once a study, as nothing here changes them."""
    return _drawn(name, paths.root())


def prepared(name: str) -> pd.DataFrame:
    return FIGURES[name].prepare(frames.read_study(made_up.PRESET, made_up.DATASET, partial=True))


@cache
def _drawn(name: str, root: Path) -> tuple[pd.DataFrame, Figure]:
    data = prepared(name)
    with style.applied():
        return data, FIGURES[name].draw(data, "heading")


def panel(figure: Figure, title: str) -> matplotlib.axes.Axes:
    return next(ax for ax in figure.axes if ax.get_title() == title)


def mark(ax: matplotlib.axes.Axes, label: str) -> Line2D:
    return next(line for line in ax.lines if line.get_label() == label)


def test_figures_are_found_by_file_name_in_the_order_of_what_they_tell_and_have_captions():
    assert list(FIGURES) == NAMES
    assert all(text.endswith(".") for text in captions.values())


def figure_path(name: str, suffix: str = "svg") -> Path:
    return paths.figure(made_up.PRESET, made_up.DATASET, name, suffix)


@pytest.fixture(scope="module")
def drawn_root(full_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """The study with all its figures, and what was written; a blank page of before lay in the folder."""
    root = tmp_path_factory.mktemp("drawn") / "study"
    shutil.copytree(full_root, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPRUNE_ROOT", str(root))
        for suffix in ("svg", "png", "csv"):
            files.write_text(figure_path("basin", suffix), "blank")
        return root, build.build_figures(made_up.PRESET, made_up.DATASET, partial=True)


def test_what_has_values_is_written_as_svg_and_csv_and_nothing_else_is(drawn_root, monkeypatch):
    root, written = drawn_root
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(root))
    pictures = [*MADE, *(f"every-method.{arch}" for arch in ARCHS)]
    expected = {figure_path(name, suffix) for name in pictures for suffix in ("svg", "csv")}
    assert set(written) == expected | {paths.figure_index(made_up.PRESET, made_up.DATASET)}
    assert set(written[0].parent.iterdir()) == set(written)  # no blank page, and none of before


def test_no_picture_is_blank_and_no_table_without_a_value(drawn_root):
    for path in drawn_root[1]:
        if path.suffix == ".svg":
            assert len(re.findall("<(?:path|use)", path.read_text())) > 10, path
        elif path.suffix == ".csv":
            name = path.stem.split(".")[0]
            assert pd.read_csv(path)[FIGURES[name].SHOWS].notna().any(), path


def test_the_index_names_figures_by_rank_what_the_others_need_and_the_runs_without_a_result(drawn_root):
    text = (drawn_root[1][0].parent / "README.md").read_text()
    top, appendix, absent, without = text.split("\n## ")[1:]
    assert re.findall(r"^\* \[([\w-]+)\]", top, re.M) == [name for name in RANKED if name in MADE]
    assert "[every-method.lenet5](every-method.lenet5.svg), [every-method.mlp-residual-20]" in appendix
    named = re.findall(r"^\* `([\w-]+)`: needs", absent, re.M)
    assert named == [name for name in NAMES if name not in [*MADE, "every-method"]]
    assert "* lenet5, sss: 1 diverged" in without and "* lenet5, random: 1 missing" in without
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (drawn_root[1][0].parent / link).is_file()


def test_at_most_three_groups_stand_out_in_a_panel(full):
    families = methods.families()
    for name in (
        "accuracy-vs-depth",
        "accuracy-vs-macs",
        "accuracy-vs-training-macs",
        "sections-alive",
        "depth-vs-start",
    ):
        data, _ = drawn(name)
        chosen = data[data["stands_out"].astype(bool)].groupby("arch")["method"].unique()
        for arch, names in chosen.items():
            rivals = [families[each] for each in names if each not in ("dense", "gated")]
            assert len(rivals) == len(set(rivals)) and set(rivals) <= {"trained", "scores"}, (name, arch)
    figure = drawn("accuracy-vs-depth")[1]
    filled = [line for line in panel(figure, "lenet5").lines if line.get_markerfacecolor() != "none"]
    colors = {line.get_color() for line in filled if line.get_marker() not in ("None", "")}
    assert {style.color("dense"), style.color("gated"), style.OTHER} < colors and len(colors - {"white"}) <= 5


def test_a_network_of_a_family_of_rivals_shows_the_most_accurate_that_removed_sections(small):
    runs = pd.DataFrame(
        [
            ("net", "dense", 0.99, 20), ("net", "gated", 0.90, 5), ("net", "sss", 0.95, 20), ("net", "gal", 0.80, 5),
            ("net", "hard-concrete", 0.85, 5), ("net", "taylor", 0.70, 5), ("net", "random", 0.60, 5),
            ("net", "scratch-e", 0.97, 5),
        ],
        columns=["arch", "method", "test_accuracy", "sections_left"],
    ).assign(status="ok", variant="default", sections_total=20)  # fmt: skip
    assert standing_out(runs) == {"net": ["dense", "gated", "hard-concrete", "taylor"]}


def test_a_methods_that_cut_after_training_ends_with_what_its_record_says(full):
    data, _ = drawn("sections-alive")
    run = data.query("kind == 'run' and arch == 'mlp-residual-20' and method == 'hard-concrete' and seed == 0")
    run = run.dropna(subset="sections_alive")
    assert list(run["epoch"]) == sorted(run["epoch"])
    left = sum(files.read_json(paths.record(key("hard-concrete", 0, "mlp-residual-20")))["keep"])
    assert run["sections_alive"].iloc[-1] == left


def test_a_late_cut_is_a_row_of_its_own(small):
    made = made_up.write_study(made_up.preset({"mlp-residual-5": {}}, ["dense", "gated", "sss"], seeds=(0, 1)))
    for each in made:
        if each.method == "sss":  # its curves know of no removal
            made_up.change(each, keep=[1, 0, 0, 0, 1], removed_step=[None, 800, 800, 800, None], status="ok")
            curves = pd.read_csv(paths.curves(each)).assign(sections_alive=5)
            files.write_text(paths.curves(each), curves.to_csv(index=False))
    data, _ = drawn("sections-alive")
    late = data.query("method == 'sss' and epoch == 8").dropna(subset="sections_alive")
    assert list(late.query("kind == 'mean'")["sections_alive"]) == [5, 2]
    assert list(late.query("kind == 'run' and seed == 1")["sections_alive"]) == [5, 2]
    gated = data.query("method == 'gated' and kind == 'mean'").dropna(subset="sections_alive")
    assert not gated["epoch"].tail(2).duplicated().any()


def test_sections_go_at_the_step_that_the_record_names(small):
    made_up.write_study(made_up.preset({"mlp-residual-5": {}}, ["dense", "gated"], seeds=(0, 1)))
    for seed, steps in ((0, [125, None, 750, 750, None]), (1, [125, None, None, None, None])):
        kept = [int(step is None) for step in steps]
        made_up.change(key("gated", seed, "mlp-residual-5"), keep=kept, removed_step=steps, status="ok")
    data, _ = drawn("sections-alive")
    rows = data.query("method == 'gated'").dropna(subset="sections_alive")
    one = rows.query("kind == 'run' and seed == 0")
    assert list(zip(one["epoch"], one["sections_alive"], strict=True)) == [
        *((0, 5), (1.25, 5), (1.25, 4), (7.5, 4), (7.5, 2), (8, 2))
    ]
    assert list(rows.query("kind == 'mean'")["sections_alive"]) == [5, 5, 4, 4, 3, 3]


def test_values_in_a_csv_have_five_digits_and_whole_numbers_all() -> None:
    data = pd.DataFrame({"a": [98.0533333, 12345678.0, float("nan")], "b": ["x", None, "y"], "c": [1, 2, 3]})
    assert build.as_csv(data) == "a,b,c\n98.053,x,1\n12345678,,2\n,y,3\n"


def test_rows_of_one_level_are_left_out_of_theta() -> None:
    values = np.array([0.5, 0.5, 0.5, 0.7, 1.0, 1.0, 1.0, np.nan])
    kept = list(theta._corners(np.arange(8.0), values))
    assert kept == [(0, 0.5), (2, 0.5), (3, 0.7), (4, 1.0), (6, 1.0)]


def test_every_method_names_those_that_left_the_same_sections(full):
    for seed in (0, 1):
        keep = files.read_json(paths.record(key("magnitude", seed, "mlp-residual-20")))["keep"]
        made_up.change(key("taylor", seed, "mlp-residual-20"), keep=keep)
    data = FIGURES["every-method"].prepare(frames.read_study(made_up.PRESET, made_up.DATASET, partial=True))
    rows = data[(data["arch"] == "mlp-residual-20")].set_index("label")
    assert rows.dropna(subset="same_as")["same_as"].to_dict() == {"taylor": "magnitude"}
    keeps = [files.read_json(paths.record(key("gated", seed, "mlp-residual-20")))["keep"] for seed in (0, 1)]
    shares = [50 * sum(pair) for pair in zip(*keeps, strict=True)]
    assert [int(share) for share in rows.loc["gated", "kept"].split()] == shares
    assert set(rows.index) >= {"dense", "gated nu-0.004", "random keep-5", "scratch-e"}


def test_the_csv_has_the_numbers_of_the_marks(full):
    data, figure = drawn("accuracy-vs-depth")
    row = data.query("arch == 'lenet5' and label == 'gated'").iloc[0]
    line = mark(panel(figure, "lenet5"), "gated")
    assert list(line.get_xdata()) == [row["depth_mean"]]
    assert list(line.get_ydata()) == [row["test_accuracy_mean"]]
    assert 50 < row["test_accuracy_mean"] <= 100


def test_the_sweep_of_nu_is_one_curve_through_the_default(full):
    data, figure = drawn("accuracy-vs-depth")
    expected = data.query("arch == 'mlp-residual-20' and method == 'gated'").sort_values("nu")["depth_mean"]
    curves = [list(line.get_xdata()) for line in panel(figure, "mlp-residual-20").lines if len(line.get_xdata()) == 6]
    assert list(expected) in curves


def test_dense_is_a_line_across_the_panel_with_a_band(full):
    data, figure = drawn("accuracy-vs-depth")
    ax = panel(figure, "lenet5")
    mean = data.query("arch == 'lenet5' and label == 'dense'")["test_accuracy_mean"].item()
    assert any(list(line.get_ydata()) == [mean, mean] and list(line.get_xdata()) == [0, 1] for line in ax.lines)
    assert ax.patches


def test_a_line_counts_failed_and_missing_runs(full):
    _, figure = drawn("accuracy-vs-depth")
    lines = [text.get_text() for text in panel(figure, "lenet5").texts]
    assert lines == ["runs of sss and random: 1 failed, 1 not run"]
    assert not panel(figure, "mlp-residual-5").texts


def test_gaps_of_many_methods_are_counted_together_and_networks_without_results_have_no_panel(full):
    data, _ = drawn("accuracy-vs-depth")
    of_one, of_other = (data["arch"] == arch for arch in ("lenet5", "mlp-residual-5"))
    many = pd.concat([data[of_one].assign(method=f"method-{k}", n=0, n_missing=2, n_failed=0) for k in range(13)])
    unmade = data[of_other].assign(n=0, n_missing=2, n_failed=0)
    changed = pd.concat([data[~of_other], many.drop_duplicates("method"), unmade], ignore_index=True)
    figure = FIGURES["accuracy-vs-depth"].draw(changed, "heading")
    assert "mlp-residual-5" not in [ax.get_title() for ax in figure.axes]
    ax = panel(figure, "lenet5")
    assert [text.get_text() for text in ax.texts] == ["runs of 15 methods: 1 failed, 27 not run"]  # two of lenet5's own


def test_the_failed_start_is_hollow_in_the_colour_of_the_legend(full):
    data, figure = drawn("depth-vs-start")
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "none"]
    gone = data[(data["kind"] == "mean") & (data["n_failed"] + data["n_missing"] > 0)]
    named = {entry.get_label().split(" (")[0]: entry.get_color() for entry in figure.legends[0].legend_handles}
    assert hollow and {line.get_markeredgecolor() for line in hollow} <= {named[each] for each in gone["method"]}


def test_a_removed_section_ends_in_a_cross_at_its_step(full):
    data, figure = drawn("theta")
    removed = data.query("arch == 'mlp-residual-20' and seed == 0 and kind == 'removed'")
    crosses = [line for line in panel(figure, "mlp-residual-20, seed 0").lines if line.get_marker() == "x"]
    assert sorted(line.get_xdata()[0] for line in crosses) == sorted(removed["epoch"])
    assert len(removed) > 0


def test_cumulative_cost_of_dense_ends_at_one(full):
    data, _ = drawn("sections-alive")
    dense = data.query("method == 'dense' and kind == 'mean'").groupby("arch")["train_macs_ratio"].max()
    assert list(dense) == pytest.approx([1.0] * len(dense))


def test_inference_cost_is_a_multiple_of_the_whole_network_with_an_interval(full):
    data, figure = drawn("accuracy-vs-macs")
    row = data.query("arch == 'mlp-residual-20' and label == 'gated'").iloc[0]
    kept = [sum(files.read_json(paths.record(key("gated", s, "mlp-residual-20")))["keep"]) for s in (0, 1)]
    ratios = [(79_400 + 20_000 * count) / (79_400 + 20_000 * 20) for count in kept]
    assert row["macs_ratio_mean"] == pytest.approx(sum(ratios) / 2)
    assert (row["macs_ratio_low"], row["macs_ratio_high"]) == pytest.approx((min(ratios), max(ratios)))
    assert list(mark(panel(figure, "mlp-residual-20"), "gated").get_xdata()) == [row["macs_ratio_mean"]]


@pytest.fixture
def choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """tau by method and other: choices on mlp-residual-5 set by hand, two seeds a method."""
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    names = ["dense", "gated", "magnitude", "random", "leave-one-out", "by-index"]
    made_up.write_study(made_up.preset({"mlp-residual-5": {}}, names, seeds=(0, 1)))
    keeps = {
        "gated": ([1, 1, 1, 0, 0], [1, 1, 0, 0, 0]),
        "magnitude": ([1, 1, 0, 0, 0], [1, 1, 1, 0, 0]),  # gated's frequencies with the seeds exchanged
        "random": ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1]),  # their opposite
        "leave-one-out": ([1, 1, 1, 1, 0], [0, 0, 0, 0, 1]),  # each section as often as any other
    }
    for method, lists in keeps.items():
        for seed, keep in enumerate(lists):
            made_up.change(key(method, seed, "mlp-residual-5"), keep=keep, removed_step=[None] * 5, status="ok")
    return drawn("removal-agreement")[0].set_index(["method", "other"])


def test_agreement_is_of_removal_frequencies_whatever_the_seed(choices):
    assert choices.loc[("gated", "magnitude"), "tau"] == pytest.approx(1)
    assert choices.loc[("gated", "random"), "tau"] == pytest.approx(-1)
    assert set(choices["n"]) == {2} and set(choices["sections"]) == {5}


def test_agreement_is_symmetric_and_leaves_controls_out(choices):
    table = choices["tau"].unstack()
    assert table.equals(table.T.rename_axis(index="method", columns="other"))
    assert set(table) == {"gated", "magnitude", "random", "leave-one-out"}


def test_agreement_with_a_method_without_preference_is_blank(choices):
    assert choices.xs("leave-one-out")["tau"].isna().all()
    _, figure = drawn("removal-agreement")
    numbers = sorted(text.get_text() for text in figure.axes[0].texts)
    assert numbers == ["1"] * 4 + ["−1"] * 2  # of the ten cells of the lower half: its row and its column have none


def test_agreement_that_is_undefined_for_every_two_methods_has_no_panel(choices, monkeypatch):
    for method in ("gated", "magnitude", "random"):
        for seed in (0, 1):
            made_up.change(key(method, seed, "mlp-residual-5"), keep=[1] * 4 + [0] if seed else [0] * 4 + [1])
    assert prepared("removal-agreement").empty


def test_a_seed_that_is_not_planned_has_no_panel_of_theta(small):
    archs = {"lenet5": {}, "mlp-residual-5": {"methods": {"gated": {"seeds": [0]}, "dense": {"seeds": [0]}}}}
    made_up.write_study(made_up.preset(archs, methods=["dense", "gated"], seeds=(0, 1)))
    _, figure = drawn("theta")
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == [
        *("lenet5, seed 0", "lenet5, seed 1", "mlp-residual-5, seed 0")
    ]


def test_every_method_without_dense_says_so_and_has_no_panel_of_the_cost(small):
    made_up.write_study(made_up.preset(methods=["gated", "sss"], seeds=(0, 1)))
    _, figure = drawn("every-method")
    assert figure.get_suptitle().endswith("\nno dense run to compare the training cost with")
    assert not [ax for ax in figure.axes if "training" in ax.get_xlabel()]


def test_agreement_needs_three_methods(small):
    made_up.write_study(made_up.preset(methods=["dense", "gated", "sss"], seeds=(0, 1)))
    assert prepared("removal-agreement").empty
    made_up.write_study(made_up.preset(methods=["dense", "gated", "sss", "taylor"], seeds=(0, 1)))
    assert len(prepared("removal-agreement")) == 9


def test_theta_has_no_panels_of_a_network_that_has_not_run(full):
    data, _ = drawn("theta")
    unmade = data[data["arch"] == "lenet5"].assign(status="missing", kind="none")
    figure = theta.draw(pd.concat([data[data["arch"] != "lenet5"], unmade]), "heading")
    shown = {ax.get_title().split(",")[0] for ax in figure.axes}
    assert "mlp-residual-5" in shown and "lenet5" not in shown


def test_fixed_sections_are_no_part_of_theta_survivors_and_sections_alive(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    archs = {"resnet-20": {"model": {"removable": "shape-preserving"}}}
    made_up.write_study(made_up.preset(archs, ["dense", "gated"], seeds=(0,)))
    theta, alive, left = (drawn(name)[0] for name in ("theta", "sections-alive", "survivors"))
    assert set(theta.query("kind == 'theta'")["section"]) == set(range(7))  # 9 sections, 2 change the shape
    assert alive.query("method == 'dense'")["sections_alive"].max() == 7
    assert set(left["section"]) == set(range(7))


def test_survivors_have_one_cell_a_section_and_a_blank_for_a_failed_run(full):
    data, _ = drawn("survivors")
    assert len(data.query("arch == 'mlp-residual-20' and method == 'gated' and seed == 1")) == 20
    assert data.query("arch == 'lenet5' and method == 'sss' and seed == 0")["keep"].isna().all()


def test_without_starting_depths_the_index_says_why(small):
    *_, index = build.build_figures(made_up.PRESET, made_up.DATASET)
    assert "* `depth-vs-start`: needs two networks of one family" in index.read_text()


def test_cost_without_a_dense_run_is_a_multiple_of_what_gated_would_cost_with_every_section(small):
    for seed in (0, 1):
        shutil.rmtree(paths.run_folder(key("dense", seed)))
    for seed in (0, 1):
        path = paths.curves(key("gated", seed))
        curves = pd.read_csv(path)
        files.write_text(path, curves.assign(train_macs=curves["epoch"] * 100).to_csv(index=False))
    data, _ = drawn("sections-alive")
    costs = data.query("method == 'gated' and kind == 'mean'").dropna(subset="train_macs_ratio")
    assert list(costs["train_macs_ratio"]) == pytest.approx([epoch / 8 for epoch in range(9)])


def test_survivors_of_a_network_that_has_not_run_claim_no_section(small):
    for method in ("dense", "gated"):
        shutil.rmtree(paths.run_folder(key(method, 0)).parent)
    _, figure = drawn("survivors")
    assert figure.axes[0].get_xlabel() == "no run yet" and len(figure.axes[0].get_xticks()) == 0


def test_without_records_there_is_no_picture_but_an_index(small):
    shutil.rmtree(paths.results(made_up.PRESET))
    (index,) = build.build_figures(made_up.PRESET, made_up.DATASET, partial=True)
    assert index.read_text().count(": needs ") == len(FIGURES)
    assert list(index.parent.iterdir()) == [index]


def test_a_study_without_a_removal_is_drawn_as_far_as_it_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    made_up.write_study(made_up.preset(methods=["dense"], seeds=(0, 1)))
    *pictures, index = build.build_figures(made_up.PRESET, made_up.DATASET)
    assert {"sections-alive", "survivors", "removal-agreement"}.isdisjoint(path.stem for path in pictures)
    assert "* `sections-alive`: needs" in index.read_text()


def test_a_network_of_which_dense_alone_has_run_has_no_panel_of_sections_alive(small):
    for seed in (0, 1):
        shutil.rmtree(paths.run_folder(key("gated", seed)))
    assert prepared("sections-alive").empty


def test_missing_runs_are_refused_unless_gaps_are_allowed(small):
    shutil.rmtree(paths.run_folder(key("gated", 0)))
    with pytest.raises(LayerpruneError, match="1 of 4 runs are missing"):
        build.build_figures(made_up.PRESET, made_up.DATASET, ["survivors"])


def test_an_unknown_figure_is_named(small):
    with pytest.raises(LayerpruneError, match="figure 'nothing' is unknown"):
        build.build_figures(made_up.PRESET, made_up.DATASET, ["nothing"])


def show(root: Path, page: str, text: str) -> None:
    files.write_text(root / page, text)


def pngs() -> list[str]:
    build.build_figures(made_up.PRESET, made_up.DATASET, ["pareto", "survivors", "theta"])
    return sorted(path.stem for path in (paths.root() / "figures").rglob("*.png"))


def test_a_png_is_drawn_of_what_the_readme_and_docs_show_and_of_nothing_else(small):
    show(small, "README.md", "![Theta](figures/made-up/mnist/theta.png)")
    show(
        small,
        "docs/page.md",
        "![Depth](../figures/made-up/mnist/survivors.png) ![B](../figures/made-up/mnist/basin.svg)",
    )
    show(
        small,
        "docs/other.md",
        "![Other presets](../figures/laptop/mnist/budgets.png) <!-- generated:figure:made-up:mnist:pareto -->",
    )
    assert pngs() == ["survivors", "theta"]
    show(small, "docs/page.md", "")
    assert pngs() == ["theta"]


def test_the_pngs_of_the_repository_are_those_that_its_pages_show(monkeypatch):
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(REPOSITORY))
    pages = [REPOSITORY / "README.md", *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("results/*/claims.md")]
    linked = re.findall(r"\]\((?:\.\./)*(figures/[^)]+\.png)\)", "\n".join(page.read_text("utf-8") for page in pages))
    assert {REPOSITORY / link for link in linked} == build.shown_as_png() == set(REPOSITORY.glob("figures/*/*/*.png"))


def test_a_png_has_two_dots_a_css_pixel_and_a_palette(small):
    show(small, "README.md", "![Depth](figures/made-up/mnist/survivors.png)")
    _, png, _ = build.build_figures(made_up.PRESET, made_up.DATASET, ["survivors"])
    _, figure = drawn("survivors")
    with Image.open(png) as image:
        assert image.size == tuple(int(200 * inches) for inches in figure.get_size_inches())
        colors = {color: count for count, color in image.convert("RGB").getcolors(256)}
    assert colors[255, 255, 255] > sum(colors.values()) / 2
    assert any(same_color([channel / 255 for channel in color], style.color("gated")) for color in colors)


@pytest.mark.parametrize("name", ["accuracy-vs-depth", "survivors"])
def test_figures_have_the_same_bytes_on_a_rebuild(small, name):
    show(small, "README.md", f"![{name}](figures/made-up/mnist/{name}.png)")
    before = [path.read_bytes() for path in build.build_figures(made_up.PRESET, made_up.DATASET, [name])]
    after = [path.read_bytes() for path in build.build_figures(made_up.PRESET, made_up.DATASET, [name])]
    assert after == before


def test_the_heading_names_preset_data_and_n(small):
    build.build_figures(made_up.PRESET, made_up.DATASET, ["accuracy-vs-depth"])
    study = frames.read_study(made_up.PRESET, made_up.DATASET)
    module = FIGURES["accuracy-vs-depth"]
    heading = build.heading(study, module.TITLE, module.prepare(study))
    assert "preset made-up, dataset mnist (images: made-up), n = 2" in heading


def test_every_method_has_a_colour_and_a_marker_of_its_own():
    known = frames.method_order()
    assert set(made_up.METHODS) <= set(style.LOOKS)
    looks = [(style.color(name), style.marker(name)) for name in known]
    assert len({color for color, _ in looks}) == len({marker for _, marker in looks}) == len(known)


def test_colours_are_far_apart():
    colors = [to_rgb(color) for color, _ in style.LOOKS.values()]
    apart = [
        sum((a - b) ** 2 for a, b in zip(one, other, strict=True))
        for place, one in enumerate(colors)
        for other in colors[:place]
    ]
    assert min(apart) > 0.05


def test_a_method_of_ones_own_gets_a_look_from_its_name():
    assert style.color("my-method") == style.color("my-method") != style.color("another")
    assert style.marker("my-method") in style.SPARE_MARKERS


def place(x: float, y: float, reach: float = 5.0) -> _marks.Place:
    """A mark whose interval reaches so far up and down."""
    return _marks.Place(x, y, y - reach, y + reach)


def test_lone_marks_stay_where_they_are():
    assert _marks.fan([place(10, 50), place(100, 50)]) == [0.0, 0.0]


def test_marks_that_coincide_are_parted_and_the_first_stays():
    offsets = _marks.fan([place(50, 50)] * 3)
    assert offsets[0] == 0
    assert sorted(offsets) == [-_marks.MARK, 0.0, _marks.MARK]


def test_marks_at_different_heights_move_only_where_their_intervals_would_coincide():
    assert _marks.fan([place(50, 50, reach=30), place(50, 90, reach=30)]) == [0.0, _marks.LINE]
    assert _marks.fan([place(50, 50), place(50, 90)]) == [0.0, 0.0]


def test_the_names_of_agreement_lie_within_the_figure(full):
    _, figure = drawn("removal-agreement")
    with style.applied():
        figure.draw_without_rendering()
    for ax in figure.axes:
        box = ax.get_tightbbox()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_a_legend_of_every_method_lies_within_the_figure_below_the_panel():
    figure, (ax,) = style.grid(1)
    with style.applied():
        style.legend(figure, [Line2D([], [], label=name) for name in frames.method_order()])
        figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0 and legend.y0 >= 0 and legend.x1 <= figure.bbox.x1
    assert legend.y1 <= ax.get_tightbbox().y0 and ax.bbox.height > 100


@pytest.mark.parametrize("name", ["accuracy-vs-depth", "accuracy-vs-macs", "sections-alive", "theta"])
def test_nothing_is_drawn_outside_the_figure_or_under_the_legend(full, name):
    _, figure = drawn(name)
    with style.applied():
        figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert legend.x1 <= figure.bbox.x1 and legend.y0 >= 0
    assert not [ax for ax in figure.axes if ax.get_tightbbox().overlaps(legend)]


def test_a_heading_does_not_count_seeds_that_have_not_run() -> None:
    study = frames.Study("laptop", "mnist", pd.DataFrame({"data_source": ["mnist"]}))
    data = pd.DataFrame({"seed": [0, 1, 2], "status": ["ok", "missing", "missing"]})
    assert build.heading(study, "theta", data).endswith("n = 1")
    unequal = data.assign(status="ok", arch="lenet5", method=["gated", "gated", "sss"])
    assert build.heading(study, "survivors", unequal).endswith("n = 1 to 2")
    nothing = data.assign(status="missing")
    assert build.heading(study, "theta", nothing).endswith("n = 0")
