"""How weights are trained and fine-tuned, and what an architecture may be asked for."""

from typing import Annotated, Literal

from pydantic import Field

from layerprune.core.settings.types import (
    EvenInt,
    Fraction,
    Length,
    NonNegative,
    Positive,
    PositiveInt,
    Settings,
    WarmUp,
    describe,
    later,
)

Schedule = Literal["cosine", "linear", "step", "thirds", "constant"]


class TrainingSettings(Settings):
    """How weights are trained from scratch (SGD with momentum on the mean cross-entropy)."""

    duration: Length = describe("20ep", "length of training: epochs ('20ep') or steps ('6400it')")
    batch_size: PositiveInt = describe(128, "examples per step")
    lr: Positive = describe(
        0.02, "peak learning rate; 0.05 diverges on the networks here, whose shortcuts see raw pixels"
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = describe(0.9, "SGD momentum")
    nesterov: bool = describe(False, "Nesterov form of the momentum")
    weight_decay: NonNegative = describe(5e-4, "L2 factor lambda of lambda/2 ||W||^2, on the weights it applies to")
    decayed: Literal["all", "matrices"] = later(
        "all", "weights under weight decay: all; matrices: all but biases and the weights of normalisation"
    )
    schedule: Schedule = describe("cosine", "learning rate after the warm-up")
    lr_warmup: WarmUp = describe("0ep", "linear rise of the learning rate from 0: a duration, or '20%' of training")
    lr_batch: PositiveInt | None = later(
        None, "batch size that learning rates are given for: they are multiplied by batch_size / lr_batch; absent: by 1"
    )
    augment: Literal["none", "shift", "crop-flip", "resized-crop"] = describe(
        "none",
        "shift: random translation by up to 2 pixels; crop-flip: by up to 4, and mirrored half of the time; "
        "resized-crop: for images decoded while they are needed",
    )
    crop: Annotated[int, Field(ge=0, le=16)] | None = later(
        None, "pixels by which shift and crop-flip move an image, in place of their own"
    )
    flip: Literal["random", "alternating"] = later(
        "random", "crop-flip mirrors images at random, or each image in every second epoch"
    )
    label_smoothing: Fraction = later(0.0, "share of the target that is spread evenly over all classes")
    average: Annotated[float, Field(gt=0, lt=1)] | None = later(
        None, "decay per step of a running average of the weights, which replaces them after the last step"
    )
    precision: Literal["fp32", "bf16"] = later("fp32", "bf16: forward and backward pass under autocast to bfloat16")
    engine: Literal["eager", "compiled", "graphs"] = later(
        "eager",
        "compiled: sections by torch.compile, once for all that are alike; "
        "graphs: whole steps recorded as CUDA graphs, eager on a CPU",
    )


def views_problem(augment: str, crop: int | None, flip: str) -> str | None:
    """How `crop` and `flip` contradict `augment`, beginning with the key at fault; None if they do not.

    No validator of the class: a preset's layers may name one without the other, and only all of them together count.
    """
    if augment == "none" and crop:
        return f"training.crop: {crop} moves images, and augment none does not: set crop to 0, or augment to shift"
    if augment == "resized-crop" and crop is not None:
        return "training.crop: is for shift and crop-flip, not for augment resized-crop: set it to null"
    if augment != "crop-flip" and flip != "random":
        return f"training.flip: {flip} is for augment crop-flip, not for {augment}: set flip to random"
    return None


class FinetuneSettings(Settings):
    """Training after sections were removed from a trained network; the rest is as in training."""

    duration: Length = describe("5ep", "length of fine-tuning")
    lr: Positive = describe(0.01, "peak learning rate of fine-tuning")
    schedule: Schedule = describe("cosine", "learning rate schedule")


class ModelSettings(Settings):
    """Settings of an architecture."""

    removable: Literal["all", "shape-preserving"] = describe(
        "all", "shape-preserving: sections whose shortcut is not the identity always stay"
    )
    shortcut: Literal["a", "b"] = describe("a", "resnet: what passes a change of shape, option A or B of He et al.")
    width: EvenInt | None = describe(None, "resnet, vgg16: channels of the first stage, even; absent: as published")
    init: Literal["he", "dirac"] = later(
        "he", "initial weights of the branches: He's, or with the identity on a convolution's first channels"
    )
