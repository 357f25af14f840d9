"""Scores that look at features: each criterion against an independent formula or a case worked out by hand."""

import copy
import itertools
import math
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from networks import enliven, make, source
from torch import Tensor, nn
from torch.nn import functional

from layerprune.core import surgery
from layerprune.core.methods import settings_class
from layerprune.core.methods.parts import features, probes
from layerprune.core.methods.scores import block_influence, cka, dbp, energy, imprinting, linear_probes, modularity
from layerprune.core.methods.scores.energy import optimal_clusters
from layerprune.core.networks.build import build
from layerprune.core.networks.sections import Section, SectionedNetwork
from layerprune.core.settings import ModelSettings
from layerprune.core.training.section_scores import metered_score
from layerprune.errors import SettingError

Batches = list[tuple[Tensor, Tensor]]
METHODS = [cka, dbp, energy, imprinting, linear_probes, modularity]
GAINS = [dbp, imprinting, linear_probes, modularity]
SHAPES = {"resnet-8": (3, 8, 8), "vgg16": (3, 32, 32), "lenet5": (1, 28, 28), "mlp-residual-4": (1, 4, 4)}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=source(seed), dtype=torch.float64)


def network_of(arch: str) -> SectionedNetwork:
    """A network with random weights, in evaluation mode; vgg16 with two channels in its first stage."""
    if arch == "vgg16":
        return build(arch, SHAPES[arch], 10, source(0), ModelSettings(width=2)).eval()
    return make(arch, shape=SHAPES[arch]).eval()


def patterned(arch: str) -> Batches:
    """34 images of 4 classes, each a pattern of its class and as much noise, in batches of 10 and a last one of 4."""
    labels = torch.randint(0, 4, (34,), generator=source(1))
    images = torch.randn(34, *SHAPES[arch], generator=source(2))
    patterns = torch.randn(4, *SHAPES[arch], generator=source(3))
    return list(zip((images + patterns[labels]).split(10), labels.split(10), strict=True))


def together(batches: Batches) -> tuple[Tensor, Tensor]:
    """All images and all labels of batches."""
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def hinge_network(weight: float, kink: float) -> SectionedNetwork:
    """Pixels (a, 0) -> section 0 adds (0, weight * relu(|a| - kink)) -> section 1 adds nothing -> two logits."""
    hinge = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    hinge[0].weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    hinge[0].bias.data = torch.tensor([-kink, -kink])
    hinge[2].weight.data = torch.tensor([[0.0, 0.0], [weight, weight]])
    hinge[2].bias.data.zero_()
    nothing = nn.Linear(2, 2)
    nn.init.zeros_(nothing.weight)
    nn.init.zeros_(nothing.bias)
    sections = [Section("hinge", hinge), Section("nothing", nothing)]
    return SectionedNetwork("own", (1, 1, 2), nn.Flatten(), sections, nn.Linear(2, 2)).eval()


def doubled(cases: list[tuple[float, int]]) -> Batches:
    """Every case (a, label) twice in a row, so that both halves of the sample are alike; in batches of 4."""
    images = torch.tensor([[value, 0.0] for value, _ in cases]).repeat_interleave(2, 0).view(-1, 1, 1, 2)
    labels = torch.tensor([label for _, label in cases]).repeat_interleave(2)
    return list(zip(images.split(4), labels.split(4), strict=True))


