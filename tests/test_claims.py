"""The claims ledger: each verdict from made-up records that must give it, and a ledger that follows its records."""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import made_up_runs as made_up
import numpy as np
import pandas as pd
import pytest
from conftest import Study
from scipy import stats

from layerprune.analysis import compact, statistics, verify
from layerprune.analysis.claims import QUANTITIES, ledger, verdicts
from layerprune.analysis.claims.removal import steps_of_a_fall
from layerprune.analysis.claims.sample import Sample
from layerprune.analysis.claims.verdicts import Verdict
from layerprune.analysis.figures import FIGURES
from layerprune.analysis.frames import read_study
from layerprune.core.settings import GatedSettings
from layerprune.errors import LayerpruneError
from layerprune.suite import config, record
from layerprune.suite.config import Claim, Condition
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

SEEDS = (0, 1, 2, 3, 4)
ARCHS = {"mlp-residual-20": {}}


@pytest.fixture
def study(root: Path) -> list[RunKey]:
    """Made-up runs of three methods on one network, five seeds; nothing is trained."""
    raw = made_up.preset(ARCHS, ["dense", "gated", "magnitude", "scratch-e"], SEEDS)
    early = {"warmup": "1ep", "theta_lr": 5.0, "consolidate_at": 0.4}  # sections may leave from step 150 of 800 on
    raw["datasets"][made_up.DATASET]["methods"]["gated"]["settings"] |= early
    return made_up.write_study(raw)


def of(keys: list[RunKey], method: str) -> list[RunKey]:
    return [key for key in keys if key.method == method]


def verdict_of(claim: str) -> Verdict:
    (entry,) = ledger.entries(made_up.PRESET, only=[claim])
    return entry.verdict


def before_of(claim: str, change: int = -1) -> Verdict:
    """The verdict by the rule before its last change, or that of this number."""
    (entry,) = ledger.entries(made_up.PRESET, only=[claim])
    return entry.before[change].verdict


def rows_of(claim: str, quantity: str) -> list[dict]:
    (entry,) = ledger.entries(made_up.PRESET, only=[claim])
    rows = pd.concat([entry.rows, entry.reported, *(reading.rows for reading in entry.also.values())])
    rows = rows.drop_duplicates(["quantity", "bound", "dataset", "arch", "against"])  # readings share conditions
    return rows[rows["quantity"] == quantity].to_dict("records")


# --- verdicts of whole claims ---------------------------------------------------------------------------------


def set_removals(keys: list[RunKey], *steps: int) -> None:
    """So many of twenty sections leave, at these of the 800 steps; rounding (`consolidate_at` 0.4) is at step 325."""
    for key in of(keys, "gated"):
        removed = [*steps, *[None] * (20 - len(steps))]
        made_up.change(key, removed_step=removed, keep=[int(step is None) for step in removed], status="ok")


def set_settings(keys: list[RunKey], **settings: object) -> None:
    """Let gated's runs have been made with these."""
    for key in of(keys, "gated"):
        raw = json.loads(paths.record(key).read_text())
        raw["provenance"]["config"]["settings"] |= settings
        made_up.change(key, provenance=raw["provenance"])


@pytest.mark.parametrize(
    ("steps", "verdict", "before"),
    [
        ((100, 150, 200), "supported", "supported"),
        ((199, 200), "supported", "supported"),
        ((213, 213), "not supported", "supported"),
        ((100, 213, 250), "not supported", "supported"),
        ((*[199] * 9, 400), "supported", "supported"),
        ((*[199] * 8, 413, 413), "not supported", "not supported"),
        ((100, 500, 600), "not supported", "not supported"),
        ((325, 325, 325), "not supported", "not supported"),
    ],
    ids=[
        "early",
        "half of them in the first quarter",
        "none in the first quarter",
        "a third in the first quarter",
        "nine of ten in the first half",
        "eight of ten in the first half",
        "late",
        "only when theta was rounded",
    ],
)
def test_early_removals_support_c1(study: list[RunKey], steps: tuple[int, ...], verdict: str, before: str) -> None:
    """A quarter of the 800 steps ends before step 200, half before step 400; half a check later is near enough."""
    set_removals(study, *steps)
    assert verdict_of("C1") == verdict
    assert before_of("C1", change=0) == before


def test_c1_is_decided_by_theta_and_not_by_rounding(study: list[RunKey]) -> None:
    """Theta is rounded at step 125, in the first quarter: what goes then, theta has not decided."""
    set_settings(study, consolidate_at=0.15)
    set_removals(study, 124, 125)
    assert [row["verdict"] for row in rows_of("C1", "removed-by-quarter-where-time-allows")] == ["supported"]
    assert verdict_of("C1") == "not supported"


@pytest.mark.parametrize(
    "setting",
    [{"warmup": "2ep"}, {"theta_lr": 2.0}, {"cost_scale": "network"}, {"price_ramp": 0.3}],
    ids=["long warm-up", "slow theta", "a small part of a network's price", "a price that rises slowly"],
)
def test_c1_does_not_ask_for_what_settings_leave_no_time_for(study: list[RunKey], setting: dict) -> None:
    """A section of no use leaves at step 203 at the earliest, after the first quarter."""
    set_settings(study, **setting)
    set_removals(study, 260, 270, 280)
    assert rows_of("C1", "removed-by-quarter-where-time-allows") == []
    assert (verdict_of("C1"), before_of("C1", change=1)) == ("supported", "not supported")


def test_c1_asks_where_settings_leave_no_time_but_a_section_left_all_the_same(study: list[RunKey]) -> None:
    set_settings(study, theta_lr=2.0)
    set_removals(study, 199, 260, 270, 280)
    (row,) = rows_of("C1", "removed-by-quarter-where-time-allows")
    assert (row["mean"], row["verdict"], verdict_of("C1")) == (0.25, "not supported", "not supported")
    assert before_of("C1", change=2) == "supported"


@pytest.mark.parametrize(("step", "counts"), [(400, True), (402, True), (403, False)])
def test_the_check_nearest_to_half_still_counts(study: list[RunKey], step: int, counts: bool) -> None:
    """Checks come every five steps."""
    set_settings(study, check_interval=5)
    set_removals(study, 100, 150, step)
    (row,) = rows_of("C1", "removed-by-half")
    assert row["mean"] == pytest.approx(1 if counts else 2 / 3)


def test_a_useless_section_s_theta_falls_as_fast_as_its_price_allows() -> None:
    """Against theta moved step by step."""
    for theta_lr, price, ramp in itertools.product((0.02, 0.3), (0.01, 0.2), (0.0, 0.1, 0.7)):
        settings = GatedSettings(theta0=0.5, theta_lr=theta_lr, price_ramp=ramp)
        theta, step = 0.5, 0
        while theta > 0:
            step += 1
            theta -= theta_lr * price * min(1, step / (ramp * 1000) if ramp else 1)
        assert steps_of_a_fall(settings, price, 1000) == pytest.approx(step, abs=2)
    assert steps_of_a_fall(GatedSettings(theta0=0.5), 0.0, 1000) == math.inf


def test_a_setting_that_no_longer_exists_keeps_no_claim_from_being_judged(study: list[RunKey]) -> None:
    set_settings(study, of_before=1)
    set_removals(study, 100, 150, 200)
    assert verdict_of("C1") == "supported"


