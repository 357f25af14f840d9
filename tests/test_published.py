"""Published numbers stand in a table of their own, each with its source and tag."""

import re

import pytest

from layerprune.analysis import published

DATASETS = ["cifar10", "cifar100", "imagenet"]


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_row_has_a_source_and_a_known_tag(dataset: str) -> None:
    rows = published.published(dataset)
    assert len(rows) and set(rows["tag"]) <= set(published.TAGS)
    assert (rows["source"] != "").all() and (rows["network"] != "").all()


@pytest.mark.parametrize("dataset", DATASETS)
def test_numbers_are_numbers(dataset: str) -> None:
    rows = published.published(dataset)
    for column in ("base", "pruned", "change", "macs_cut", "params_cut"):
        assert all(re.fullmatch(r"[+-]?\d+(\.\d+)?|", cell) for cell in rows[column])


def test_blocks_and_cuts_of_cka_agree_with_a_count_of_option_b_resnets() -> None:
    """A block of ResNet-56 is 3.7524 % of its multiply-adds with option B, one of ResNet-110 1.8639 %."""
    rows = published.published("cifar10")
    for row in rows[rows["method"] == "CKA"].itertuples():
        share = {"ResNet-56": 3.7524, "ResNet-110": 1.8639}[row.network]
        assert float(row.macs_cut) == pytest.approx(share * int(row.blocks_out.split()[0]), abs=0.01)


def test_a_data_set_about_which_nothing_was_published_has_no_rows() -> None:
    assert len(published.published("digits")) == 0


def test_the_page_shows_every_row_and_explains_its_tags() -> None:
    rows = published.published("cifar10")
    page = published.markdown("cifar10", rows)
    assert page.count("\n| ") == len(rows) + 2  # heading and rule
    assert all(f"{tag}: {meaning}" in page for tag, meaning in published.TAGS.items())
    assert "None of these was measured here" in page
