"""Detection and segmentation: what a backbone returns stays where it is when sections around it leave."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from networks import source
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import mobilenet_backbone

from layerprune.library.concurrent_pruner import ConcurrentPruner
from layerprune.library.find_sections import find_sections

SIZE = 64
STEPS = 4


def a_detector() -> nn.Module:
    torch.manual_seed(0)
    backbone = mobilenet_backbone(
        backbone_name="mobilenet_v3_large", weights=None, fpn=True, norm_layer=nn.BatchNorm2d, trainable_layers=6
    )
    limits = dict(rpn_post_nms_top_n_train=8, rpn_post_nms_top_n_test=4, box_batch_size_per_image=8)
    anchors = AnchorGenerator(((16,), (32,), (64,)), ((1.0,),) * 3)
    sizes = dict(min_size=SIZE, max_size=SIZE, rpn_anchor_generator=anchors)
    return FasterRCNN(backbone, num_classes=3, **sizes, **limits)


def a_segmenter(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    build = getattr(torchvision.models.segmentation, name)
    return build(weights=None, weights_backbone=None, num_classes=4, **options)


def some_images() -> Tensor:
    return torch.rand(2, 3, SIZE, SIZE, generator=source(1))


def pruned(part: nn.Module, parameters: Any, loss: Callable[[], Tensor], keep: int) -> ConcurrentPruner:
    """A short training that ends with so many removable sections."""
    optimizer = torch.optim.SGD(parameters, lr=1e-4)
    sections = find_sections(part, some_images())
    options = dict(target_depth=keep, total_steps=STEPS, warmup_steps=1, check_interval=1, consolidate_at=1.0)
    pruner = ConcurrentPruner(part, sections, optimizer, **options)
    for _ in range(STEPS):
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    assert len(pruner.removed) == len(sections.removable) - keep > 0
    return pruner


def shapes(features: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(each.shape) for name, each in features.items()}


def test_a_detectors_pyramid_keeps_its_maps_and_the_detector_works_on() -> None:
    model, x = a_detector(), some_images()
    boxes = torch.tensor([[8.0, 8, 40, 40]])
    targets = [{"boxes": boxes, "labels": torch.tensor([1])} for _ in x]
    maps = shapes(model.backbone.eval()(x))
    pruner = pruned(model.backbone, model.parameters(), lambda: sum(model.train()(list(x), targets).values()), keep=4)
    assert not any("fpn" in name for name in pruner.removed)
    features, plain = model.backbone.eval()(x), pruner.export().eval()(x)
    assert shapes(plain) == maps and len(maps) == 3
    assert all(torch.equal(plain[name], each) for name, each in features.items())
    model.backbone = pruner.export()
    assert [set(told) for told in model.eval()(list(x))] == [{"boxes", "labels", "scores"}] * 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("lraspp_mobilenet_v3_large", {}, id="lraspp"),
        pytest.param("deeplabv3_mobilenet_v3_large", {"aux_loss": True}, id="deeplab", marks=pytest.mark.long),
    ],
)
def test_a_segmenter_is_pruned_as_a_whole_with_all_its_outputs(name: str, options: dict) -> None:
    model, x = a_segmenter(name, **options), some_images()
    before = shapes(model.eval()(x))
    pruner = pruned(model, model.parameters(), lambda: sum(each.mean() for each in model.train()(x).values()), keep=3)
    outputs, plain = model.eval()(x), pruner.export().eval()(x)
    assert shapes(plain) == before and set(before) == ({"out", "aux"} if options else {"out"})
    assert all(torch.equal(plain[name], each) for name, each in outputs.items())
    after = pruner.report().frame["after"]
    assert after["sections"] == len(find_sections(pruner.export(), x)) and after["depth, weight layers"] > 3