def test_the_share_of_removals_counts_what_went_alone(study: list[RunKey]) -> None:
    set_removals(study, 100, 200, 325, 700)
    (half,) = rows_of("C1", "removed-by-half")
    (alone,) = rows_of("C1", "removed-before-consolidation")
    assert (half["mean"], half["n"], alone["mean"], alone["n"]) == (0.75, 5, 0.5, 5)


@pytest.mark.parametrize(
    ("cost", "lost", "verdict"),
    [(0.5, 0.0, "supported"), (1.0, 0.0, "not supported"), (0.5, 0.05, "not supported")],
    ids=["cheap and as good", "as dear", "cheap and worse"],
)
def test_c3_asks_for_savings_without_loss(study: list[RunKey], cost: float, lost: float, verdict: str) -> None:
    for dense, gated in zip(of(study, "dense"), of(study, "gated"), strict=True):
        for key, share, accuracy in ((dense, 1.0, 0.98), (gated, cost, 0.98 - lost)):
            macs = {name: int(1e6 * share) for name in ("train_macs", "train_macs_own", "macs")}
            made_up.change(key, **macs, macs_dense=10**6, test_accuracy=accuracy)
    assert verdict_of("C3") == verdict


@pytest.mark.parametrize(("theta", "verdict"), [([0.0] * 10 + [1.0] * 10, "supported"), ([0.5] * 20, "not supported")])
def test_c4_asks_what_theta_was_before_it_was_rounded(study: list[RunKey], theta: list, verdict: str) -> None:
    for key in of(study, "gated"):
        made_up.change(key, details={"theta_before_consolidation": theta})
    assert verdict_of("C4") == verdict


def test_that_none_of_few_thetas_is_undecided_proves_little(study: list[RunKey]) -> None:
    for key in of(study, "gated"):
        made_up.change(key, details={"theta_before_consolidation": [0.0, 1.0]})
    (row,) = rows_of("C4", "thetas-undecided")
    assert (row["mean"], row["n"], row["verdict"]) == (0.0, 5, "inconclusive")
    assert row["high"] == pytest.approx(1 - 0.025 ** (1 / 10))
    (entry,) = ledger.entries(made_up.PRESET, only=["C4"])
    (former,) = entry.before[-1].rows.query("quantity == 'undecided-theta'").to_dict("records")
    assert former["verdict"] == "supported"


def test_a_network_with_one_seed_is_inconclusive_and_counts(study: list[RunKey]) -> None:
    for key in [*of(study, "gated")[1:], *of(study, "dense")[1:]]:
        made_up.fail(key)
    (entry,) = ledger.entries(made_up.PRESET, only=["C6"])
    assert entry.share == "0 of 1"
    rows = rows_of("C6", "spread-of-depth") + rows_of("C3", "accuracy-difference-at-equal-accuracy")
    assert [(row["n"], row["verdict"], np.isnan(row["mean"])) for row in rows] == [(1, "inconclusive", True)] * 2
    assert "nan" not in ledger.as_page(made_up.PRESET, [entry])


def test_c6_asks_for_five_seeds(study: list[RunKey]) -> None:
    for key in of(study, "gated"):
        made_up.change(key, keep=[1] * 8 + [0] * 12, test_accuracy=0.98, status="ok")
    assert verdict_of("C6") == "supported"
    made_up.fail(of(study, "gated")[0])
    assert verdict_of("C6") == "inconclusive"


def set_accuracies(keys: list[RunKey], ahead: float) -> None:
    """Gated is so far ahead of magnitude, both with eight sections left, and scratch-e costs more than it."""
    noise = np.random.default_rng(0).normal(0, 0.001, len(SEEDS))
    for number in range(len(SEEDS)):
        left = {"keep": [1] * 8 + [0] * 12, "status": "ok"}
        made_up.change(of(keys, "magnitude")[number], **left, test_accuracy=0.95)
        made_up.change(of(keys, "gated")[number], **left, test_accuracy=0.95 + ahead + noise[number], train_macs=1000)
        made_up.change(of(keys, "scratch-e")[number], keep=[1] * 9 + [0] * 11, status="ok", train_macs=1001)


@pytest.mark.parametrize(("ahead", "verdict"), [(0.01, "supported"), (-0.01, "not supported"), (0.0, "inconclusive")])
def test_c8_compares_at_equal_depth_pair_by_pair(study: list[RunKey], ahead: float, verdict: str) -> None:
    set_accuracies(study, ahead)
    assert verdict_of("C8") == verdict
    row, by_the_margin = rows_of("C8", "against-as-large")
    assert row["mean"] == by_the_margin["mean"]
    assert (row["against"], row["n"]) == ("magnitude", 5) and row["mean"] == pytest.approx(ahead, abs=0.001)
    assert rows_of("C8", "against-as-cheap") == []  # of the others none is as cheap


@pytest.mark.parametrize(("share", "compared"), [(0.96, True), (1.04, True), (0.9, False), (1.1, False)])
def test_c8_compares_networks_of_about_as_many_multiply_adds(study: list[RunKey], share: float, compared: bool) -> None:
    set_accuracies(study, 0.01)
    for rival, gated in zip(of(study, "magnitude"), of(study, "gated"), strict=True):
        made_up.change(gated, macs=1000)
        made_up.change(rival, macs=int(1000 * share))
    assert [row["n"] for row in rows_of("C8", "against-as-large")] == ([5, 5] if compared else [])


@pytest.mark.parametrize(("cost", "compared"), [(500, True), (1009, True), (1011, False)])
def test_c8_compares_trainings_that_cost_about_as_much(study: list[RunKey], cost: int, compared: bool) -> None:
    set_accuracies(study, 0.01)
    for rival in of(study, "magnitude"):
        made_up.change(rival, train_macs=cost)
    assert [row["against"] for row in rows_of("C8", "against-as-cheap")] == (["magnitude"] * 2 if compared else [])


@pytest.mark.parametrize(("cost", "seeds"), [(1400, 5), (1600, 0)])
def test_c8_asks_what_trainings_cost_on_average(study: list[RunKey], cost: int, seeds: int) -> None:
    """Gated costs 1000 to 2000: seed by seed the rival would be compared with the dearer ones alone."""
    set_accuracies(study, 0.01)
    for number, (rival, gated) in enumerate(zip(of(study, "magnitude"), of(study, "gated"), strict=True)):
        made_up.change(gated, train_macs=1000 + 250 * number)
        made_up.change(rival, train_macs=cost)
    assert [row["n"] for row in rows_of("C8", "against-as-cheap")] == [seeds] * 2 * bool(seeds)
    (entry,) = ledger.entries(made_up.PRESET, only=["C8"])
    former = entry.before[-1].rows
    assert list(former[former["quantity"] == "against-as-cheap-by-seed"]["n"]) == [2 if cost == 1600 else 3]


@pytest.mark.parametrize(
    ("ahead", "verdict"),
    [(0.01, "supported"), (0.0, "supported"), (-0.005, "inconclusive"), (-0.01, "not supported")],
)
def test_c8_is_also_read_with_a_margin_of_half_a_point(study: list[RunKey], ahead: float, verdict: str) -> None:
    set_accuracies(study, ahead)
    (entry,) = ledger.entries(made_up.PRESET, only=["C8"])
    assert entry.also["within half a point of every rival"].verdict == verdict


