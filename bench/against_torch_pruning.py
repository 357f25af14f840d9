"""Layers against channels: latency of networks that lost whole sections and of ones that lost channels, at equal MACs.

Channels go by Torch-Pruning (Fang et al., CVPR 2023, arXiv 2301.12900) as its README shows it: group magnitude, ranked
over the whole network, the classifier left alone, the ratio searched for that gives the MACs asked for; as they fall,
and in multiples of eight, which CPUs like better, where such a network comes near enough to the MACs. Sections go by
layerprune.prune_by_scores, spread evenly over the stages (uniform-thinning). Both start from the same network, with
random weights: which channels and sections go would be others after a training, how many multiply-adds would not. All
are traced by torch.fx and called eagerly, channels last, in turns.

ResNet-56 has projections where the shape changes (option B), as Torch-Pruning's own benchmark: it cannot follow option
A, which pads by a fixed number of channels.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, fx, nn
from torchvision.models.resnet import BasicBlock

import layerprune
from bench.timing import Measurement
from layerprune.core import timing
from layerprune.core.measure import count_macs
from layerprune.core.timing import quartiles
from layerprune.errors import LayerpruneError
from layerprune.library.latency import engines
from layerprune.library.latency.engines import MeasuredModel

Shape = tuple[int, int, int]
CIFAR: Shape = (3, 32, 32)
IMAGENET: Shape = (3, 224, 224)
SHARES = (0.7, 0.5)
"""Of the dense network's MACs, to be left."""
TOLERANCE = 0.02
BATCHES = (1, 32)
STEP, HALVINGS = 0.1, 10
"""How the ratio is searched: in steps, then halving the last one."""
ROUNDED = {"channels": None, "channels in eights": 8}
FEWER = 25
"""Measurements of one image for each of a batch, which takes so much longer."""


@dataclass(frozen=True)
class Case:
    """A network, and the shape of its images."""

    name: str
    build: Callable[[], nn.Module]
    shape: Shape


