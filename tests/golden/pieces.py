"""Golden values of what runs are made of: data sets, batches, networks, gates, scores of a split.

Each piece is a function without arguments that gives plain data, and the versions that it depends on.
"""

import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerprune.core import surgery, version
from layerprune.core.data import catalog, cifar, digits, mnist
from layerprune.core.data.batches import evaluation_batches, training_batches
from layerprune.core.data.dataset import DataSet, Split, channel_statistics
from layerprune.core.data.loading import Reading, load
from layerprune.core.gates import priors
from layerprune.core.measure import count_depth, count_macs, count_params, section_macs, section_params
from layerprune.core.methods.parts import budget, section_latency
from layerprune.core.networks import arch_file
from layerprune.core.networks.build import build
from layerprune.core.networks.pretrained import load_torchvision
from layerprune.core.networks.sections import SectionedNetwork, mask_gates
from layerprune.core.seeding import generator, stream_seed
from layerprune.core.settings import FinetuneSettings, ModelSettings, TrainingSettings
from layerprune.core.training.engine import autocast
from layerprune.core.training.evaluate import evaluate
from layerprune.core.training.schedule import learning_rate
from layerprune.system.files import constant_in

from . import made_up
from .compare import EVERYWHERE, Tolerances


@dataclass(frozen=True)
class Piece:
    """What makes its numbers, and the versions that they depend on."""

    make: Callable[[], dict[str, Any]]
    versions: dict[str, int]
    tolerances: Tolerances = field(default_factory=dict)


def all_pieces() -> dict[str, Piece]:
    """Every piece by its name."""
    shared = {"results": version.RESULTS_VERSION}
    named: dict[str, Piece] = {
        f"network {name}": Piece(partial(_network, *what), shared | _arch_version(what[0]))
        for name, what in NETWORKS.items()
    }
    for name, make in DATA.items():
        own = constant_in(version.dataset_file(name.split()[0]), "VERSION")
        named[f"data {name}"] = Piece(make, shared | {"dataset": own}, TOLERANCES.get(f"data {name}", {}))
    return named | {name: Piece(make, shared, TOLERANCES.get(name, {})) for name, make in OTHERS.items()}


def _arch_version(arch: str) -> dict[str, int]:
    return {"arch": constant_in(arch_file(arch), "VERSION")}


# --- networks -------------------------------------------------------------------------------------------------

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
NETWORKS: dict[str, tuple[str, tuple[int, int, int], dict[str, Any]]] = {
    "mlp-residual": ("mlp-residual-5", GREY, {}),
    "lenet-300-100": ("lenet-300-100", GREY, {}),
    "lenet5": ("lenet5", GREY, {}),
    "vgg16": ("vgg16", COLOUR, {"width": 4}),
    "resnet": ("resnet-14", COLOUR, {}),
    "resnet with option b": ("resnet-14", COLOUR, {"width": 4, "shortcut": "b"}),
    "resnet of fixed sections": ("resnet-14", COLOUR, {"width": 4, "removable": "shape-preserving"}),
    "preact-resnet": ("preact-resnet-14", COLOUR, {"width": 4}),
    "imagenet-resnet of two layers": ("imagenet-resnet-18", (3, 64, 64), {"width": 4}),
    "imagenet-resnet of three layers": ("imagenet-resnet-50", (3, 64, 64), {"width": 4}),
    "imagenet-preact-resnet": ("imagenet-preact-resnet-18", (3, 64, 64), {"width": 4}),
}