@pytest.mark.parametrize("control", ["scratch-e", "scratch-b", "scratch-random", "by-index", "shallower"])
def test_a_control_decides_nothing_in_c8(root: Path, control: str) -> None:
    """Gated is ahead of the only rival and as far behind a control, at one depth and one cost."""
    raw = made_up.preset({"resnet-20": {}}, ["dense", "gated", "magnitude", control], SEEDS)
    keys = made_up.write_study(raw)
    noise = np.random.default_rng(0).normal(0, 0.001, len(SEEDS))
    for method, accuracy in (("gated", 0.9), ("magnitude", 0.88), (control, 0.92)):
        for key in of(keys, method):
            told = {"test_accuracy": accuracy + (method == "gated") * noise[key.seed], "train_macs": 1000}
            made_up.change(key, **told, keep=[1] * 5 + [0] * 4, status="ok")
    assert verdict_of("C8") == "supported"
    assert before_of("C8", change=0) == "not supported"
    for quantity in ("against-controls-as-large", "against-controls-as-cheap"):
        (row,) = rows_of("C8", quantity)
        assert (row["against"], row["n"], row["verdict"]) == (control, 5, "")
        assert row["mean"] == pytest.approx(-0.02, abs=0.002)


def test_a_control_is_billed_the_search_that_it_borrows_from(study: list[RunKey]) -> None:
    for method, cost in (("dense", 1000), ("gated", 800), ("scratch-e", 400), ("magnitude", 1200)):
        for key in of(study, method):
            made_up.change(key, train_macs=cost, status="ok")
    (alone,) = rows_of("C8", "training-macs-of-controls")
    (together,) = rows_of("C8", "training-macs-of-controls-with-the-search")
    assert (alone["against"], alone["mean"], together["mean"]) == ("scratch-e", 0.5, 1.5)
    rows = compact.compact(read_study(made_up.PRESET, made_up.DATASET), "mlp-residual-20").set_index("method")
    assert rows.loc["scratch-e", ["train_cost", "with_search"]].tolist() == [0.4, 1.2]
    assert rows["with_search"].notna().sum() == 1  # magnitude takes a number from gated and chooses by itself


def test_without_its_search_a_control_has_no_bill_with_it(study: list[RunKey]) -> None:
    for key in of(study, "gated"):
        paths.record(key).unlink()
    runs = read_study(made_up.PRESET, made_up.DATASET, partial=True).runs
    controls = runs[runs["method"] == "scratch-e"]
    assert controls["train_macs"].notna().all() and controls["train_macs_with_search"].isna().all()


def test_a_control_with_a_layout_of_its_own_has_no_search(root: Path) -> None:
    raw = made_up.preset({"resnet-20": {}}, ["dense", "gated", "scratch-random"], SEEDS)
    raw["datasets"][made_up.DATASET]["methods"]["scratch-random"] = {"settings": {"keep": 3}}
    keys = made_up.write_study(raw)
    for key in of(keys, "scratch-random"):
        made_up.change(key, train_macs=77)
    runs = read_study(made_up.PRESET, made_up.DATASET).runs
    assert set(runs[runs["method"] == "scratch-random"]["train_macs_with_search"]) == {77}


# --- C3 at equal accuracy -------------------------------------------------------------------------------------

SWEEP = {"nu-0.004": 0.004, "nu-0.008": 0.008}


@pytest.fixture
def sweep(root: Path) -> list[RunKey]:
    """Dense at 0.95 and gated under three prices, each cheaper than the one before and as accurate as dense."""
    raw = made_up.preset(ARCHS, ["dense", "gated"], SEEDS)
    variants = {name: {"settings": {"nu": nu}} for name, nu in SWEEP.items()}
    raw["datasets"][made_up.DATASET]["methods"]["gated"]["variants"] = variants
    keys = made_up.write_study(raw)
    for key in of(keys, "dense"):
        made_up.change(key, test_accuracy=0.95, val_accuracy=0.95, train_macs=1000, macs=1000, macs_dense=1000)
    for variant, cost in {"default": 900, "nu-0.004": 700, "nu-0.008": 500}.items():
        set_point(keys, variant, cost, 0.95)
    return keys


def set_point(keys: list[RunKey], variant: str, cost: int, val: float, test: float | None = None) -> None:
    for key in of_variant(of(keys, "gated"), variant):
        accuracies = {"val_accuracy": val, "test_accuracy": val if test is None else test}
        made_up.change(key, **accuracies, train_macs=cost, macs=cost, macs_dense=1000, status="ok")


def equal_accuracy() -> tuple[str, str, float, float]:
    """Verdict of the reading, and the chosen point: its name, training cost and difference to dense."""
    (entry,) = ledger.entries(made_up.PRESET, only=["C3"])
    (cost,) = rows_of("C3", "training-macs-at-equal-accuracy")
    (difference,) = rows_of("C3", "accuracy-difference-at-equal-accuracy")
    return str(entry.also["at equal accuracy"].verdict), cost["against"], cost["mean"], difference["mean"]


@pytest.mark.parametrize(
    ("val", "chosen"),
    [(0.95, "at nu 0.008"), (0.94501, "at nu 0.008"), (0.94499, "at nu 0.004"), (0.5, "at nu 0.004")],
    ids=["as good", "just within half a point", "just outside", "far outside"],
)
def test_the_largest_saving_within_half_a_point_is_told(sweep: list[RunKey], val: float, chosen: str) -> None:
    set_point(sweep, "nu-0.008", 500, val, 0.95)
    verdict, at, cost, _ = equal_accuracy()
    assert (verdict, at, cost) == ("supported", chosen, 0.5 if chosen.endswith("8") else 0.7)


def test_a_point_is_chosen_by_validation_and_judged_by_test_accuracy(sweep: list[RunKey]) -> None:
    set_point(sweep, "nu-0.008", 500, val=0.95, test=0.94)
    verdict, at, _, difference = equal_accuracy()
    assert (verdict, at) == ("not supported", "at nu 0.008") and difference == pytest.approx(-0.01)


def test_where_no_point_is_as_good_nothing_is_saved(sweep: list[RunKey]) -> None:
    for variant in ("default", *SWEEP):
        set_point(sweep, variant, 500, 0.9)
    assert equal_accuracy() == ("not supported", "dense itself", 1.0, 0.0)


def test_a_point_that_costs_more_than_dense_saves_nothing(sweep: list[RunKey]) -> None:
    for variant in ("default", *SWEEP):
        set_point(sweep, variant, 1000, 0.95)
    assert equal_accuracy() == ("not supported", "dense itself", 1.0, 0.0)


@pytest.mark.parametrize(("missing", "chosen"), [(2, "at nu 0.008"), (3, "at nu 0.004")])
def test_a_point_of_two_seeds_is_not_on_the_curve(sweep: list[RunKey], missing: int, chosen: str) -> None:
    for key in of_variant(sweep, "nu-0.008")[:missing]:
        made_up.fail(key)
    assert equal_accuracy()[1] == chosen


def test_equal_accuracy_is_another_reading_of_c3(sweep: list[RunKey]) -> None:
    """By default gated saves too little, further along its curve enough."""
    set_point(sweep, "default", 950, 0.95)
    assert verdict_of("C3") == "not supported" and equal_accuracy()[0] == "supported"
    page = ledger.as_page(made_up.PRESET, ledger.entries(made_up.PRESET, only=["C3"]))
    assert "| C3 | At equal accuracy. | **supported** | 1 of 1 |" in page
    assert "### At equal accuracy: supported" in page and "| at nu 0.008 | 5 | 0.5 |" in page


def test_a_claim_without_an_experiment_is_not_run(study: list[RunKey]) -> None:
    assert {verdict_of(claim) for claim in ("C2", "C5", "C7")} == {"not run"}