@pytest.fixture
def brief_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes of noise take long to settle; few iterations do where their accuracy does not matter."""
    monkeypatch.setattr(probes, "ITERATIONS", 10)


# --- every method on real networks --------------------------------------------------------------------------


@pytest.mark.parametrize("arch", SHAPES)
@pytest.mark.usefixtures("brief_probes")
@pytest.mark.parametrize("method", METHODS)
def test_scores_are_finite_and_repeatable_and_leave_the_network_as_it_was(method: ModuleType, arch: str) -> None:
    network, batches = network_of(arch), patterned(arch)
    before = copy.deepcopy(network.state_dict())
    first, again = method.score(network, batches), method.score(network, batches)
    assert first.shape == (len(network.sections),) and first.device.type == "cpu" and first.isfinite().all()
    assert torch.equal(first, again)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    hooks = [module for module in network.modules() if module._forward_hooks or module._forward_pre_hooks]
    assert hooks == [] and all(each.grad is None for each in network.parameters())


@pytest.mark.usefixtures("brief_probes")
@pytest.mark.parametrize("method", METHODS)
def test_only_removable_sections_are_scored(method: ModuleType) -> None:
    network, batches = network_of("resnet-8"), patterned("resnet-8")
    free = method.score(network, batches)
    network.fix([network.chain[1]])
    torch.testing.assert_close(method.score(network, batches), free[[0, 2]])


@pytest.mark.usefixtures("brief_probes")
@pytest.mark.parametrize("method", [*GAINS, cka])
def test_a_section_whose_branch_gives_nothing_scores_zero(method: ModuleType) -> None:
    network = network_of("mlp-residual-4")
    for parameter in network.sections[2].branch[-1].parameters():
        parameter.data.zero_()
    scores = method.score(network, patterned("mlp-residual-4"))
    assert scores[2].item() == pytest.approx(0, abs=1e-12)
    assert scores.abs().max() > 1e-3


@pytest.mark.usefixtures("brief_probes")
@pytest.mark.parametrize("method", [each for each in METHODS if each is not cka])
def test_one_forward_pass_is_all_that_is_paid_for(method: ModuleType) -> None:
    network, batches = network_of("mlp-residual-4"), patterned("mlp-residual-4")
    assert metered_score(method.score, network, batches, 0)[1] == 34 * (1_600 + 4 * 10_000 + 1_000)


def test_cka_pays_for_a_pass_without_each_section_too() -> None:
    network, batches = network_of("mlp-residual-4"), patterned("mlp-residual-4")
    assert metered_score(cka.score, network, batches, 0)[1] == 34 * (5 * 42_600 - 4 * 10_000)


# --- outputs of a network -----------------------------------------------------------------------------------


def test_places_are_the_stem_and_every_element_of_the_chain() -> None:
    network = network_of("resnet-8")
    images, _ = together(patterned("resnet-8"))
    expected = [network.stem(images)]
    for section in network.chain:
        expected.append(section(expected[-1]))
    for found, wanted in zip(features.chain_outputs(network, images, lambda output: output), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_where_nothing_is_left_of_a_section_its_predecessors_output_is_its_own() -> None:
    network = network_of("mlp-residual-4")
    surgery.remove(network, [0, 2])
    assert network.sections[0].transparent
    found = features.chain_outputs(network, together(patterned("mlp-residual-4"))[0], lambda output: output)
    assert torch.equal(found[0], found[1]) and torch.equal(found[2], found[3])
    assert not torch.equal(found[1], found[2])


@pytest.mark.usefixtures("brief_probes")
@pytest.mark.parametrize("method", [*GAINS, cka])
def test_a_section_that_is_gone_scores_zero(method: ModuleType) -> None:
    network = network_of("mlp-residual-4")
    surgery.remove(network, [1])
    assert method.score(network, patterned("mlp-residual-4"))[1].item() == pytest.approx(0, abs=1e-12)


def test_a_gain_is_over_the_element_before_whether_that_may_go_or_not() -> None:
    network = make("mlp-residual-4")
    network.fix([network.chain[1]])
    places = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    assert features.gains(network, places).tolist() == [1, 4, 8]


def test_a_sample_of_one_cannot_be_halved() -> None:
    with pytest.raises(SettingError, match=r"settings\.sample"):
        features.halves(torch.zeros(1, 3))
    assert [len(half) for half in features.halves(torch.zeros(2, 3))] == [1, 1]


# --- CKA ----------------------------------------------------------------------------------------------------


def hsic_cka(x: Tensor, y: Tensor) -> float:
    """CKA as a ratio of HSICs (Kornblith et al., ICML 2019), with centring matrices H: tr(K H L H)."""
    centring = torch.eye(len(x), dtype=x.dtype) - 1 / len(x)

    def hsic(k: Tensor, m: Tensor) -> float:
        return (k @ centring @ m @ centring).trace().item()

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))


def feature_cka(x: Tensor, y: Tensor) -> float:
    """CKA by d x e matrices of centred columns."""
    x, y = x - x.mean(0), y - y.mean(0)
    norm = torch.linalg.matrix_norm
    return (norm(x.T @ y) ** 2 / (norm(x.T @ x) * norm(y.T @ y))).item()


@pytest.mark.parametrize(("rows", "columns"), [(12, 5), (9, 9), (6, 11)])
def test_cka_is_its_definition_with_many_and_with_few_rows(rows: int, columns: int) -> None:
    x = normal(rows, columns) + 3
    y = x @ normal(columns, columns, seed=1) + normal(rows, columns, seed=2)
    found = cka.linear_cka(x, y).item()
    assert 0.05 < found < 0.99
    assert found == pytest.approx(hsic_cka(x, y), rel=1e-10) == pytest.approx(feature_cka(x, y), rel=1e-10)


def test_cka_of_representations_of_different_width_is_its_definition() -> None:
    x, y = normal(8, 3), normal(8, 20, seed=1)
    assert cka.linear_cka(x, y).item() == pytest.approx(hsic_cka(x, y), rel=1e-10)


@pytest.mark.parametrize("columns", [4, 30])
def test_cka_does_not_see_rotation_scale_or_offset(columns: int) -> None:
    x, y = normal(10, columns), normal(10, columns, seed=1)
    rotation = torch.linalg.qr(normal(columns, columns, seed=2)).Q
    assert cka.linear_cka(x, x @ rotation * 7 - 2).item() == pytest.approx(1, abs=1e-12)
    assert cka.linear_cka(x, y @ rotation * 7 - 2).item() == pytest.approx(cka.linear_cka(x, y).item(), rel=1e-10)


def test_a_representation_without_variance_resembles_nothing() -> None:
    assert cka.linear_cka(normal(5, 3), torch.ones(5, 3).double()).item() == 0


def final_of_resnet(network: SectionedNetwork, x: Tensor) -> Tensor:
    """Means of the last section's channels."""
    x = network.stem(x)
    for section in network.chain:
        x = section(x)
    return x.mean((2, 3))


