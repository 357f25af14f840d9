"""Budgets against a search for the price by hand."""

import made_up_runs as made_up
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerprune.analysis.figures import FIGURES, is_empty
from layerprune.analysis.figures.budgets import bisection
from layerprune.analysis.frames import read_study
from layerprune.system import paths


@pytest.mark.parametrize(
    ("asked", "found"),
    [(8, (1, 8)), (12, (3, 13)), (19, (2, 18)), (2, (2, 2)), (5, (3, 8))],
    ids=["at once", "one off after two others", "two tries", "below", "never near enough"],
)
def test_a_bisection_tries_the_middle_price_first(asked: int, found: tuple[int, int]) -> None:
    left = [20, 18, 13, 8, 8, 2, 0]  # of 20 sections, at rising prices
    assert bisection(left, asked, 1) == found


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12), st.integers(0, 20))
def test_a_bisection_ends_with_one_of_the_trainings_and_needs_few(left: list[int], asked: int) -> None:
    left = sorted(left, reverse=True)
    runs, last = bisection(left, asked, 0)
    assert last in left and 1 <= runs <= len(left).bit_length()
    assert last == asked or asked not in left


def test_each_budget_has_what_is_left_and_the_same_seeds_search(root) -> None:
    raw = made_up.preset({"mlp-residual-20": {}}, ["dense", "gated"], (0, 1), sweep=True)
    variants = raw["datasets"][made_up.DATASET]["archs"]["mlp-residual-20"]["methods"]["gated"]["variants"]
    variants |= {
        "target-8": {"settings": {"target_depth": 8}},
        "target-macs-0.5": {"settings": {"target_macs": 0.5}},
    }
    keys = made_up.write_study(raw)
    for key in keys:
        if key.variant == "target-8":
            made_up.change(key, keep=[1] * 8 + [0] * 12, status="ok")
    data = FIGURES["budgets"].prepare(read_study(made_up.PRESET, made_up.DATASET))
    assert len(data) == 4 and set(data["kind"]) == {"sections", "macs"}
    sections = data[data["kind"] == "sections"]
    assert sections["left"].tolist() == sections["asked"].tolist() == [8, 8] and set(sections["tolerance"]) == {1.0}
    macs = data[data["kind"] == "macs"]
    # A made-up section costs 20,000 of 479,400 multiply-adds: more than two per cent.
    assert macs["asked"].tolist() == [50, 50] and macs["tolerance"].tolist() == pytest.approx([4.172] * 2, abs=1e-3)
    assert data["runs_by_hand"].between(1, 6).all()
    for key in keys:
        paths.record(key).unlink()
    gone = FIGURES["budgets"].prepare(read_study(made_up.PRESET, made_up.DATASET, partial=True))
    assert gone["left"].isna().all() and made_up.texts(FIGURES["budgets"].draw(gone, "heading")) == ["not run"]
    assert is_empty("budgets", gone)