def test_without_records_no_claim_is_run(root: Path) -> None:
    for key in made_up.write_study(made_up.preset(ARCHS, ["dense", "gated"], SEEDS)):
        paths.record(key).unlink()
    assert {entry.verdict for entry in ledger.entries(made_up.PRESET)} == {"not run"}


def test_what_is_told_beside_decides_nothing(study: list[RunKey]) -> None:
    for method, macs, seconds in (("dense", 1000, 10.0), ("gated", 500, 40.0)):  # cheap but slow
        for key in of(study, method):
            told = {"train_macs": macs, "macs": macs, "macs_dense": 1000, "test_accuracy": 0.9}
            made_up.change(key, **told, wall_seconds=seconds)
    (entry,) = ledger.entries(made_up.PRESET, only=["C3"])
    (row,) = rows_of("C3", "wall-seconds")
    assert (row["mean"], row["n"], row["verdict"], entry.verdict) == (4.0, 5, "", "supported")
    page = ledger.as_page(made_up.PRESET, [entry])
    assert "Also measured, without deciding anything:" in page and "| `wall-seconds` | mnist mlp-residual-20 |" in page
    assert "wall-seconds" in ledger.as_frame([entry])["quantity"].tolist()


def against_the_cheapest() -> dict:
    rows = [row for entry in ledger.entries(made_up.PRESET) for row in entry.reported.to_dict("records")]
    (row,) = [row for row in rows if row["quantity"] == "training-macs-against-cheapest-rival"]
    return row


def test_the_cheapest_rival_is_the_cheapest_that_is_as_good(study: list[RunKey]) -> None:
    for method, accuracy, cost in (
        ("gated", 0.9, 100),
        ("magnitude", 0.91, 400),
        ("dense", 0.95, 250),
        ("scratch-e", 1.0, 10),
    ):
        for key in of(study, method):
            made_up.change(key, test_accuracy=accuracy, train_macs=cost, status="ok")
    row = against_the_cheapest()
    assert (row["against"], row["mean"], row["n"]) == ("dense", 0.4, 5)
    for key in of(study, "dense"):
        made_up.change(key, test_accuracy=0.5)
    row = against_the_cheapest()
    assert (row["against"], row["mean"]) == ("magnitude", 0.25)


def test_the_cheapest_rival_is_compared_over_the_seeds_that_both_have(study: list[RunKey]) -> None:
    """Gated is worse and dearer in the seeds that a rival has not."""
    for key in of(study, "gated"):
        rest = key.seed > 1
        made_up.change(key, test_accuracy=0.5 if rest else 0.9, train_macs=1000 if rest else 100, status="ok")
    for key in of(study, "dense"):
        made_up.change(key, test_accuracy=0.95, train_macs=500, status="ok")
    for key in of(study, "magnitude"):
        made_up.change(key, test_accuracy=0.89, train_macs=10, status="ok")
        if key.seed > 1:
            paths.record(key).unlink()
    row = against_the_cheapest()
    assert (row["against"], row["mean"], row["n"]) == ("dense", pytest.approx(1.28), 5)
    for key in of(study, "magnitude")[:2]:
        made_up.change(key, test_accuracy=0.91)
    row = against_the_cheapest()
    assert (row["against"], row["mean"], row["n"]) == ("magnitude", 10.0, 2)


def test_a_method_of_which_a_seed_came_to_nothing_is_not_the_cheapest(study: list[RunKey]) -> None:
    for method, accuracy, cost in (("gated", 0.9, 100), ("magnitude", 0.91, 10), ("dense", 0.95, 200)):
        for key in of(study, method):
            made_up.change(key, test_accuracy=accuracy, train_macs=cost, status="ok")
    assert against_the_cheapest()["against"] == "magnitude"
    made_up.change(of(study, "magnitude")[0], test_accuracy=None, status="diverged")
    assert against_the_cheapest()["against"] == "dense"


# --- claims about traces of gates ---------------------------------------------------------------------------------

TRACED = {
    **{f"prior-{name}": {"settings": {"prior": name, "watch": True}} for name in ("flattening", "fixed", "beta", "l0")},
    "stay": {"settings": {"remove": False, "watch": True}},
    "robbins-monro": {"settings": {"theta_lr_decay": 1.0, "watch": True}},
}
CHECKS = 12
GONE = 15
"""Of twenty. Of five seeds 75: enough, if none comes back, to say that fewer than one in twenty does."""


@pytest.fixture
def traced(root: Path) -> list[RunKey]:
    """Gated alone, under every prior; in each run sections 0 to 14 left at step 200, the eighth check."""
    raw = made_up.preset(ARCHS, ["dense", "gated"], SEEDS)
    raw["datasets"][made_up.DATASET]["methods"]["gated"]["variants"] = TRACED
    keys = made_up.write_study(raw)
    for key in of(keys, "gated"):
        gone = {"keep": [0] * GONE + [1] * (20 - GONE), "removed_step": [200] * GONE + [None] * (20 - GONE)}
        made_up.change(key, **gone, status="ok")
        set_notes(key)
    return keys


def set_notes(
    key: RunKey, worth: float = 0.0, decay: float = 1.0, drift: float = 1e-5, back: int = 0, early: int = GONE
) -> None:
    """Notes in which the first GONE sections close at once; the others are worth 0.5 and stay open.

    `worth` of the first `early` sections that leave, of the others it is 0; `decay` of their weights as a multiple of
    weight decay's, while the learning rate falls, the last `drift` of the others' theta, and how many of those that
    closed are open again at the end.
    """
    nu, stay = 0.002, 20 - GONE
    theta = [[0.5] * 20] + [[0.0] * GONE + [0.99] * stay] * (CHECKS - 1)
    half = CHECKS // 2
    delta = [[0.0] * GONE + [-nu - 0.1] * stay] * half + [[0.0] * GONE + [-nu - drift] * stay] * half
    step = [25 * (check + 1) for check in range(CHECKS)]
    lr = [0.1 - 0.0002 * each for each in step]
    passed = [5e-4 / (1 - 0.9) * (0.1 * each - 0.0001 * each**2) for each in step]  # lambda times the integral of b
    norm = [[math.exp(-decay * each)] * GONE + [1.0] * stay for each in passed]
    notes = {"theta": theta, "delta": delta, "norm": norm, "gradient": [[1e-3] * 20] * CHECKS}
    notes |= {"benefit": [[worth] * early + [0.0] * (GONE - early) + [0.5] * stay] * CHECKS}
    notes |= {"step": step, "lr": lr, "loss": [1.0] * CHECKS}
    notes |= {"drawn": [1.0] * CHECKS, "rounded": [0.99] * CHECKS}
    details = {"nu": nu, "theta_before_consolidation": theta[-1], "watch": notes}
    made_up.change(key, details=details)
    if back:
        made_up.change(key, keep=[1] * back + [0] * (GONE - back) + [1] * stay)


def of_variant(keys: list[RunKey], variant: str) -> list[RunKey]:
    return [key for key in keys if key.variant == variant]


def test_c5_is_supported_where_flattening_alone_removes_nothing_too_early(traced: list[RunKey]) -> None:
    for name in ("fixed", "beta", "l0"):
        for key in of_variant(traced, f"prior-{name}"):
            set_notes(key, worth=0.6, early=GONE - 3 * (key.seed == 0))
            kept = (2, 18, 2, 18, 4)[key.seed]
            made_up.change(key, keep=[1] * kept + [0] * (20 - kept))
    assert {row["mean"] for row in rows_of("C5", "too-early-removals")} == {0.0}
    assert [row["mean"] for row in rows_of("C5", "too-early-against-other-priors")] == pytest.approx([-0.96] * 6)
    assert verdict_of("C5") == "supported"


