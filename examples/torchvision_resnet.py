"""torchvision's ResNet-18, asked for five of its eight sections."""

import copy

import torch
import torchvision
from _digits import STEPS_PER_EPOCH, images, report, train

import layerprune

torch.manual_seed(0)
(x, y), test = images("train", colours=3), images("test", colours=3)
model, epochs = torchvision.models.resnet18(num_classes=10), 4
settings = dict(lr=0.02, momentum=0.9, weight_decay=1e-4)
optimizer = torch.optim.SGD(model.parameters(), **settings)
sections = layerprune.find_sections(model, x[:2])
print(sections)
report("untrained", model, len(sections), sections.macs, *test)
dense = copy.deepcopy(model)
train(dense, torch.optim.SGD(dense.parameters(), **settings), x, y, epochs)
report("dense", dense, len(sections), sections.macs, *test)
pruner = layerprune.ConcurrentPruner(
    model, sections, optimizer, total_steps=epochs * STEPS_PER_EPOCH, target_depth=5, check_interval=10
)
train(model, optimizer, x, y, epochs, pruner)
smaller = pruner.export()
left = layerprune.find_sections(smaller, x[:2])
report("pruned", smaller, len(left), left.macs, *test)