def _network(arch: str, shape: tuple[int, int, int], options: dict[str, Any]) -> dict[str, Any]:
    """A fresh network, and what is left of it without every other section."""
    network = build(arch, shape, 10, generator("initialisation", 3), ModelSettings(**options))
    images = torch.randn(4, *shape, generator=torch.Generator().manual_seed(5))
    found = {
        "sections": [section.name for section in network.sections],
        "section_macs": section_macs(network),
        "section_params": section_params(network),
        "weights": [float(each.detach().double().norm()) for each in network.parameters()],
    } | _sizes(network)
    _enliven(network)
    with torch.no_grad():
        found["training_logits"] = _numbers(network(images))
        count = len(network.sections)
        found["half_open_logits"] = _numbers(network(images, mask_gates([0.5] * count)))
        keep = [index % 2 for index in range(count)]
        surgery.remove_all_but(network.eval(), keep)
        surgery.fold(network)
        found["folded_logits"] = _numbers(network(images))
    return found | {f"folded_{name}": value for name, value in _sizes(network).items()}


@torch.no_grad()
def _enliven(network: SectionedNetwork) -> None:
    """Biases and normalisations that do not happen to do nothing, as those of a fresh network."""
    for name, value in network.state_dict().items():
        if value.dim() == 1:
            value.copy_(made_up.values(name, tuple(value.shape)))


def _sizes(network: SectionedNetwork) -> dict[str, int]:
    macs = count_macs(network, network.input_shape)
    return {"depth": count_depth(network), "macs": macs, "params": count_params(network)}


def _numbers(values: Tensor) -> list[float]:
    return values.detach().double().flatten().tolist()


def _without_any_section() -> dict[str, Any]:
    """Folding at its hardest: every section goes, so that long chains of linear maps are multiplied out."""
    found = {}
    for name, (arch, shape, options) in NETWORKS.items():
        network = build(arch, shape, 10, generator("initialisation", 3), ModelSettings(**options)).eval()
        _enliven(network)
        surgery.remove_all_but(network, [0] * len(network.sections))
        surgery.fold(network)
        images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(5))
        with torch.no_grad():
            found[name] = _sizes(network) | {"logits": _numbers(network(images))}
    return found


def _torchvision_weights() -> dict[str, Any]:
    from torchvision.models import resnet18

    theirs = resnet18(num_classes=10)
    state = {name: made_up.values(name, tuple(value.shape)) for name, value in theirs.state_dict().items()}
    network = build("imagenet-resnet-18", (3, 32, 32), 10, generator("initialisation", 0))
    load_torchvision(network, state)
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    norms = [float(each.double().norm()) for each in network.state_dict().values() if each.is_floating_point()]
    with torch.no_grad():
        return {"norms": norms, "logits": _numbers(network.train()(images))}


# --- data -----------------------------------------------------------------------------------------------------


def _data_set(data: DataSet) -> dict[str, Any]:
    return {
        "name": data.name,
        "source": data.source,
        "classes": data.classes,
        "shape": list(data.shape),
        "mean": list(data.mean),
        "std": list(data.std),
        "checksums": {name: value for name, value in data.checksums.items()},
    } | {part: _split(getattr(data, part), data) for part in ("train", "validation", "test")}


def _split(split: Any, data: DataSet) -> dict[str, Any]:
    """Labels to the last, and images by their digest, or where they are decoded by their batches' sums."""
    found = {"count": len(split), "labels": _digest(split.labels.numpy())}
    if isinstance(split, Split):
        return found | {"images": _digest(split.images.numpy())}
    batches = evaluation_batches(split, data.mean, data.std, 5)
    return found | {"sums": [float(images.double().square().sum()) for images, _ in batches]}


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]


@contextmanager
def _folder() -> Iterator[Path]:
    """The data of the workplace."""
    yield Path(os.environ["LAYERPRUNE_DATA"])


def _digits() -> dict[str, Any]:
    return _data_set(digits.load())


def _mnist() -> dict[str, Any]:
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for part, count in (("train", 120), ("test", 30)):
            pixels = random.integers(0, 256, (count, 28, 28))
            _write_idx(Path(folder, catalog.MNIST.files[f"{part}_images"]), pixels)
            _write_idx(Path(folder, catalog.MNIST.files[f"{part}_labels"]), np.arange(count) % 10)
        return _data_set(mnist.load(Path(folder), replace(catalog.MNIST, sha256={})))