def test_c5_does_not_compare_with_a_prior_whose_sections_go_when_theta_is_rounded(traced: list[RunKey]) -> None:
    for key in of_variant(traced, "prior-l0"):
        made_up.change(key, removed_step=[400] * GONE + [None] * (20 - GONE))
    assert {row["against"] for row in rows_of("C5", "too-early-against-other-priors")} == {"fixed", "beta"}
    for key in of_variant(traced, "prior-flattening"):
        made_up.change(key, removed_step=[400] * GONE + [None] * (20 - GONE))
    (row,) = rows_of("C5", "too-early-removals")
    assert (row["n"], row["verdict"]) == (0, "not run")


def test_c5_is_not_supported_where_flattening_removes_what_is_worth_most(traced: list[RunKey]) -> None:
    for key in of_variant(traced, "prior-flattening"):
        set_notes(key, worth=0.6)
    assert verdict_of("C5") == "not supported"


def test_c5_compares_how_far_seeds_are_from_their_mean(traced: list[RunKey]) -> None:
    for key in of_variant(traced, "prior-fixed"):
        kept = 2 * key.seed  # 0 to 8 of twenty, where flattening keeps ten each time
        made_up.change(key, keep=[1] * kept + [0] * (20 - kept))
    rows = {row["against"]: row["mean"] for row in rows_of("C5", "spread-against-other-priors")}
    assert rows == {"fixed": pytest.approx(-(4 + 2 + 0 + 2 + 4) / 5 / 20), "beta": 0, "l0": 0}


def test_c7_is_supported_where_theta_comes_to_rest_and_nothing_comes_back(traced: list[RunKey]) -> None:
    assert [row["mean"] for row in rows_of("C7", "came-back")] == [0.0]
    assert [row["mean"] for row in rows_of("C7", "decay-off-prediction")] == [pytest.approx(0, abs=1e-9)]
    assert [row["verdict"] for row in rows_of("C7", "weights-of-sections-that-may-go")] == [""]
    assert verdict_of("C7") == "supported"
    (entry,) = ledger.entries(made_up.PRESET, only=["C7"])
    assert [each.verdict for each in entry.before] == ["not supported", "supported"]


@pytest.mark.parametrize(("variant", "verdicts"), [("stay", (True, False)), ("robbins-monro", (False, True))])
def test_c7_tells_falling_from_constant_steps(traced: list[RunKey], variant: str, verdicts: tuple[bool, bool]) -> None:
    for key in of_variant(traced, variant):
        set_notes(key, drift=0.3)
    (entry,) = ledger.entries(made_up.PRESET, only=["C7"])
    found = (entry.verdict, entry.also["with constant step sizes"].verdict)
    assert found == tuple("supported" if each else "not supported" for each in verdicts)


@pytest.mark.parametrize(
    ("decay", "verdict"),
    [
        (0.901, "supported"),
        (1.099, "supported"),
        (0.899, "not supported"),
        (1.101, "not supported"),
        (0, "not supported"),
    ],
)
def test_c7_asks_that_closed_weights_decay_as_predicted(traced: list[RunKey], decay: float, verdict: str) -> None:
    for key in of_variant(traced, "stay"):
        set_notes(key, decay=decay)
    (row,) = rows_of("C7", "decay-off-prediction")
    assert row["mean"] == pytest.approx(abs(decay - 1))
    assert verdict_of("C7") == verdict


@pytest.mark.parametrize(("noted", "n"), [(False, 0), (True, 5)])
def test_c7_asks_for_the_decay_of_the_weights_under_weight_decay(traced: list[RunKey], noted: bool, n: int) -> None:
    """Where these are not all, the norm of all says nothing of it."""
    for key in of_variant(traced, "stay"):
        set_notes(key, decay=0.2)
        found = record.read(paths.record(key))
        config = found.provenance.config | {"training": found.provenance.config["training"] | {"decayed": "matrices"}}
        made_up.change(key, provenance__config=config)
        if noted:
            right = np.array(found.details["watch"]["norm"]) ** 5
            made_up.change(key, details=found.details | {"watch": found.details["watch"] | {"decayed": right.tolist()}})
    (row,) = rows_of("C7", "decay-off-prediction")
    assert row["n"] == n and (not noted or row["mean"] == pytest.approx(0, abs=1e-9))


def test_c7_leaves_out_sections_that_came_back(traced: list[RunKey]) -> None:
    """Their weights grow again; that they came back is another condition."""
    for key in of_variant(traced, "stay"):
        set_notes(key)
        notes = record.read(paths.record(key)).details
        notes["watch"]["norm"][-1][0] = 5.0
        made_up.change(key, details=notes, keep=[1] + [0] * (GONE - 1) + [1] * (20 - GONE))
    (row,) = rows_of("C7", "decay-off-prediction")
    assert row["mean"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("variant", "notes"),
    [("stay", {"back": 3}), ("stay", {"decay": 0.5}), ("robbins-monro", {"drift": 0.3})],
    ids=["sections come back", "weights hardly decay", "theta still moves"],
)
def test_c7_is_not_supported_where(traced: list[RunKey], variant: str, notes: dict) -> None:
    for key in of_variant(traced, variant):
        set_notes(key, **notes)
    assert verdict_of("C7") == "not supported"


@pytest.mark.parametrize(("rounded", "cost"), [(0.99, -0.0098), (1.5, 0.4952)])
def test_c4_asks_what_rounding_costs(traced: list[RunKey], rounded: float, cost: float) -> None:
    for key in of_variant(traced, "prior-flattening"):
        notes = record.read(paths.record(key)).details
        notes["watch"]["rounded"] = [rounded] * CHECKS
        made_up.change(key, details=notes)
    (row,) = rows_of("C4", "cost-of-rounding")
    assert row["mean"] == pytest.approx(cost, abs=1e-3)
    assert row["verdict"] == ("supported" if cost < 0 else "not supported")


def test_rounding_costs_nothing_where_theta_is_decided(traced: list[RunKey]) -> None:
    for key in of_variant(traced, "prior-flattening"):
        notes = record.read(paths.record(key)).details
        notes["watch"] |= {"rounded": [1.5] * CHECKS, "theta": [[0.0] * GONE + [1.0] * (20 - GONE)] * CHECKS}
        made_up.change(key, details=notes)
    (row,) = rows_of("C4", "cost-of-rounding")
    assert (row["mean"], row["verdict"]) == (0.0, "supported")


@pytest.mark.parametrize(("seeds", "verdict"), [(3, "inconclusive"), (5, "supported")])
def test_that_none_of_few_came_back_proves_little(traced: list[RunKey], seeds: int, verdict: str) -> None:
    """Of 45 sections none: up to 8 % might."""
    for key in of_variant(traced, "stay")[seeds:]:
        made_up.fail(key)
    (row,) = rows_of("C7", "came-back")
    assert (row["mean"], row["low"], row["n"], row["verdict"]) == (0.0, 0.0, seeds, verdict)
    assert row["high"] == pytest.approx(1 - 0.025 ** (1 / (GONE * seeds)))


def test_claims_about_traces_are_not_run_without_traces(study: list[RunKey]) -> None:
    assert {verdict_of(claim) for claim in ("C5", "C7")} == {"not run"}