def logits(network: SectionedNetwork, x: Tensor) -> Tensor:
    return network(x)


@pytest.mark.parametrize(("arch", "final"), [("resnet-8", final_of_resnet), ("vgg16", logits), ("lenet5", logits)])
def test_cka_compares_the_last_representations_with_and_without_the_section(arch: str, final: Callable) -> None:
    network, batches = network_of(arch), patterned(arch)
    images, _ = together(batches)
    expected = []
    with torch.no_grad():
        for index in range(len(network.sections)):
            smaller = copy.deepcopy(network)
            surgery.remove(smaller, [index])
            expected.append(1 - hsic_cka(final(network, images).double(), final(smaller, images).double()))
    assert cka.score(network, batches).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert max(expected) > 1e-3


# --- imprinting ---------------------------------------------------------------------------------------------


def test_imprinting_rewards_the_section_that_separates_and_none_after_it() -> None:
    """Behind the stem both classes lie on one ray: their templates are equal and class 0 is always named."""
    scores = imprinting.score(hinge_network(10.0, 2.0), doubled([(1.0, 0), (3.0, 1)] * 3))
    assert scores.tolist() == [0.5, 0.0]


def test_templates_of_separable_classes_are_always_right() -> None:
    labels = torch.arange(40) // 2 % 5
    rows = functional.one_hot(labels, 5) + 0.1 * normal(40, 5)
    assert imprinting.imprinted_accuracy(rows, labels).item() == 1


def test_imprinted_accuracy_is_that_of_a_loop_over_classes() -> None:
    rows, labels = normal(61, 7) + 0.3, torch.randint(0, 4, (61,), generator=source(1))
    templates = []
    for name in range(4):
        mean = torch.stack([row for row, label in list(zip(rows, labels, strict=True))[0::2] if label == name]).mean(0)
        templates.append(mean / mean.norm())
    judged = list(zip(rows, labels, strict=True))[1::2]
    right = [max(range(4), key=lambda name: float(templates[name] @ row)) == label.item() for row, label in judged]
    found = imprinting.imprinted_accuracy(rows, labels).item()
    assert found == pytest.approx(sum(right) / 30) and 0 < found < 1


def test_a_class_without_a_template_is_never_named() -> None:
    """Class 1 is in the judging half alone; a template of zeros would beat that of class 0, whose logit is -1."""
    rows, labels = torch.tensor([[1.0], [-1.0]] * 3), torch.tensor([0, 1, 0, 0, 0, 0])
    assert imprinting.imprinted_accuracy(rows, labels).item() == pytest.approx(2 / 3)


