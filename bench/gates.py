"""A gated training step with every section alive over a dense one: each estimator, and fewer gates, on ResNet-20.

Of ImageNet's ResNet-50, on images of 64 pixels, the default alone: its steps are long.
"""

from collections.abc import Iterator

from bench.steps import BATCH, GATED, TRAINING, network_of, steps_of
from bench.timing import Measurement, compare
from layerprune.core.gates.estimators import ESTIMATORS
from layerprune.core.settings import GatedSettings, NoSettings

ARCH, LARGE, STEPS = "resnet-20", "imagenet-resnet-50", 1
LARGE_BATCH = 16
DEFAULT, TARGET = GatedSettings().estimator, "<= 1.08"
CASES = {name: {"estimator": name} for name in sorted(ESTIMATORS, key=lambda name: name != DEFAULT)}
CASES["drawn_share 0.25"] = {"drawn_share": 0.25}
"""What is said of a case -> its settings; the default comes first."""


def gated_against_dense(arch: str, case: str, rounds: int, batch: int = BATCH) -> Measurement:
    """The target is for what gated does by default; estimators with a second forward pass cost more by design."""
    settings, training = GATED.model_copy(update=CASES[case]), TRAINING.model_copy(update={"batch_size": batch})
    dense = steps_of(network_of(arch), "dense", NoSettings(), training, STEPS)
    gated = steps_of(network_of(arch), "gated", settings, training, STEPS)
    target = TARGET if CASES[case].get("estimator") == DEFAULT else ""
    return compare(f"gated step / dense step, {arch}, {case}", dense, gated, rounds, target)


def measure(rounds: int) -> Iterator[Measurement]:
    """Every case."""
    for case in CASES:
        yield gated_against_dense(ARCH, case, rounds)
    yield gated_against_dense(LARGE, DEFAULT, rounds, LARGE_BATCH)
