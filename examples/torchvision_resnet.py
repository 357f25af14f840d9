"""torchvision's ResNet-18, asked for five of its eight sections."""

import torch
import torchvision
from _digits import STEPS_PER_EPOCH, images, report, train

import layerprune

torch.manual_seed(0)
(x, y), test = images("train", colours=3), images("test", colours=3)
model, epochs = torchvision.models.resnet18(num_classes=10), 4
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
sections = layerprune.find_sections(model, x[:2])
print(sections)
report("untrained", model, len(sections), sections.macs, *test)
pruner = layerprune.ConcurrentPruner(
    model, sections, optimizer, total_steps=epochs * STEPS_PER_EPOCH, target_depth=5, check_interval=10
)
train(pruner, x, y, epochs)
smaller = pruner.export()
left = layerprune.find_sections(smaller, x[:2])
report("pruned", smaller, len(left), left.macs, *test)
