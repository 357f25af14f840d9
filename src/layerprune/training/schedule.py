"""The learning rate as a function of the step."""

import math

from layerprune.config import FinetuneSettings, TrainingSettings, steps_of


def learning_rate(settings: TrainingSettings | FinetuneSettings, step: int, total: int, warmup: int = 0) -> float:
    """Learning rate of step 0 <= step < total: linear warm-up, then the schedule over what is left.

    cosine: half a period down to 0; linear: straight down to 0; step: a tenth at 50 % and again at 75 %; constant.
    """
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    fraction = (step - warmup) / max(1, total - warmup)
    if settings.schedule == "cosine":
        return settings.lr * 0.5 * (1 + math.cos(math.pi * fraction))
    if settings.schedule == "linear":
        return settings.lr * (1 - fraction)
    if settings.schedule == "step":
        return settings.lr * 0.1 ** ((fraction >= 0.5) + (fraction >= 0.75))
    return settings.lr


def warmup_steps(settings: TrainingSettings, steps_per_epoch: int) -> int:
    """Steps of the learning rate's warm-up."""
    return steps_of(settings.lr_warmup, steps_per_epoch)