@pytest.mark.parametrize(("channels", "side"), [(16, 6), (32, 4), (64, 3), (128, 2), (512, 1), (2048, 1), (4096, 1)])
def test_pictures_are_pooled_to_about_512_features(channels: int, side: int) -> None:
    assert imprinting.pooled(torch.zeros(2, channels, 8, 8)).shape == (2, channels * side * side)


def test_pooling_takes_the_mean_of_each_part_of_a_picture() -> None:
    picture = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 128, 4, 4)
    assert imprinting.pooled(picture)[0, :4].tolist() == [2.5, 4.5, 10.5, 12.5]
    assert imprinting.pooled(torch.ones(3, 5)).shape == (3, 5)


# --- linear probes and DBP ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [dbp, linear_probes])
def test_probes_reward_the_section_that_makes_classes_linearly_separable(method: ModuleType) -> None:
    """Class 1 lies on both sides of class 0 (six of ten): no line parts them until |a| is added."""
    cases = [(0.0, 0), (0.0, 0), (0.0, 0), (-1.0, 1), (1.0, 1)] * 2
    assert method.score(hinge_network(1.0, 0.0), doubled(cases)).tolist() == pytest.approx([0.4, 0.0])


def test_a_probe_is_a_stationary_point_of_its_objective() -> None:
    rows, labels = normal(50, 6), torch.randint(0, 3, (50,), generator=source(1))
    weight, bias = probes.fit(rows, labels, 3)
    powers = (rows @ weight.T + bias).exp()
    excess = powers / powers.sum(1, keepdim=True) - functional.one_hot(labels, 3)
    torch.testing.assert_close(excess.T @ rows / 50 + 1e-4 * weight, torch.zeros(3, 6).double(), atol=2e-6, rtol=0)
    torch.testing.assert_close(excess.mean(0), torch.zeros(3).double(), atol=2e-6, rtol=0)
    assert weight.abs().max() > 0.1


def separable(count: int = 80) -> tuple[Tensor, Tensor]:
    """Four classes at the corners of a square around (5, -3)."""
    labels = torch.arange(count) // 2 % 4
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).double()
    return corners[labels] + 0.2 * normal(count, 2) + torch.tensor([5.0, -3.0]), labels


def test_a_probe_of_separable_features_is_always_right_whatever_their_scale() -> None:
    rows, labels = separable()
    for scale in (torch.ones(2), torch.tensor([1e4, 1e-4])):
        assert probes.probe_accuracy(rows * scale, labels).item() == 1


def test_a_feature_without_variance_harms_no_probe() -> None:
    rows, labels = separable()
    assert probes.probe_accuracy(torch.cat([rows, torch.full((80, 1), 7.0)], 1), labels).item() == 1


def test_a_probe_is_judged_by_images_that_it_was_not_fitted_to() -> None:
    rows, labels = separable()
    labels[1::2] = (labels[1::2] + 1) % 4
    assert probes.probe_accuracy(rows, labels).item() == 0


def test_probes_see_channel_means() -> None:
    picture = torch.arange(24.0).view(1, 2, 3, 4)
    assert probes.channel_means(picture).tolist() == [[5.5, 17.5]]
    assert probes.channel_means(torch.ones(3, 5)).shape == (3, 5)


def test_a_threshold_decides_alone_and_without_one_the_count_does() -> None:
    gains = [0.5, 0.013, -0.2, 0.0129, 0.3]
    with_threshold, without = SimpleNamespace(threshold=0.013), SimpleNamespace(threshold=None)
    assert linear_probes.choose(gains, 1, with_threshold) == [1, 1, 0, 0, 1]
    assert linear_probes.choose(gains, None, SimpleNamespace(threshold=0.0)) == [1, 1, 0, 1, 1]
    assert linear_probes.choose(gains, 2, without) == [1, 0, 0, 0, 1]
    assert linear_probes.choose(gains, None, without) == [1, 1, 1, 1, 1]


# --- energy -------------------------------------------------------------------------------------------------


def energy_by_loops(xs: list[Tensor], ys: list[Tensor]) -> float:
    def mean_distance(left: list[Tensor], right: list[Tensor]) -> float:
        return sum((a - b).norm().item() for a in left for b in right) / (len(left) * len(right))

    return 2 * mean_distance(xs, ys) - mean_distance(xs, xs) - mean_distance(ys, ys)


