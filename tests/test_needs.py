"""Each claim can be decided by the runs that are named for it alone, on the committed records."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from conftest import REPOSITORY, run_module

from layerprune.analysis.claims import QUANTITIES, needs
from layerprune.analysis.frames import KEY, Study, read_study
from layerprune.errors import LayerpruneError
from layerprune.suite import config
from layerprune.suite.campaign.todo import with_parents
from layerprune.system.paths import RunKey


@pytest.fixture(scope="module")
def committed() -> Iterator[list[Study]]:
    """The studies of the preset laptop, with the repository as root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPRUNE_ROOT", str(REPOSITORY))
        yield [read_study("laptop", dataset, partial=True) for dataset in config.load_preset("laptop").datasets]


@pytest.mark.parametrize("claim", needs.DECIDED_BY)
def test_a_claim_is_decided_by_the_runs_that_are_named_for_it(claim: str, committed: list[Study]) -> None:
    rule, named = config.load_claims()[claim], set(needs.runs_of(claim, "laptop"))
    quantities = {each.quantity for part in (rule, *rule.also.values()) for each in part.conditions}
    for whole in committed:
        own = narrowed(whole, named)
        for quantity in sorted(quantities):
            assert told(quantity, own) == told(quantity, whole), (whole.dataset, quantity)


def narrowed(study: Study, named: set[RunKey]) -> Study:
    """The study without runs that are not named."""
    runs = study.runs[[RunKey(*row) in named for row in study.runs[KEY].itertuples(index=False)]]
    return replace(study, runs=runs, experiments=tuple(key for key in study.experiments if key in named))


def told(quantity: str, study: Study) -> list[str]:
    return [repr(sample) for sample in QUANTITIES[quantity](study) if sample.n]


def test_what_a_claims_runs_start_from_is_among_them(committed: list[Study]) -> None:
    preset = config.load_preset("laptop")
    for claim in needs.DECIDED_BY:
        named = needs.runs_of(claim, "laptop")
        assert set(with_parents(preset, named)) == set(named) and len(set(named)) == len(named)
        assert len(named) < len(config.plan(preset, "laptop"))


def test_every_claim_has_its_runs_and_an_unknown_one_is_one_line(committed: list[Study]) -> None:
    assert set(needs.DECIDED_BY) == set(config.load_claims())
    with pytest.raises(LayerpruneError, match=r"--claim: unknown claim 'C9' \(known: C1, "):
        needs.runs_of("C9", "laptop")


def test_the_command_lists_a_claims_runs(committed: list[Study]) -> None:
    done = run_module("layerprune", "plan", "--preset", "laptop", "--claim", "C2", cwd=REPOSITORY)
    assert done.stdout.splitlines() == [str(key) for key in needs.runs_of("C2", "laptop")]
    assert all("/random-removal/" in line or "/dense/" in line for line in done.stdout.splitlines())