@pytest.mark.parametrize(("left", "mean"), [((8, 8), 0.0), ((4, 8), 0.5)])
@pytest.mark.parametrize(
    ("method", "variant", "quantity"),
    [
        ("gated", "theta0-0.3", "depth-over-theta0"),
        ("gated", "initial-scale-2", "depth-over-initial-scale"),
        ("sss", "initial-scale-2", "depth-over-initial-scale-of-rivals"),
        ("hard-concrete", "log-a0-1", "depth-over-gates-at-the-start-of-rivals"),
    ],
)
def test_c6_asks_how_much_the_start_matters(
    root: Path, method: str, variant: str, quantity: str, left: tuple[int, int], mean: float
) -> None:
    raw = made_up.preset(ARCHS, ["dense", "gated", "sss", "hard-concrete"], SEEDS)
    raw["datasets"][made_up.DATASET]["methods"][method] |= {"variants": {variant: {}}}
    for key in of(made_up.write_study(raw), method):
        set_depth(key, left[key.variant == "default"])
    (row,) = [row for row in rows_of("C6", quantity) if row["against"] == ("" if method == "gated" else method)]
    assert (row["n"], row["mean"]) == (5, mean)


def test_c6_compares_starts_under_one_price(root: Path) -> None:
    raw = made_up.preset(ARCHS, ["dense", "gated"], SEEDS)
    variants = {"theta0-0.3": {}, "theta0-0.75": {"settings": {"nu": 0.06}, "seeds": [0]}}
    raw["datasets"][made_up.DATASET]["methods"]["gated"] |= {"variants": variants}
    for key in of(made_up.write_study(raw), "gated"):
        set_depth(key, {"default": 8, "theta0-0.3": 4, "theta0-0.75": 1}[key.variant])
    (row,) = rows_of("C6", "depth-over-theta0")
    assert (row["n"], row["mean"]) == (5, 0.5)


def set_depth(key: RunKey, sections: int, total: int = 20) -> None:
    made_up.change(key, keep=[1] * sections + [0] * (total - sections), status="ok")


STARTS = {"resnet-8": 3, "resnet-20": 9, "resnet-32": 15}


@pytest.mark.parametrize(("left", "mean"), [((3, 6, 8), 0.25), ((3, 7, 7), 0.0), ((3, 9, 15), None)])
def test_c6_compares_starts_of_one_family_that_lost_sections(root: Path, left: tuple, mean: float | None) -> None:
    keys = of(made_up.write_study(made_up.preset({name: {} for name in STARTS}, ["dense", "gated"], SEEDS)), "gated")
    for key in keys:
        set_depth(key, left[list(STARTS).index(key.arch)], STARTS[key.arch])
    (row,) = rows_of("C6", "depth-over-starts")
    assert row["arch"] == "resnet"
    assert row["mean"] == pytest.approx(mean, nan_ok=True) if mean is not None else math.isnan(row["mean"])


def test_the_figure_over_starts_shows_rivals_that_start_at_two_depths(root: Path) -> None:
    archs = {"resnet-20": {}, "resnet-32": {"only": ["dense", "gated", "sss"]}}
    made_up.write_study(made_up.preset(archs, ["dense", "gated", "sss", "hard-concrete"], SEEDS))
    study = read_study(made_up.PRESET, made_up.DATASET)
    data = FIGURES["depth-vs-start"].prepare(study)
    assert set(data["method"]) == {"dense", "gated", "sss"}
    not_begun = study.runs.assign(status=study.runs["status"].mask(study.runs["method"] == "sss", "missing"))
    assert set(FIGURES["depth-vs-start"].prepare(replace(study, runs=not_begun))["method"]) == {"dense", "gated"}


def test_starts_under_different_prices_are_no_family(root: Path) -> None:
    archs = {"resnet-20": {}, "resnet-32": {"methods": {"gated": {"settings": {"nu": 0.5}}}}}
    made_up.write_study(made_up.preset(archs, ["dense", "gated"], SEEDS))
    assert rows_of("C6", "depth-over-starts") == []


def test_how_finely_a_price_has_to_be_chosen_is_told(root: Path) -> None:
    """The share of sections falls by 0.4 from nu to 4 nu, which is two doublings, and by 0.1 over the next one."""
    raw = made_up.preset(ARCHS, ["dense", "gated"], SEEDS)
    gated = raw["datasets"][made_up.DATASET]["methods"]["gated"]
    gated["settings"] = {"nu": 0.001}
    gated["variants"] = {
        **{f"nu-{nu}": {"settings": {"nu": nu}} for nu in (0, 0.004, 0.008)},
        "nu-0.004-ramp": {"settings": {"nu": 0.004, "price_ramp": 0.3}},  # another setting: not of the sweep
    }
    left = {"default": 18, "nu-0": 20, "nu-0.004": 10, "nu-0.008": 8, "nu-0.004-ramp": 1}
    for key in of(made_up.write_study(raw), "gated"):
        set_depth(key, left[key.variant])
    (row,) = rows_of("C6", "depth-where-the-price-doubles")
    assert (row["n"], row["mean"]) == (5, pytest.approx(0.2))


def test_prices_are_compared_over_the_seeds_that_both_have(root: Path) -> None:
    raw = made_up.preset(ARCHS, ["dense", "gated"], SEEDS)
    gated = raw["datasets"][made_up.DATASET]["methods"]["gated"]
    gated |= {"settings": {"nu": 0.001}, "variants": {"nu-0.002": {"settings": {"nu": 0.002}, "seeds": [0]}}}
    for key in of(made_up.write_study(raw), "gated"):
        set_depth(key, 18 if key.seed else 10)  # with either price
    (row,) = rows_of("C6", "depth-where-the-price-doubles")
    assert (row["n"], row["mean"]) == (1, 0)


def test_c3_tells_measured_latencies_beside(study: list[RunKey]) -> None:
    for quantity in ("latency-of-one", "latency-of-a-batch"):
        assert [row["n"] for row in rows_of("C3", quantity)] == [0]
    lines = ["arch,method,variant,seed,batch,threads,device,hardware,macs,median_ms,low_ms,high_ms,repeats"]
    for key in study:
        if key.method in ("dense", "gated"):
            macs = record.read(paths.record(key)).macs
            for batch, time in ((1, 4.0), (128, 100.0)):
                took = time * (1 if key.method == "dense" else {1: 0.5, 128: 0.25}[batch])
                head = f"{key.arch},{key.method},default,{key.seed},{batch},1,cpu,some"
                lines.append(f"{head},{macs},{took},{took},{took},30")
    made_up.files.write_text(paths.latency_table(made_up.PRESET, made_up.DATASET), "\n".join(lines) + "\n")
    for quantity, mean in {"latency-of-one": 0.5, "latency-of-a-batch": 0.25}.items():
        (row,) = rows_of("C3", quantity)
        assert (row["n"], row["mean"]) == (5, mean)


def test_c5_tells_other_starts_beside(root: Path) -> None:
    raw = made_up.preset(ARCHS, ["gated"], SEEDS)
    traced = {"settings": {"watch": True, "theta0": 0.3}}
    fixed = {"settings": {"watch": True, "theta0": 0.3, "prior": "fixed"}}
    variants = {"prior-flattening-theta0-0.3": traced, "prior-fixed-theta0-0.3": fixed}
    raw["datasets"][made_up.DATASET]["methods"]["gated"]["variants"] = variants
    made_up.write_study(raw)
    (row,) = rows_of("C5", "too-early-from-other-starts")
    assert (row["against"], row["n"]) == ("fixed, theta0 0.3", 0)


