"""Linear probes: how well a linear classifier tells the classes apart at each place of a network.

A probe sees channel means (outputs without height and width as they are), standardised by the fitting half's mean and
deviation. It is a multinomial logistic regression with an offset, minimising in float64, from zero, by L-BFGS

    mean cross-entropy + L2 / 2 * ||weights||^2

on every other image of the sample; its accuracy is taken on the others. No random number is drawn. Both halves are
training images, where a probe of the whole training split judged by validation would be less noisy: with the default
`sample` a gain rests on 1,024 images, and one of them is a tenth of a point.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from layerprune.core.methods.parts.features import gains, gathered_outputs, halves
from layerprune.core.networks.sections import SectionedNetwork

L2 = 1e-4
ITERATIONS = 200


def probe_gains(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Gains of probe accuracy [L]: behind each section minus behind its predecessor. One pass over the batches.

    The probes' own multiply-adds, far fewer than those of the forward pass, are not counted.
    """
    features, labels = gathered_outputs(model, batches, channel_means)
    return gains(model, torch.stack([probe_accuracy(each, labels) for each in features]).cpu())


def channel_means(output: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C]; [B, D] as it is."""
    return output.flatten(2).mean(2) if output.dim() > 2 else output


def probe_accuracy(features: Tensor, labels: Tensor) -> Tensor:
    """Accuracy, a scalar, of a probe of features [N, D] that was fitted to every other row, on the remaining rows."""
    (fitting, judging), (names, truth) = halves(features.double()), halves(labels)
    mean, deviation = fitting.mean(0), fitting.std(0, correction=0)
    deviation = torch.where(deviation > 0, deviation, 1)
    weight, bias = fit((fitting - mean) / deviation, names, int(labels.max()) + 1)
    logits = functional.linear((judging - mean) / deviation, weight, bias)
    return (logits.argmax(1) == truth).double().mean()


def fit(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Weights [classes, D] and offsets [classes] of the logistic regression on features [N, D] in float64."""
    weight = features.new_zeros(classes, features.shape[1]).requires_grad_()
    bias = features.new_zeros(classes).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, tolerance_grad=1e-6, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(functional.linear(features, weight, bias), labels)
        loss = loss + L2 / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    return weight.detach(), bias.detach()
