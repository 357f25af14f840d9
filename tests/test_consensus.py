"""The rank sum of several scores, and the order that its published trajectory follows."""

import importlib

import numpy as np
import pytest
import torch
from networks import enliven, images, make, source
from torch import Tensor

from layerprune.core.methods import module_name
from layerprune.core.methods.base import keep_highest, score_under
from layerprune.core.methods.scores import consensus, first_k, magnitude, random
from layerprune.core.settings import ConsensusSettings, ScoreSettings
from layerprune.core.training.section_scores import metered_score
from layerprune.errors import SettingError

PICTURE = (3, 8, 8)


def data(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    pictures, labels = images(sum(sizes), PICTURE), torch.randint(0, 10, (sum(sizes),), generator=source(6))
    return list(zip(pictures.split(sizes), labels.split(sizes), strict=True))


def test_ranks_count_from_one_and_equal_scores_share_the_mean_of_theirs() -> None:
    assert consensus.ranks(torch.tensor([0.5, -1.0, 7.0])).tolist() == [2, 1, 3]
    assert consensus.ranks(torch.tensor([3.0, 1.0, 3.0, 3.0, 0.0])).tolist() == [4, 2, 4, 4, 1]
    assert consensus.ranks(torch.zeros(4)).tolist() == [2.5] * 4


def test_ranks_of_different_scores_are_places_in_their_order() -> None:
    scores = torch.randn(30, generator=source(1), dtype=torch.float64)
    expected = np.argsort(np.argsort(scores.numpy())) + 1
    assert consensus.ranks(scores).tolist() == expected.tolist()


def test_the_score_is_the_sum_of_ranks_of_the_metrics_by_their_names() -> None:
    network, batches = enliven(make("resnet-14", shape=PICTURE)), data(12, 9)
    metrics = ("magnitude", "taylor", "cka", "modularity")
    expected = np.zeros(6)
    for slug in metrics:
        scores = importlib.import_module(module_name(slug)).score(network, batches).numpy()
        expected += np.array([1 + sum(other < own for other in scores) for own in scores])
        assert len(set(scores.tolist())) == 6
    found = consensus.score(network, batches, ConsensusSettings(metrics=metrics))
    assert found.tolist() == expected.tolist()
    assert consensus.score(network, batches, ConsensusSettings(metrics=("cka",))).tolist() != expected.tolist()


def test_its_bill_is_that_of_its_metrics() -> None:
    network, batches = make("resnet-14", shape=PICTURE).eval(), data(7)
    own = ConsensusSettings(metrics=("taylor", "cka"))
    parts = [
        metered_score(importlib.import_module(module_name(slug)).score, network, batches, 0)[1] for slug in own.metrics
    ]
    assert metered_score(score_under(consensus, own), network, batches, 0)[1] == sum(parts) > max(parts)


@pytest.mark.parametrize("slug", ["consensus", "gated", "no-such-score"])
def test_what_is_no_score_is_refused_in_one_line(slug: str) -> None:
    with pytest.raises(SettingError, match=rf"^settings\.metrics: '{slug}' is not a score \(known: .*cka.*\)$"):
        consensus.score(make("resnet-8", shape=PICTURE), data(4), ConsensusSettings(metrics=(slug,)))


def test_a_score_with_knobs_is_given_them_and_one_without_is_called_as_ever() -> None:
    settings = ConsensusSettings(metrics=("magnitude",))
    network = make("resnet-8", shape=PICTURE).eval()
    assert (
        score_under(consensus, settings)(network, []).tolist() == consensus.ranks(magnitude.score(network, [])).tolist()
    )
    assert score_under(random, ScoreSettings()) is random.score


def test_first_k_removes_from_the_front_to_the_back() -> None:
    network = make("resnet-20", shape=PICTURE)
    scores = first_k.score(network, []).tolist()
    orders = [keep_highest(scores, count) for count in (8, 6, 2)]
    assert orders == [[0] + [1] * 8, [0] * 3 + [1] * 6, [0] * 7 + [1] * 2]
    network.fix([network.chain[0], network.chain[3]])
    assert keep_highest(first_k.score(network, []).tolist(), 4) == [0, 0, 0, 1, 1, 1, 1]