# --- rules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((0.8, 0.85, 0.9), "supported"),
        ((0.1, 0.2, 0.3), "not supported"),
        ((0.3, 0.5, 0.7), "inconclusive"),
        ((0.9, 0.9), "inconclusive"),
        ((), "not run"),
    ],
    ids=["above", "below", "across", "too few seeds", "no run"],
)
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_whole_interval_must_keep_the_bound(values: tuple, verdict: str, mirrored: bool) -> None:
    condition = Condition(quantity="any", at_most=-0.5) if mirrored else Condition(quantity="any", at_least=0.5)
    sample = Sample("net", tuple(-value for value in values) if mirrored else values)
    (row,) = verdicts.judge(condition, "digits", [sample], least_seeds=3).to_dict("records")
    assert row["verdict"] == verdict


def test_three_seeds_on_one_side_of_a_bound_decide_nothing_alone() -> None:
    condition = Condition(quantity="any", at_least=0.9)
    samples = [Sample("net", (0.62, 0.62, 0.88), is_share=True), Sample("net", (0.7,), is_share=True)]
    spread, one = verdicts.judge(condition, "digits", samples, least_seeds=3).to_dict("records")
    assert (spread["verdict"], spread["high"]) == ("inconclusive", 1.0) and 0.3 < spread["low"] < 0.4
    assert np.isnan([one["low"], one["high"]]).all()


@pytest.mark.parametrize("count", [3, 5])
def test_intervals_of_means_hold_the_truth_as_often_as_they_say(count: int) -> None:
    draws = np.random.default_rng(0).normal(3, 2, (4000, count))
    held = [low <= 3 <= high for low, high in map(statistics.interval_of_mean, draws)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_a_number_of_all_seeds_is_taken_as_it_is() -> None:
    samples = [Sample("net", (0.05,), seeds=5), Sample("net", (0.2,), seeds=5), Sample("net", (0.05,), seeds=2)]
    rows = verdicts.judge(Condition(quantity="any", at_most=0.1), "digits", samples, least_seeds=3)
    assert list(rows["verdict"]) == ["supported", "not supported", "inconclusive"]


def test_a_number_of_all_seeds_may_have_an_interval_of_its_own() -> None:
    samples = [Sample("net", (0.05,), seeds=5, interval=interval) for interval in ((0.03, 0.14), (0.02, 0.1))]
    rows = verdicts.judge(Condition(quantity="any", at_most=0.1), "digits", samples, least_seeds=3)
    assert list(rows["verdict"]) == ["inconclusive", "supported"]
    assert list(rows["low"]) == [0.03, 0.02]


def test_intervals_of_spreads_hold_the_truth_as_often_as_they_say() -> None:
    draws = np.random.default_rng(0).normal(3, 2, (4000, 5))
    held = [low <= 2 <= high for low, high in (statistics.interval_of_spread(s, 5) for s in draws.std(1, ddof=1))]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_the_interval_of_a_range_is_that_of_its_resamples() -> None:
    same, steady = np.array([8.0, 8.0, 8.0]), np.array([4.0, 4.0, 4.0])
    assert statistics.interval_of_range([same, steady]) == (0.5, 0.5)
    low, high = statistics.interval_of_range([same, np.array([2.0, 4.0, 6.0])])  # means from 2 to 6, mostly near 4
    assert (low, high) == (pytest.approx(1 - 6 / 8, abs=0.1), pytest.approx(1 - 2 / 8, abs=0.1)) and low < 0.5 < high
    assert statistics.interval_of_range([np.zeros(2), np.zeros(2)]) == (0, 0)


def test_c6_tells_what_diverged(root: Path) -> None:
    raw = made_up.preset(ARCHS, ["dense", "gated", "sss"], SEEDS)
    variants = {"initial-scale-0.5": {}, "initial-scale-2": {}}
    raw["datasets"][made_up.DATASET]["methods"]["sss"] |= {"variants": variants}
    for key in of(made_up.write_study(raw), "sss"):
        if key.variant == "initial-scale-2":
            made_up.fail(key)
    (row,) = rows_of("C6", "depth-over-initial-scale-of-rivals")
    assert (row["against"], row["n"]) == ("sss, without initial-scale-2, which diverged", 5)


def test_equal_differences_get_a_sign_test() -> None:
    for values, p in (([0.1] * 3, 0.25), ([-0.1] * 6, 1 / 32), ([0.0] * 5, 1.0)):
        assert verdicts._p_value(np.array(values)) == p == stats.binomtest(0, len(values)).pvalue ** (values[0] != 0)
    accuracies = np.array([0.9753, 0.9761, 0.9708]) - np.array([0.9743, 0.9751, 0.9698])  # equal but for rounding
    assert np.ptp(accuracies) > 0 and verdicts._p_value(accuracies) == 0.25
    assert verdicts._p_value(np.array([1e-16, -1e-16, 0.0])) == 1.0
    assert verdicts._p_value(np.array([0.1, 0.2, 0.3])) == pytest.approx(stats.ttest_1samp([0.1, 0.2, 0.3], 0).pvalue)


def test_holms_correction_is_the_published_one() -> None:
    # Worked by hand: sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, never falling.
    assert verdicts.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert verdicts.holm([0.5, 0.9]) == [1.0, 1.0] and verdicts.holm([]) == []


def test_comparisons_are_corrected_within_a_network_and_not_across() -> None:
    differences = (0.010, 0.012, 0.011)
    alone = stats.ttest_1samp(differences, 0).pvalue
    samples = [Sample("one", differences, "a"), Sample("one", (0.0, 0.01, -0.01), "b"), Sample("two", differences, "a")]
    rows = verdicts.judge(Condition(quantity="any", at_least=0), "digits", samples, least_seeds=3)
    assert list(rows["p"]) == pytest.approx([2 * alone, 1.0, alone])
    assert list(rows["verdict"]) == ["supported", "inconclusive", "supported"]


@pytest.mark.parametrize(
    ("networks", "quorum", "verdict"),
    [
        ("SSSI", 0.75, "supported"),
        ("SSIN", 0.75, "inconclusive"),
        ("SSNN", 0.75, "not supported"),
        ("SSSN", 1.0, "not supported"),
        ("SSS-", 1.0, "inconclusive"),
        ("----", 0.75, "not run"),
    ],
)
def test_networks_vote(networks: str, quorum: float, verdict: str) -> None:
    meaning = {"S": "supported", "N": "not supported", "I": "inconclusive", "-": "not run"}
    found = {("digits", str(place)): Verdict(meaning[letter]) for place, letter in enumerate(networks)}
    claim = Claim(sentence="It holds.", experiment="None.", quorum=quorum)
    assert verdicts.of_rule(claim, found) == verdict


def test_every_claim_of_the_paper_has_a_rule_and_every_quantity_is_used() -> None:
    rules = config.load_claims()
    assert list(rules) == [f"C{number}" for number in range(1, 9)]
    bounds = [rule for claim in rules.values() for rule in ledger.rules_of(claim)]
    named = {each.quantity for rule in bounds for each in rule.conditions}
    assert named | {each for claim in rules.values() for each in claim.reported} == set(QUANTITIES)


def test_changes_of_rules_are_told_with_day_reason_and_former_verdict(study: list[RunKey]) -> None:
    set_settings(study, warmup="2ep")  # nothing can leave in the first quarter, by which a rule asked
    set_removals(study, 260, 405)  # the check nearest to half, which is step 400
    judged = ledger.entries(made_up.PRESET)
    (entry,) = (each for each in judged if each.id == "C1")
    text = ledger.as_page(made_up.PRESET, [entry])
    assert "| C1 | Layers are identified and removed during the early stages of training. " in text
    assert "| **supported** | 1 of 1 | not supported |" in text
    assert "Changed on 2026-11-27, before: not supported, 0 of 1 networks, by `removed-before-half >= 0.9`" in text
    assert "Changed on 2026-11-28, before: not supported, 0 of 1 networks, by `removed-before-quarter >= 0.5`" in text
    assert all(change.reason in text for change in entry.claim.changes)
    assert "by the former rule not supported" in ledger.one_line_each([entry], "claims.md")
    table = ledger.as_frame(judged).groupby("claim")["claim_before"].first()
    assert table["C1"] == "not supported" and table["C2"] == ""  # its rule never changed


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("removed-before-half, at_least: 0.9", "removed-before-lunch, at_least: 0.9", "'removed-before-lunch'"),
        ("removed-before-half, at_least: 0.9", "removed-before-half", "needs one of at_least and at_most"),
        ("least_seeds: 5", "least_sedes: 5", "C6.least_sedes: unknown key"),
        ("quantity: inference-macs-at-equal-accuracy", "quantity: inference-at-lunch", "'inference-at-lunch'"),
        ("quantity: against-all-no-dearer", "quantity: against-nobody", "'against-nobody'"),
        ('date: "2026-11-27"', "date: yesterday", "C1.changes.0.date"),
    ],
)
def test_a_mistake_in_the_rules_is_one_line(study: list[RunKey], old: str, new: str, told: str) -> None:
    path = paths.claim_rules()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(LayerpruneError, match=r"rules\.yaml") as error:
        ledger.entries(made_up.PRESET)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_without_rules_there_is_one_line_and_the_workflow_plans_no_ledger(study: list[RunKey], root: Path) -> None:
    paths.claim_rules().unlink()
    with pytest.raises(LayerpruneError, match=r"rules\.yaml: no such file"):
        ledger.entries(made_up.PRESET)
    planned = Study(root).snakemake("--dry-run", "--quiet", "rules")
    assert planned.code == 0, planned.stderr
    assert "table_page" in planned.stdout + planned.stderr and "ledger" not in planned.stdout + planned.stderr


