"""Fine-tuning after scores: distillation, removal one at a time, and a method's own choice of what stays."""

from typing import Any

import pytest
import torch
from networks import a_context, a_run, images, make
from test_methods import DENSE_MACS, a_parent, small
from torch import Tensor
from torch.nn import functional

from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.settings import ScoreSettings
from layerprune.core.training.finetuning import Finetuning
from layerprune.suite.config import parse_preset, prerequisites
from layerprune.suite.run.train import train
from layerprune.system.paths import RunKey

STEPS = 4
"""Steps of an epoch of 60 examples in batches of 16."""


def scored(method: str, epochs: int = 3, **settings: Any) -> Any:
    run = a_run(method, settings=settings, parents={"dense": a_parent([1] * 4)}, finetune={"duration": f"{epochs}ep"})
    return train(run)


# --- distillation ---------------------------------------------------------------------------------------------


def test_the_distilled_loss_is_that_of_hinton_by_its_definition() -> None:
    student, teacher = torch.randn(5, 10), make("mlp-residual-2", shape=(1, 4, 4)).eval()
    x, labels = images(5, (1, 4, 4)), torch.arange(5)
    settings = ScoreSettings(distill=0.3)
    method = Finetuning(settings, small(), a_context(small(), teacher=teacher, teacher_macs=7))
    soft, told = torch.softmax(teacher(x) / 4, 1), torch.softmax(student / 4, 1)
    divergence = (soft * (soft.log() - told.log())).sum(1)
    expected = 0.7 * functional.cross_entropy(student, labels, reduction="none") + 0.3 * 16 * divergence
    assert torch.allclose(method.losses(x, student, labels), expected, atol=1e-5)
    assert method.macs_beside == 7


def test_a_student_that_agrees_with_its_teacher_has_nothing_to_distil() -> None:
    teacher, x = small().eval(), images(5, (1, 4, 4))
    method = Finetuning(ScoreSettings(distill=1.0), small(), a_context(small(), teacher=teacher))
    assert method.losses(x, teacher(x).detach(), torch.arange(5)).abs().max() < 1e-5


def test_the_teacher_is_on_the_bill_and_stays_as_it_was() -> None:
    """42,600 multiply-adds an example and step for the teacher, forward only."""
    plain, taught = (scored("magnitude", 1, keep=2, distill=weight) for weight in (0.0, 0.5))
    assert taught.progress.train_macs - plain.progress.train_macs == 60 * 42_600
    weights = [finished.network.state_dict() for finished in (plain, taught)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


# --- one at a time --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "removed_by", "steps"), [("magnitude", 1.0, [0, 4, 8]), ("cka", None, [0, 2, 4])])
def test_iterative_removal_spreads_over_its_share_of_the_one_budget_and_ends_at_the_asked_depth(
    method: str, removed_by: float | None, steps: list[int]
) -> None:
    share = {} if removed_by is None else {"removed_by": removed_by}
    finished = scored(method, keep=1, removal="iterative", **share)
    assert sum(finished.outcome.keep) == 1 and finished.progress.step == 3 * STEPS
    assert sorted(step for step in finished.progress.removed_step if step is not None) == steps
    assert [len(scores) for scores in finished.outcome.details["scores_by_round"]] == [3, 2]


def test_iterative_removal_without_room_for_every_round_still_ends_at_the_asked_depth() -> None:
    run = a_run("magnitude", settings={"keep": 0, "removal": "iterative"}, parents={"dense": a_parent([1] * 4)})
    run.settings.finetune.__dict__["duration"] = "2it"
    assert sum(train(run).outcome.keep) == 0


def test_scores_of_a_later_round_are_those_of_what_is_left() -> None:
    """A section whose score depends on its neighbour: the ranking is asked again, about alive sections only."""
    network = small(4)
    seen = []

    def ranking(network: SectionedNetwork) -> tuple[list[float], int]:
        with network.only_alive():
            names = [section.name for section in network.sections]
        seen.append(names)
        return [float(place) for place in range(len(names))], 11

    network.sections[2].remove_branch()
    method = Finetuning(ScoreSettings(), network, a_context(network, keep_count=1, steps_total=9), ranking)
    assert method.check_interval == 3
    assert method.removals(3) == [0] and method.macs_of_removals() == 11
    network.sections[0].remove_branch()
    assert method.removals(6) == [1]
    network.sections[1].remove_branch()
    assert method.removals(9) == [] and method.macs_of_removals() == 0
    names = [section.name for section in network.chain]
    assert seen == [[names[0], names[1], names[3]], [names[1], names[3]]]


def test_rounds_of_scoring_are_on_the_bill() -> None:
    """Three rounds of Taylor on what is left, of 60 examples, forward and backward; 10,000 a section."""
    finished = scored("taylor", keep=1, removal="iterative")
    steps = sum(3 * 60 * (2_600 + 10_000 * alive) for alive in (3, 2, 1))
    rounds = sum(3 * 60 * (2_600 + 10_000 * alive) for alive in (4, 3, 2))
    assert finished.progress.train_macs == DENSE_MACS + steps + rounds


def test_only_alive_puts_everything_back() -> None:
    network = small(4)
    network.fix([network.sections[1]])
    network.sections[1].remove_branch()
    before = list(network.sections)
    with pytest.raises(RuntimeError, match="inside"), network.only_alive():
        assert network.sections == [before[0], before[2]]
        raise RuntimeError("inside")
    assert network.sections == before and network.keep() == [1, 0, 1]


# --- a choice of its own --------------------------------------------------------------------------------------


def test_a_threshold_decides_instead_of_a_number() -> None:
    every = scored("linear-probes", keep=1, threshold=0.0, distill=0.0)
    gains = every.start.details["scores"]
    assert every.outcome.keep == [int(gain >= 0) for gain in gains]


def test_a_threshold_needs_no_gated_run() -> None:
    def parents(**settings: float) -> list[str]:
        probes = {"linear-probes": {"settings": settings}}
        block = {"archs": {"mlp-residual-4": {}}, "methods": {"dense": {}, "gated": {}} | probes}
        key = RunKey("own", "digits", "mlp-residual-4", "linear-probes", "default", 0)
        return [each.method for each in prerequisites(parse_preset({"datasets": {"digits": block}}, "own"), key)]

    assert parents() == ["dense", "gated"] and parents(threshold=0.1) == ["dense"]
    dense = {"dense": a_parent([1] * 4)}
    assert train(a_run("linear-probes", settings={"threshold": 1.0}, parents=dense)).outcome.keep == [0] * 4


def test_distillation_reaches_a_weight_by_its_gradient() -> None:
    """The teacher itself gets no gradient."""
    teacher = small().eval().requires_grad_(False)
    network = small(2)
    method = Finetuning(ScoreSettings(distill=0.5), network, a_context(network, teacher=teacher))
    x = images(4, (1, 4, 4))
    method.losses(x, network(x), torch.arange(4)).mean().backward()
    grads: list[Tensor | None] = [each.grad for each in teacher.parameters()]
    assert all(each is None for each in grads) and network.stem[-1].weight.grad.abs().sum() > 0