def _write_idx(path: Path, values: np.ndarray) -> None:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes())


def _cifar_tree(name: str) -> dict[str, Any]:
    with _folder() as root:
        return _data_set(load(name, root))


def _cifar_archive(form: catalog.DataSpec, parts: Sequence[str], labels: bytes) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{form.files['archive']}.tar.gz")
        made_up.write_archive(path, parts, labels, form.classes)
        return _data_set(cifar.load(Path(folder), replace(form, md5={})))


CIFAR10_PARTS = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")


def _imagenet(source: str, decoder: str = "pil") -> dict[str, Any]:
    with _folder() as root:
        return _data_set(load("imagenet", root, reading=Reading(source, decoder=decoder)))


DATA: dict[str, Callable[[], dict[str, Any]]] = {
    "digits": _digits,
    "mnist": _mnist,
    "cifar10 as a tree": partial(_cifar_tree, "cifar10"),
    "cifar100 as a tree": partial(_cifar_tree, "cifar100"),
    "cifar10 as an archive": partial(_cifar_archive, catalog.CIFAR10, CIFAR10_PARTS, b"labels"),
    "cifar100 as an archive": partial(_cifar_archive, catalog.CIFAR100, ("train", "test"), b"fine_labels"),
    "imagenet in memory": partial(_imagenet, "imagenet-tiny40"),
    "imagenet in its files": partial(_imagenet, "imagenet"),
    "imagenet by torchvision's decoder": partial(_imagenet, "imagenet", "torchvision"),
}


def _batches(augment: str, **views: Any) -> dict[str, Any]:
    """Two epochs' last two batches, the ragged one among them."""
    data = digits.load()
    batches = training_batches(data, TrainingSettings(batch_size=100, augment=augment, **views), 7, "cpu")
    steps = batches.steps_per_epoch
    found: dict[str, Any] = {"steps": steps, "sizes": [batches.examples_in(step) for step in range(steps)]}
    for epoch in (0, 1):
        for place, (images, labels) in enumerate(batches.epoch(epoch, steps - 2)):
            weights = torch.arange(images[0].numel(), dtype=torch.float64) / images[0].numel()
            found[f"labels_{epoch}_{place}"] = labels.tolist()
            found[f"images_{epoch}_{place}"] = (images.double().flatten(1) @ weights).tolist()
    return found


def _streamed_batches(decoder: str) -> dict[str, Any]:
    with _folder() as root:
        data = load("imagenet", root, reading=Reading("imagenet", decoder=decoder))
    batches = training_batches(data, TrainingSettings(batch_size=10, augment="resized-crop"), 7, "cpu")
    made = [(epoch, *batch) for epoch in (0, 1) for batch in batches.epoch(epoch, 3)]
    weights = torch.arange(3 * made_up.IMAGENET_SIDE**2, dtype=torch.float64) / 1000
    return {
        "steps": batches.steps_per_epoch,
        "labels": [labels.tolist() for _, _, labels in made],
        "images": [(images.double().flatten(1) @ weights).tolist() for _, images, _ in made],
    }


# --- measuring and small formulas -----------------------------------------------------------------------------


def _evaluation() -> dict[str, Any]:
    """More examples than a batch, so that the last one is ragged; and many classes, for the best five."""
    data = digits.load()
    network = build("lenet-300-100", GREY, 10, generator("initialisation", 1))
    source = torch.Generator().manual_seed(4)
    pixels = torch.randint(0, 256, (70, 1, 4, 4), generator=source).to(torch.uint8)
    many = Split(pixels, torch.randint(0, 25, (70,), generator=source))
    noise = DataSet("noise", "noise", 25, many, many, many, *channel_statistics(pixels), {})
    wide = build("mlp-residual-2", (1, 4, 4), 25, generator("initialisation", 1))
    scores = {
        "ragged": evaluate(network, data, data.train),
        "gated": evaluate(network, data, data.test, mask_gates([0.3, 0.0])),
        "many_classes": evaluate(wide, noise, noise.test),
    }
    return {name: vars(score) for name, score in scores.items()}