def test_energy_distance_is_that_of_loops_over_all_pairs() -> None:
    """Class 5 is the most frequent; with 40 images cdist takes its fast way."""
    labels = torch.tensor([5] * 18 + [0] * 12 + [2] * 9 + [7])[torch.randperm(40, generator=source(3))]
    outputs = normal(40, 2, 3, 3) + labels.view(-1, 1, 1, 1) / 4
    groups = {name: [row for row, label in zip(outputs, labels, strict=True) if label == name] for name in (0, 2, 5, 7)}
    expected = [energy_by_loops(groups[5], groups[name]) for name in (0, 2, 7)]
    assert energy.largest_energy_distance(outputs, labels).item() == pytest.approx(max(expected), rel=1e-6)


def test_energy_distance_of_points_worked_out_by_hand() -> None:
    """0, 2 against 3: 2 * (3 + 1) / 2 - (0 + 2 + 2 + 0) / 4 - 0."""
    found = energy.largest_energy_distance(torch.tensor([[0.0], [2.0], [3.0]]), torch.tensor([4, 4, 1]))
    assert found.item() == pytest.approx(3)


@pytest.mark.parametrize("arch", ["resnet-8", "mlp-residual-4"])
def test_energy_is_that_of_the_branches_outputs_of_the_whole_sample_in_one_pool(arch: str) -> None:
    """In numpy: what each branch adds, of all batches together, pair by pair."""
    network, batches = network_of(arch), patterned(arch)
    x, labels = together(batches)
    names, counts = np.unique(labels.numpy(), return_counts=True)
    reference, expected = names[counts.argmax()], []
    x = network.stem(x)
    for section in network.chain:
        added = section.branch(x).detach().flatten(1).double().numpy()

        def apart(one: int, other: int, added: np.ndarray = added) -> float:
            left, right = (added[labels.numpy() == name] for name in (one, other))
            return float(np.mean([np.sqrt(np.sum((a - b) ** 2)) for a in left for b in right]))

        own = apart(reference, reference)
        expected.append(max(2 * apart(reference, name) - own - apart(name, name) for name in names))
        x = section(x)
    assert energy.score(network, batches).tolist() == pytest.approx(expected, rel=1e-6)
    assert energy.score(network, [together(batches)]).tolist() == pytest.approx(expected, rel=1e-6)


def test_energy_looks_at_a_round_of_the_authors_size() -> None:
    assert settings_class("energy")().sample == 81 * 64


def test_the_reference_is_the_most_frequent_class_and_of_equals_the_lowest() -> None:
    """From class 0 at 0: twice 1 to class 1, twice 3 to class 2; from class 1 at 1 it would be twice 2 at most."""
    points = torch.tensor([[0.0], [1.0], [-3.0]])
    assert energy.largest_energy_distance(points, torch.tensor([0, 1, 2])).item() == pytest.approx(6)
    assert energy.largest_energy_distance(points, torch.tensor([1, 0, 2])).item() == pytest.approx(8)


def test_a_batch_of_one_class_has_no_energy() -> None:
    assert energy.largest_energy_distance(normal(5, 3), torch.full((5,), 3)).item() == pytest.approx(0, abs=1e-9)


def spread(values: list[float], assignment: tuple[int, ...], count: int) -> float:
    """Sum of squared distances to the clusters' means; infinite where a cluster is empty."""
    groups = [[value for value, each in zip(values, assignment, strict=True) if each == name] for name in range(count)]
    if not all(groups):
        return math.inf
    return sum((value - sum(group) / len(group)) ** 2 for group in groups for value in group)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_no_assignment_at_all_beats_the_clusters(count: int, seed: int) -> None:
    values = normal(6, seed=seed).tolist()
    clusters = optimal_clusters(values, count)
    assert sorted(itertools.chain(*clusters)) == list(range(6)) and len(clusters) == count
    place = {index: name for name, cluster in enumerate(clusters) for index in cluster}
    found = spread(values, tuple(place[index] for index in range(6)), count)
    every = itertools.product(range(count), repeat=6)
    assert found == pytest.approx(min(spread(values, each, count) for each in every), abs=1e-12)


def test_energy_keeps_the_earliest_of_each_cluster() -> None:
    scores = [1.0, 5.1, 1.2, 9.0, 5.0, 1.1]
    assert optimal_clusters(scores, 3) == [[0, 5, 2], [4, 1], [3]]
    assert energy.choose(scores, 3, None) == [1, 1, 0, 1, 0, 0]


