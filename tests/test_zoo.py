"""The zoo: with open gates every network is what it was, bit for bit; without sections it computes what closed gates
did. A few networks every time, all of them where long tests are asked for."""

import pytest
from zoo.catalog import zoo
from zoo.examine import examine

from layerprune.library.find_sections import Granularity

ANIMALS = zoo()
ORDINARY = [name for name, each in ANIMALS.items() if each.ordinary]


def assert_it_thrives(name: str, granularity: Granularity | None = None) -> None:
    """A network without sections is refused with one line; any other is gated exactly and cut exactly."""
    row = examine(ANIMALS[name], granularity=granularity)
    assert row.sections > 0 or (row.reason and "\n" not in row.reason)
    assert row.differs == []
    assert row.removable == 0 or (row.pruned > 0 and row.gap <= 1e-6)


@pytest.mark.parametrize("name", ORDINARY)
def test_a_network_of_the_zoo_is_gated_and_cut_exactly(name: str) -> None:
    assert_it_thrives(name)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("resnet18", "bert") else pytest.mark.long) for name in ANIMALS]
)
def test_blocks_of_a_network_of_the_zoo_are_gated_and_cut_exactly(name: str) -> None:
    assert_it_thrives(name, "layer")


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in ANIMALS if name not in ORDINARY])
def test_every_other_network_of_the_zoo_too(name: str) -> None:
    assert_it_thrives(name)
