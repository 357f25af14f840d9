"""The learning rate as a function of the step."""

import math

from layerprune.core.settings import FinetuneSettings, TrainingSettings


def learning_rate(settings: TrainingSettings | FinetuneSettings, step: int, total: int, warmup: int = 0) -> float:
    """Learning rate of step 0 <= step < total: linear warm-up, then the schedule over the remaining steps.

    cosine: half a period down to 0; linear: straight down to 0; step: a tenth at 50 % and again at 75 %; thirds: at one
    third and again at two; constant.
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
    if settings.schedule == "thirds":
        return settings.lr * 0.1 ** ((fraction >= 1 / 3) + (fraction >= 2 / 3))
    return settings.lr


def lr_factor(settings: TrainingSettings) -> float:
    """The factor for learning rates given for another batch size (linear scaling, Goyal et al. 2017)."""
    return 1.0 if settings.lr_batch is None else settings.batch_size / settings.lr_batch