def test_of_equal_scores_in_a_cluster_the_earlier_stays() -> None:
    assert energy.choose([2.0, 7.0, 2.0, 7.0], 2, None) == [1, 1, 0, 0]


@pytest.mark.parametrize("count", range(5))
def test_energy_keeps_as_many_as_asked_even_of_equal_scores(count: int) -> None:
    assert sum(energy.choose([3.0, 3.0, 3.0, 3.0], count, None)) == count


def test_energy_without_a_count_keeps_all() -> None:
    assert energy.choose([1.0, 1.0, 4.0], None, None) == [1, 1, 1]


# --- modularity ---------------------------------------------------------------------------------------------


def newman(graph: Tensor, labels: Tensor) -> float:
    """Newman's formula read off pair by pair."""
    size, twice_weight, total = len(graph), graph.sum().item(), 0.0
    for i in range(size):
        for j in range(size):
            if labels[i] == labels[j]:
                expected = graph[i].sum().item() * graph[j].sum().item() / twice_weight
                total += graph[i, j].item() - expected
    return total / twice_weight


def test_two_triangles_joined_by_an_edge_have_the_modularity_worked_out_by_hand() -> None:
    """Seven edges, three in each triangle, degrees 7 + 7: 2 * (3/7 - (7/14)^2) = 5/14."""
    graph = torch.zeros(6, 6)
    for i, j in [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5), (2, 3)]:
        graph[i, j] = graph[j, i] = 1
    triangles = torch.tensor([8, 8, 8, 3, 3, 3])
    assert modularity.modularity(graph, triangles).item() == pytest.approx(5 / 14)
    assert modularity.modularity(graph, torch.zeros(6).long()).item() == pytest.approx(0)


def test_modularity_of_a_weighted_graph_is_newmans_formula() -> None:
    graph = modularity.neighbour_graph(normal(23, 5) + 0.5)
    labels = torch.randint(0, 4, (23,), generator=source(2))
    assert modularity.modularity(graph, labels).item() == pytest.approx(newman(graph, labels), abs=1e-12)


def test_the_graph_joins_an_image_to_its_three_nearest_by_half_where_the_wish_is_one_sided() -> None:
    outputs = normal(15, 2, 2, 2)
    cosines = [[functional.cosine_similarity(a.flatten(), b.flatten(), 0).item() for b in outputs] for a in outputs]
    nearest = [sorted(set(range(15)) - {i}, key=lambda j: -cosines[i][j])[:3] for i in range(15)]
    expected = torch.zeros(15, 15).double()
    for i, j in itertools.product(range(15), repeat=2):
        expected[i, j] = max(0.0, cosines[i][j]) * ((i in nearest[j]) + (j in nearest[i])) / 2
    graph = modularity.neighbour_graph(outputs)
    torch.testing.assert_close(graph, expected)
    assert (graph > 0).sum() > 3 * 15  # an edge can have one end's wish alone


