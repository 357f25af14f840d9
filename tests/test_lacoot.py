"""LaCoOT: distances by loops in numpy and by hand, the loss by its definition, and which sections go."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from networks import a_context, a_run, a_trainer, make, random_data, source
from torch import Tensor

from layerprune.core.methods.trained import lacoot
from layerprune.core.networks.sections import CLOSED, Gates, SectionedNetwork
from layerprune.core.seeding import stream_seed
from layerprune.core.settings import LacootSettings
from layerprune.core.training.evaluate import evaluate
from layerprune.errors import SettingError
from layerprune.suite.run.train import train


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=source(seed))


def a_method(arch: str = "mlp-residual-4", shape: tuple[int, int, int] = (1, 4, 4), **given: Any) -> lacoot.Method:
    context = {name: given.pop(name) for name in ("keep_count",) if name in given}
    network = make(arch, shape=shape)
    method = lacoot.Method(LacootSettings(**given), network, a_context(network, **context))
    method.start_epoch(0)
    return method


# --- the distance ---------------------------------------------------------------------------------------------------


def slow_distance(x: np.ndarray, y: np.ndarray, slices: np.ndarray) -> float:
    """The largest root mean square between order statistics, one direction and one rank at a time."""
    found = []
    for direction in slices.T:
        left = sorted(float(np.dot(row, direction)) for row in x)
        right = sorted(float(np.dot(row, direction)) for row in y)
        found.append(math.sqrt(sum((a - b) ** 2 for a, b in zip(left, right, strict=True)) / len(left)))
    return max(found)


@pytest.mark.parametrize(("count", "size"), [(7, 3), (20, 40), (2, 1)])
def test_the_distance_is_that_of_loops_over_directions_and_ranks(count: int, size: int) -> None:
    x, y, slices = normal(count, size), 2 * normal(count, size, seed=1) + 0.5, lacoot.directions(size, source(2))
    expected = slow_distance(x.double().numpy(), y.double().numpy(), slices.double().numpy())
    assert lacoot.max_sliced_distance(x, y, slices).item() == pytest.approx(expected, rel=1e-5)


def test_the_distance_worked_out_by_hand() -> None:
    """On a line: 0, 1 against 5, 3 is 3 and 4 apart in order; on both axes the farther one counts."""
    x, y = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[5.0, 1.0], [3.0, 1.0]])
    assert lacoot.max_sliced_distance(x, y, torch.eye(2)).item() == pytest.approx(math.sqrt((9 + 16) / 2))
    assert lacoot.max_sliced_distance(x, y, torch.eye(2)[:, 1:]).item() == pytest.approx(1)


def test_the_distance_sees_distributions_and_not_which_example_is_which() -> None:
    x, slices = normal(9, 5), lacoot.directions(5, source(1))
    assert lacoot.max_sliced_distance(x, x.flip(0), slices).item() == pytest.approx(0, abs=1e-6)


def test_a_shift_is_as_far_as_its_longest_shadow() -> None:
    x, shift, slices = normal(12, 6), normal(6, seed=3), lacoot.directions(6, source(1))
    expected = (shift @ slices).abs().max().item()
    assert lacoot.max_sliced_distance(x, x + shift, slices).item() == pytest.approx(expected, rel=1e-5)


def test_directions_are_fifty_unit_vectors_of_no_preferred_direction() -> None:
    drawn = lacoot.directions(4, source(0))
    assert drawn.shape == (4, 50)
    assert drawn.norm(dim=0).tolist() == pytest.approx([1.0] * 50)
    many = torch.cat([lacoot.directions(3, source(seed)) for seed in range(200)], 1)
    assert many.mean(1).tolist() == pytest.approx([0, 0, 0], abs=0.02)
    assert (many @ many.T / many.shape[1] - torch.eye(3) / 3).abs().max() < 0.02


def test_the_slope_is_that_of_the_maximum_over_all_slices() -> None:
    slices = lacoot.directions(8, source(2))
    slopes = []
    for distance in (lacoot.max_sliced_distance, lambda *given: lacoot._distances(*given).max()):
        x, y = normal(10, 8).requires_grad_(), normal(10, 8, seed=1).requires_grad_()
        slopes.append(torch.autograd.grad(distance(x, y, slices), [x, y]))
    assert all(torch.allclose(one, other, atol=1e-7) for one, other in zip(*slopes, strict=True))
    assert slopes[0][0].abs().max() > 0


def test_where_input_and_output_are_the_same_the_slope_is_a_number() -> None:
    x = normal(6, 4).requires_grad_()
    (slope,) = torch.autograd.grad(lacoot.max_sliced_distance(x, x * 1, lacoot.directions(4, source(0))), [x])
    assert slope.abs().max() == 0


# --- the loss -------------------------------------------------------------------------------------------------------


def outputs(network: SectionedNetwork, x: Tensor) -> list[Tensor]:
    """What comes out of the stem and of every section."""
    found = [network.stem(x)]
    for section in network.chain:
        found.append(section(found[-1]))
    return found


@pytest.mark.parametrize(
    ("arch", "shape", "measured"),
    [
        ("mlp-residual-4", (1, 4, 4), [0, 1, 2, 3]),
        ("resnet-14", (3, 8, 8), [0, 1, 3, 5]),
        ("vgg16", (3, 32, 32), [0, 2, 4, 5, 7, 8, 10, 11]),
    ],
)
def test_the_penalty_is_the_mean_distance_of_the_sections_that_keep_their_shape(
    arch: str, shape: tuple[int, int, int], measured: list[int]
) -> None:
    method = a_method(arch, shape, strength=3.0)
    method.network.eval()
    x = normal(5, *shape)
    assert method.gates(0, 5) is None
    method.network(x)
    found = method.penalty(0).item()
    places, noise = outputs(method.network, x), source(stream_seed("gates", 0, 0))
    expected = []
    for index in measured:
        before, behind = (place.flatten(1).detach().double().numpy() for place in places[index : index + 2])
        slices = lacoot.directions(before.shape[1], noise).double().numpy()
        expected.append(slow_distance(before, behind, slices))
    assert found == pytest.approx(3 * np.mean(expected), rel=1e-4) and found > 0


def test_the_penalty_pulls_at_the_weights_from_the_first_step_and_no_label_is_asked() -> None:
    method = a_method()
    method.gates(0, 5)
    method.network(normal(5, 1, 4, 4))
    method.penalty(0).backward()
    assert all(section.branch[-1].weight.grad.abs().max() > 0 for section in method.network.sections)
    assert method.network.chain[-1].branch[-1].weight.grad is not None and method.network.head.weight.grad is None


def test_training_with_it_brings_outputs_nearer_to_inputs() -> None:
    distances = []
    for strength in (0.0, 5.0):
        run = a_run("lacoot", settings={"strength": strength, "keep": 2}, duration="5ep")
        distances.append(sum(train(run).outcome.details["distances"]))
    assert distances[1] < 0.7 * distances[0]


def test_nothing_is_looked_at_between_the_penalty_and_the_next_gates() -> None:
    trainer = a_trainer(a_run("lacoot"))
    images, labels = next(iter(trainer.job.batches.epoch(0)))
    trainer._step(images, labels)
    assert not any(module._forward_hooks for module in trainer.network.modules())
    assert trainer.method.pairs == {}


def test_projections_are_on_the_bill() -> None:
    """Four sections of 100 numbers, both sides on fifty directions, then on one forward and backward."""
    trainer = a_trainer(a_run("lacoot"))
    images, labels = next(iter(trainer.job.batches.epoch(0)))
    trainer._step(images, labels)
    assert trainer.meter.total == 16 * (3 * 42_600 + 2 * 400 * 52)


def test_a_compiled_network_would_show_nothing_so_it_runs_eagerly() -> None:
    assert a_trainer(a_run("lacoot", engine="compiled")).forward is not None
    trainer = a_trainer(a_run("lacoot", engine="compiled"))
    assert trainer.forward is trainer.network


def test_a_network_without_a_section_that_keeps_its_shape_is_refused() -> None:
    with pytest.raises(SettingError, match="lacoot: no removable section of lenet-300-100 keeps the shape"):
        a_method("lenet-300-100", (1, 28, 28))


# --- the selection --------------------------------------------------------------------------------------------------


def answering(accuracies: dict[tuple[int, ...], float], network: SectionedNetwork) -> Callable[[Gates], float]:
    """A validation accuracy for each set of closed sections; the network sees images only while none is closed."""

    def accuracy_of(gates: Gates) -> float:
        if gates is None:
            with torch.no_grad():
                network(normal(6, *network.input_shape))
        closed = tuple(index for index, gate in enumerate(gates or []) if gate is CLOSED)
        return accuracies[closed]

    return accuracy_of


def shrunk(method: lacoot.Method, factors: list[float]) -> lacoot.Method:
    """Branches so much smaller: the order of the distances."""
    for section, factor in zip(method.network.sections, factors, strict=True):
        for parameter in section.branch[-1].parameters():
            parameter.data.mul_(factor)
    return method


def test_sections_go_by_their_distance_while_the_accuracy_stays_within_the_tolerance() -> None:
    method = shrunk(a_method(tolerance=0.02), [1.0, 1e-3, 1e-1, 1e-2])
    accuracies = {(): 0.9, (1,): 0.91, (1, 3): 0.88, (1, 2, 3): 0.87}
    method.finish(answering(accuracies, method.network))
    outcome = method.outcome()
    assert outcome.keep == [1, 0, 1, 0]
    assert outcome.details["accuracies"] == [0.9, 0.91, 0.88, 0.87]
    distances = outcome.details["distances"]
    assert sorted(range(4), key=distances.__getitem__) == [1, 3, 2, 0]
    assert method.evaluation_gates().flatten().tolist() == [1, 0, 1, 0]


def test_a_given_number_stays_and_sections_without_a_distance_go_last() -> None:
    method = a_method("resnet-14", (3, 8, 8), keep_count=3)
    method.finish(answering({(): 0.5}, method.network))
    keep = method.outcome().keep
    assert sum(keep) == 3 and keep[2] == keep[4] == 1
    fewer = a_method("resnet-14", (3, 8, 8), keep_count=1)
    fewer.finish(answering({(): 0.5}, fewer.network))
    assert fewer.outcome().keep == [0, 0, 1, 0, 0, 0]


def test_distances_are_those_of_the_validation_images() -> None:
    run = a_run("lacoot", settings={"keep": 4})
    finished = train(run)
    data, batches = run.data, []
    seen = finished.network.register_forward_pre_hook(lambda network, inputs: batches.append(inputs[0]))
    evaluate(finished.network, data, data.validation)
    seen.remove()
    places, noise = outputs(finished.network.eval(), torch.cat(batches)), source(stream_seed("directions", 0))
    for before, behind, found in zip(places, places[1:], finished.outcome.details["distances"], strict=False):
        slices = lacoot.directions(100, noise)
        sides = [place.detach().double().numpy() for place in (before, behind)]
        assert found == pytest.approx(slow_distance(*sides, slices.double().numpy()), rel=1e-4)


def test_the_selection_sees_all_images_in_another_order_than_they_are_stored_in() -> None:
    """The same order each time it asks."""
    trainer, seen = a_trainer(a_run("lacoot")), []
    trainer.network.register_forward_pre_hook(lambda network, inputs: seen.append(inputs[0]))
    evaluate(trainer.network, trainer.job.data, trainer.job.data.validation)
    for _ in range(2):
        trainer._accuracy_of(None)
    stored, first, second = (each.flatten(1) for each in seen)
    assert torch.equal(first, second) and not torch.equal(first, stored)
    assert sorted(map(tuple, first.tolist())) == sorted(map(tuple, stored.tolist()))


def test_the_forward_passes_of_the_selection_are_on_the_bill() -> None:
    kept = train(a_run("lacoot", settings={"keep": 4}))
    steps = 60 * (3 * 42_600 + 2 * 400 * 52)
    assert kept.progress.train_macs == kept.progress.rows[-1]["train_macs"] == steps + 17 * 42_600
    rash = train(a_run("lacoot", settings={"tolerance": 1.0}))
    one_less_each_time = sum(42_600 - gone * 10_000 for gone in range(5))
    assert rash.outcome.keep == [0, 0, 0, 0]
    assert rash.progress.train_macs == steps + 17 * one_less_each_time


def test_it_decides_by_the_averaged_weights_where_these_are_kept() -> None:
    run = a_run("lacoot", settings={"tolerance": 1.0}, average=0.5, duration="2ep", lr=0.05)
    finished = train(run)
    accuracy = evaluate(finished.network, run.data, run.data.validation).accuracy
    assert finished.outcome.details["accuracies"][-1] == accuracy


def test_what_was_decided_outlives_a_stop_before_the_record_is_written() -> None:
    method, other = a_method(tolerance=1.0), a_method()
    method.finish(answering(dict.fromkeys([(), *_prefixes(method)], 0.5), method.network))
    other.load_state(method.state())
    assert other.outcome() == method.outcome() and 0 in other.outcome().keep


def _prefixes(method: lacoot.Method) -> list[tuple[int, ...]]:
    return [tuple(index for index in range(4) if bits >> index & 1) for bits in range(16)]


def test_a_training_that_diverged_decides_nothing() -> None:
    finished = train(a_run("lacoot", lr=1e12, duration="2ep"))
    assert finished.progress.diverged and finished.outcome.keep == [1, 1, 1, 1] and finished.outcome.details == {}


def test_noise_differs_from_step_to_step_and_follows_the_seed() -> None:
    found = []
    for _ in range(2):
        trainer = a_trainer(a_run("lacoot", random_data()))
        images, _ = next(iter(trainer.job.batches.epoch(0)))
        for _ in range(2):
            trainer.method.gates(0, 16)
            trainer.network(images)
            found.append(trainer.method.penalty(0).item())
    assert found[:2] == found[2:] and found[0] != found[1]
