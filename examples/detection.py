"""A detector's backbone, pruned while Faster R-CNN trains on generated boxes: nothing is downloaded.

Sections are found in the part that is pruned, `model.backbone`. The feature maps that it returns stay what they are.
"""

import copy

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import box_iou

import layerprune

SIZE, BATCH, STEPS = 64, 8, 60


def scenes(count: int, source: torch.Generator) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Noise [3, SIZE, SIZE] with one bright rectangle, red (class 1) or blue (class 2)."""
    images, targets = [], []
    for _ in range(count):
        width, height = torch.randint(20, 36, (2,), generator=source).tolist()
        left, top = torch.randint(0, SIZE - 36, (2,), generator=source).tolist()
        colour = int(torch.randint(0, 2, (), generator=source))
        image = 0.3 * torch.rand(3, SIZE, SIZE, generator=source)
        image[2 * colour, top : top + height, left : left + width] += 0.7
        images.append(image)
        box = torch.tensor([[left, top, left + width, top + height]], dtype=torch.float32)
        targets.append({"boxes": box, "labels": torch.tensor([1 + colour])})
    return images, targets


@torch.no_grad()
def found(model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]]) -> float:
    """Share of boxes whose best prediction has the right class and overlaps by half."""
    hits = 0
    for told, target in zip(model.eval()(images), targets, strict=True):
        good = told["labels"][:1] == target["labels"]
        hits += bool((good & (box_iou(told["boxes"][:1], target["boxes"])[:, 0] > 0.5)).any())
    return hits / len(images)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, pruner=None) -> None:
    source = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        losses = model.train()(*scenes(BATCH, source))
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        for name in pruner.step() if pruner else []:
            print("removed", name)


torch.manual_seed(0)
test = scenes(40, torch.Generator().manual_seed(0))
backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5)
limits = dict(rpn_post_nms_top_n_train=50, rpn_post_nms_top_n_test=20, box_batch_size_per_image=32)
model = FasterRCNN(backbone, num_classes=3, min_size=SIZE, max_size=SIZE, **limits)
dense = copy.deepcopy(model)  # trained as long, with every section
train(dense, torch.optim.AdamW(dense.parameters(), lr=3e-4))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
sections = layerprune.find_sections(model.backbone, torch.zeros(BATCH, 3, SIZE, SIZE))
print(sections)
pruner = layerprune.ConcurrentPruner(
    model.backbone, sections, optimizer, total_steps=STEPS, target_depth=4, theta_lr=1.0, check_interval=5
)
train(model, optimizer, pruner)
model.backbone = pruner.export()
print(pruner.report())
print(f"boxes found: {100 * found(model, *test):.0f} %, by the dense detector {100 * found(dense, *test):.0f} %")