def cifar_resnet(depth: int) -> nn.Module:
    """ResNet of depth 6n + 2 for images [B, 3, 32, 32], with projections where the shape changes."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    before = 16
    for channels in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            layers.append(BasicBlock(before, channels, *_change(before, channels)))
            before = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def _change(before: int, channels: int) -> tuple[int, nn.Module | None]:
    """Stride and projection of a block."""
    if before == channels:
        return 1, None
    return 2, nn.Sequential(nn.Conv2d(before, channels, 1, 2, bias=False), nn.BatchNorm2d(channels))


CASES = (
    Case("resnet-56", lambda: cifar_resnet(56), CIFAR),
    Case("torchvision's resnet50", torchvision.models.resnet50, IMAGENET),
)


# --- the two ways of pruning ----------------------------------------------------------------------------------


def without_sections(network: nn.Module, shape: Shape, share: float) -> nn.Module:
    """The network without as many sections as bring its MACs nearest to a share of them."""
    sections = layerprune.find_sections(network, torch.zeros(2, *shape))
    scores = layerprune.section_scores(network, sections, "uniform-thinning")
    going = sorted(sections.removable, key=lambda section: scores[section.name])
    left = [sections.macs - sum(section.macs for section in going[:count]) for count in range(len(going) + 1)]
    count = min(range(len(left)), key=lambda gone: abs(left[gone] - share * sections.macs))
    return layerprune.prune_by_scores(network, sections, "uniform-thinning", keep=len(going) - count)


def without_channels(network: nn.Module, shape: Shape, macs: int, round_to: int | None = None) -> nn.Module:
    """The network without channels, with so many MACs or nearly; the channels left are multiples of `round_to`.

    Raises LayerpruneError where none comes near.
    """
    tried: dict[float, nn.Module] = {}

    def macs_at(ratio: float) -> int:
        tried[ratio] = _torch_pruning(network, shape, ratio, round_to)
        return count_macs(tried[ratio], shape)

    low, high = 0.0, STEP
    while macs_at(high) > macs and high + STEP < 1:  # step by step: MACs can rise again where nothing is left to take
        low, high = high, high + STEP
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if macs_at(middle) > macs else (low, middle)
    nearest = min(tried.values(), key=lambda pruned: abs(count_macs(pruned, shape) - macs))
    found = count_macs(nearest, shape)
    if abs(found - macs) > TOLERANCE * macs:
        raise LayerpruneError(f"torch-pruning: no ratio leaves {macs:,} MACs; the nearest are {found:,}")
    return nearest


def _torch_pruning(network: nn.Module, shape: Shape, ratio: float, round_to: int | None) -> nn.Module:
    import torch_pruning

    pruned = copy.deepcopy(network)
    classifier = [layer for layer in pruned.modules() if isinstance(layer, nn.Linear)][-1]
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    options = {"importance": importance, "global_pruning": True, "pruning_ratio": ratio, "round_to": round_to}
    torch_pruning.pruner.BasePruner(pruned, torch.zeros(1, *shape), ignored_layers=[classifier], **options).step()
    return pruned


def their_macs(network: nn.Module, shape: Shape) -> int:
    """Multiply-adds of one input as Torch-Pruning counts them, without what it counts for other layers.

    Those are two for each number that a normalisation puts out, one for each that an activation puts out or a pooling
    takes in, and one for each offset of a linear layer.
    """
    import torch_pruning

    total, _ = torch_pruning.utils.count_ops_and_params(network, torch.zeros(1, *shape))
    others: list[int] = []
    handles = [
        layer.register_forward_hook(lambda layer, taken, made, cost=cost: others.append(cost(layer, taken[0], made)))
        for layer in network.modules()
        for kind, cost in _OTHER_COSTS.items()
        if isinstance(layer, kind)
    ]
    with torch.no_grad():
        network(torch.zeros(1, *shape))
    for handle in handles:
        handle.remove()
    return int(total) - sum(others)


_OTHER_COSTS: dict[type[nn.Module], Callable[[nn.Module, Tensor, Tensor], int]] = {
    nn.BatchNorm2d: lambda layer, taken, made: 2 * made.numel(),
    nn.ReLU: lambda layer, taken, made: made.numel(),
    nn.MaxPool2d: lambda layer, taken, made: taken.numel(),
    nn.AdaptiveAvgPool2d: lambda layer, taken, made: taken.numel(),
    nn.Linear: lambda layer, taken, made: layer.bias.numel(),
}


# --- measuring ------------------------------------------------------------------------------------------------


def pruned_both_ways(case: Case, share: float) -> dict[str, nn.Module]:
    """dense, layers, and channels as in ROUNDED where they come near.

    Raises LayerpruneError where the counters disagree.
    """
    torch.manual_seed(0)
    dense = case.build().eval()
    counts = count_macs(dense, case.shape), their_macs(dense, case.shape)
    if counts[0] != counts[1]:
        raise LayerpruneError(f"{case.name}: {counts[0]:,} MACs counted here, {counts[1]:,} by torch-pruning")
    layers = without_sections(dense, case.shape, share)
    found = {"dense": dense, "layers": layers}
    for name, round_to in ROUNDED.items():
        with suppress(LayerpruneError) if round_to else nullcontext():
            found[name] = without_channels(dense, case.shape, count_macs(layers, case.shape), round_to)
    return {name: fx.symbolic_trace(network) for name, network in found.items()}


def side_by_side(
    case: Case, networks: dict[str, nn.Module], batch: int, rounds: int, threads: int = 1
) -> Iterator[Measurement]:
    """Latency without sections over latency without channels, of each kind, all in the rounds of one run."""
    works = [
        engines.prepare(MeasuredModel(name, network, case.shape), "eager", "fp32", batch, torch.device("cpu"), threads)
        for name, network in networks.items()
    ]
    times = dict(zip(networks, timing.milliseconds(works, rounds), strict=True))
    macs = {name: count_macs(network, case.shape) for name, network in networks.items()}
    share = f"{macs['layers'] / macs['dense']:.2f} of the MACs"
    for name in (each for each in ROUNDED if each in networks):
        pairs = zip(times["layers"], times[name], strict=True)
        low, middle, high = quartiles([layers / channels for layers, channels in pairs])
        note = "; ".join(_told(each, times[each], macs[each] / macs["dense"]) for each in ("dense", name, "layers"))
        yield Measurement(f"layers / {name}, {case.name}, {share}, batch {batch}", middle, low, high, rounds, note=note)


def _told(name: str, taken: list[float], share: float) -> str:
    low, middle, high = quartiles(taken)
    return f"{name} {middle:.3g} ms ({low:.3g} .. {high:.3g}), MACs {share:.3f}"


def measure(rounds: int) -> Iterator[Measurement]:
    """Both networks at each share, one image and a batch."""
    threads = torch.get_num_threads()
    for case in CASES:
        for share in SHARES:
            networks = pruned_both_ways(case, share)
            for batch in BATCHES:
                yield from side_by_side(
                    case, networks, batch, rounds if batch == 1 else max(3, rounds // FEWER), threads
                )