def test_opposite_images_share_no_weight_and_a_graph_without_edges_has_no_modularity() -> None:
    graph = modularity.neighbour_graph(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    assert graph.tolist() == [[0, 0], [0, 0]]
    assert modularity.modularity(graph, torch.tensor([0, 1])).item() == 0
    assert modularity.neighbour_graph(torch.ones(1, 4)).tolist() == [[0]]


def test_of_equally_near_images_the_earlier_are_neighbours() -> None:
    graph = modularity.neighbour_graph(torch.ones(6, 2))
    assert graph[5].tolist() == pytest.approx([0.5, 0.5, 0.5, 0, 0, 0]) and graph[4, 3] == 0


def test_modularity_rewards_the_section_that_parts_the_classes() -> None:
    """Behind the stem all images point the same way and the first ones are everyone's neighbours; then classes part."""
    batches = [together(doubled([(1.0, 0), (3.0, 1)] * 4))]
    scores = modularity.score(hinge_network(1000.0, 2.0), batches)
    (images, labels), alike = batches[0], torch.ones(16, 1)
    before = newman(modularity.neighbour_graph(alike), labels)
    assert len(images) == 16 and scores.tolist() == pytest.approx([0.5 - before, 0.0], abs=1e-3)


def test_modularity_of_the_first_section_is_over_the_stems_weights_before_normalisation_and_rectifier() -> None:
    network, batches = enliven(network_of("resnet-8")), patterned("resnet-8")
    images, labels = together(batches)
    outputs = [network.stem[0](images)]
    x = network.stem(images)
    for section in network.chain:
        x = section(x)
        outputs.append(x)
    found = [newman(modularity.neighbour_graph(each.detach()).double(), labels) for each in outputs]
    expected = [after - before for before, after in itertools.pairwise(found)]
    assert modularity.score(network, batches).tolist() == pytest.approx(expected, abs=1e-6)
    assert abs(newman(modularity.neighbour_graph(network.stem(images).detach()).double(), labels) - found[0]) > 1e-5


def test_images_are_looked_at_five_hundred_at_a_time_and_five_times() -> None:
    sizes = [128] * 30
    batches = [(torch.arange(n).view(-1, 1) + 1000 * k, torch.full((n,), k)) for k, n in enumerate(sizes)]
    groups = list(modularity.regrouped(batches))
    assert [len(images) for images, _ in groups] == [500] * 5
    rows = torch.cat([images for images, _ in batches]).flatten()[:2500]
    assert torch.equal(torch.cat([images for images, _ in groups]).flatten(), rows)
    assert all(torch.equal(images.flatten() // 1000, labels) for images, labels in groups)
    assert [len(images) for images, _ in modularity.regrouped(batches[:10])] == [500, 500]
    assert [len(images) for images, _ in modularity.regrouped(batches[:2])] == [256]
    halves = [(images[:125], labels[:125]) for images, labels in batches[:8]]
    assert [len(images) for images, _ in modularity.regrouped(halves)] == [500, 500]


def test_modularity_looks_at_validation_images_and_the_others_at_training_images() -> None:
    looks = {method.__name__.rpartition(".")[2]: getattr(method, "LOOKS_AT", "training") for method in METHODS}
    assert {name for name, split in looks.items() if split == "validation"} == {"modularity"}


# --- block influence ------------------------------------------------------------------------------------------


def shape_preserving(arch: str) -> SectionedNetwork:
    """A ResNet or VGG16 whose removable sections keep their shape."""
    settings = ModelSettings(width=2, removable="shape-preserving")
    return enliven(build(arch, SHAPES[arch], 10, source(0), settings))


@pytest.mark.parametrize("arch", ["resnet-8", "vgg16", "mlp-residual-4"])
def test_block_influence_is_one_minus_the_mean_cosine_of_input_and_output(arch: str) -> None:
    """Section after section in numpy, one image at a time."""
    network = network_of(arch) if arch.startswith("mlp") else shape_preserving(arch)
    batches = patterned(arch)
    x, expected = network.stem(together(batches)[0]), []
    for section in network.chain:
        before, x = x.detach(), section(x)
        if section.removable:
            pairs = zip(before.flatten(1).double().numpy(), x.detach().flatten(1).double().numpy(), strict=True)
            cosines = [a @ b / math.sqrt((a @ a) * (b @ b)) for a, b in pairs]
            expected.append(1 - sum(cosines) / len(cosines))
    scores = block_influence.score(network, batches)
    assert scores.tolist() == pytest.approx(expected, rel=1e-6)
    assert max(expected) > 1e-3 and len(expected) == {"resnet-8": 1, "vgg16": 8, "mlp-residual-4": 4}[arch]


def test_block_influence_by_hand() -> None:
    """(a, 0) and (a, |a|) are 45 degrees apart; what adds nothing does not turn."""
    scores = block_influence.score(hinge_network(1.0, 0.0), doubled([(1.0, 0), (-3.0, 1)]))
    assert scores.tolist() == pytest.approx([1 - math.sqrt(0.5), 0.0])


def test_block_influence_counts_every_image_once_and_costs_one_pass() -> None:
    network, batches = network_of("mlp-residual-4"), patterned("mlp-residual-4")
    whole = block_influence.score(network, [together(batches)])
    torch.testing.assert_close(block_influence.score(network, batches), whole)
    assert metered_score(block_influence.score, network, batches, 0)[1] == 34 * (1_600 + 4 * 10_000 + 1_000)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_section_that_changes_shapes_has_no_block_influence() -> None:
    with pytest.raises(SettingError, match=r"cannot score resnet-8: section 'stage2\.0' has an input of \[16, 8, 8\]"):
        block_influence.score(network_of("resnet-8"), patterned("resnet-8"))