# --- evidence of other presets ------------------------------------------------------------------------------------


def name_evidence(other: str) -> None:
    path = paths.preset_file(made_up.PRESET)
    files.write_text(path, json.dumps(json.loads(path.read_text()) | {"evidence": [other]}))


def test_networks_of_other_presets_count_as_far_as_they_have_run(study: list[RunKey]) -> None:
    set_removals(study, 200, 200)
    (alone,) = ledger.entries(made_up.PRESET, only=["C3"])
    archs = {"mlp-residual-5": {}, "mlp-residual-10": {}}
    keys = made_up.write_study(made_up.preset(archs, ["dense", "gated"], SEEDS), "other")
    name_evidence("other")
    for key in keys:
        if key.arch == "mlp-residual-10":
            paths.record(key).unlink()
    (entry,) = ledger.entries(made_up.PRESET, only=["C3"])
    label = f"{made_up.DATASET} (other)"
    assert set(entry.networks) == {*alone.networks, (label, "mlp-residual-5")}
    assert {row["n"] for row in entry.rows[entry.rows["dataset"] == label].to_dict("records")} == {len(SEEDS)}
    own = entry.rows[entry.rows["dataset"] == made_up.DATASET].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, alone.rows)
    _, page = ledger.write(made_up.PRESET)
    text = page.read_text()
    assert f"{label} mlp-residual-5" in text
    assert f"(../other/{made_up.DATASET}/runs.csv)" in text


def test_evidence_that_does_not_exist_is_one_line(study: list[RunKey]) -> None:
    name_evidence("nowhere")
    with pytest.raises(LayerpruneError, match=r"nowhere\.yaml"):
        ledger.entries(made_up.PRESET)


def test_one_data_set_of_another_preset_counts_alone(study: list[RunKey]) -> None:
    other = made_up.preset({"mlp-residual-5": {}}, ["dense", "gated"], SEEDS)
    other["datasets"]["mnist"] = {**other["datasets"][made_up.DATASET], "source": "mnist"}
    made_up.write_study(other, "other")
    name_evidence("other")
    assert {f"{made_up.DATASET} (other)", "mnist (other)"} <= set(ledger.studies_of(made_up.PRESET))
    name_evidence("other/mnist")
    assert list(ledger.studies_of(made_up.PRESET)) == [made_up.DATASET, "mnist (other)"]
    name_evidence("other/imagenet")
    with pytest.raises(LayerpruneError, match=r"^evidence: other has no dataset 'imagenet' \(has: .*mnist\)$"):
        ledger.entries(made_up.PRESET)


# --- files ----------------------------------------------------------------------------------------------------


def test_the_page_names_claim_rule_numbers_and_sources(study: list[RunKey]) -> None:
    set_accuracies(study, 0.01)
    _, page = ledger.write(made_up.PRESET)
    text = page.read_text()
    assert "| C8 | State-of-the-art layer pruning at lower total cost. | **supported** | 1 of 1 |" in text
    assert "with at least 3 seeds: `against-as-large >= 0` (holds on 1 of 1)" in text
    assert "mnist mlp-residual-20 | magnitude | 5 | 0.01" in text
    for link in ("mnist/runs.csv", "../../figures/made-up/mnist/theta.svg"):
        assert f"({link})" in text
        assert (page.parent / link).resolve().is_relative_to(paths.root().resolve())


@pytest.mark.parametrize("decides", [True, False])
def test_the_page_says_when_a_preset_decides_nothing(root: Path, decides: bool) -> None:
    made_up.write_study(made_up.preset(ARCHS, ["dense"], SEEDS) | {"decides": decides})
    page = ledger.as_page(made_up.PRESET, ledger.entries(made_up.PRESET, only=["C1"]))
    assert ("decides nothing" in page) != decides


def test_the_quick_preset_decides_nothing() -> None:
    assert {name: config.load_preset(name).decides for name in ("quick", "laptop")} == {"quick": False, "laptop": True}


def test_verify_says_when_the_ledger_is_not_that_of_the_records(study: list[RunKey]) -> None:
    def found() -> list[str]:
        return [finding.where for finding in verify.verify(made_up.PRESET) if finding.kind == "stale-ledger"]

    assert found() == []  # there is none yet, and none is asked for
    ledger.write(made_up.PRESET)
    assert found() == []
    paths.claims(made_up.PRESET, "md").write_bytes(b"\xff")  # no text
    assert found() == [str(paths.claims(made_up.PRESET, "md"))]
    set_removals(study, 700)
    assert found() == [str(paths.claims(made_up.PRESET, suffix)) for suffix in ("csv", "md")]


def test_the_command_writes_both_files(study: list[RunKey], cli: Callable) -> None:
    outcome = cli("claims", "--preset", made_up.PRESET)
    assert outcome.code == 0
    written = [Path(line).name for line in outcome.stdout.split()]
    assert written == ["claims.csv", "claims.md", "headline.csv"]


def test_quantities_answer_for_networks_that_have_not_run(study: list[RunKey]) -> None:
    for key in study:
        paths.record(key).unlink()
    runs = read_study(made_up.PRESET, made_up.DATASET, partial=True)
    for name, quantity in QUANTITIES.items():
        assert all(sample.n == 0 for sample in quantity(runs)), name
        assert not any(math.isnan(value) for sample in quantity(runs) for value in sample.values)