def _schedules() -> dict[str, Any]:
    kinds = ("cosine", "linear", "step", "thirds", "constant")
    steps = (0, 1, 4, 9, 10, 12, 15, 16, 20, 23, 29)
    return {
        kind: [learning_rate(TrainingSettings(schedule=kind, lr=0.3), step, 30, 5) for step in steps]
        + [learning_rate(FinetuneSettings(schedule=kind, lr=0.1), step, 30) for step in steps]
        for kind in kinds
    }


def _precision() -> dict[str, Any]:
    """What a product is computed in: bfloat16 itself moves a short run by no more than other kernels do."""
    found = {}
    for precision in ("fp32", "bf16"):
        with autocast(precision, torch.device("cpu")):
            found[precision] = str((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
    return found


def _seeds() -> dict[str, Any]:
    return {
        "seeds": [str(stream_seed("order", 0)), str(stream_seed("order", 1, 2)), str(stream_seed("gates", 1, 2))],
        "draws": torch.rand(3, generator=generator("order", 0, 1)).tolist(),
    }


def _prices() -> dict[str, Any]:
    """The flattening prior, and budgets in latency with made-up times, as measured ones are never the same."""
    shared = section_latency.shared_out(10.0, 4.0, [8.0, 9.5, 10.2, 7.0])
    allowed = budget.of_latency(0.6, shared.whole, shared.sections)
    theta = torch.tensor([0.9, 0.2, 0.5, 0.7])
    return {
        "best_pi": [priors.best_pi(theta, 0.01) for theta in (0.1, 0.5, 0.9)],
        "complexity": [priors.complexity(theta, 0.2, 0.01) for theta in (0.1, 0.5, 0.9)],
        "price": priors.price(math.log(100), 1237),
        "section_latency": list(shared.sections),
        "allowed": allowed.allowed,
        "factor": allowed.factor(theta),
        "may_go": allowed.may_go([3, 0, 1], [1, 1, 1, 1]),
        "rounded": allowed.rounded(theta, torch.zeros(4), [1, 1, 1, 1]).tolist(),
    }


def _probed_by_clusters() -> dict[str, Any]:
    from layerprune.core.methods.scores.energy import optimal_clusters

    values = [7.0, 0.0, 1.0, 12.0, 2.0, 8.5, 4.0, 13.0]
    return {str(count): optimal_clusters(values, count) for count in (1, 2, 3, 5)}


OTHERS: dict[str, Callable[[], dict[str, Any]]] = {
    "networks without any section": _without_any_section,
    "torchvision's weights": _torchvision_weights,
    "batches as they are": partial(_batches, "none"),
    "batches shifted": partial(_batches, "shift"),
    "batches cropped and mirrored": partial(_batches, "crop-flip"),
    "batches alternately mirrored": partial(_batches, "crop-flip", crop=1, flip="alternating"),
    "batches decoded by pillow": partial(_streamed_batches, "pil"),
    "batches decoded by torchvision": partial(_streamed_batches, "torchvision"),
    "evaluation": _evaluation,
    "learning rates": _schedules,
    "number formats": _precision,
    "random streams": _seeds,
    "prices": _prices,
    "clusters": _probed_by_clusters,
}
TORCHVISION = "batches decoded by torchvision", "data imagenet by torchvision's decoder"
TOLERANCES: dict[str, Tolerances] = {
    "evaluation": {"accuracy": 0.01, "top5": 0.02},
    **{name: {EVERYWHERE: 0.03} for name in TORCHVISION},  # pixels are rounded otherwise by other kernels
}
