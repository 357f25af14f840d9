"""timm's RegNetY, pruned to six tenths of its multiply-adds while it trains (pip install timm)."""

import copy

import timm
import torch
from _digits import STEPS_PER_EPOCH, images, report, train

import layerprune

torch.manual_seed(0)
(x, y), test = images("train"), images("test")
model, epochs = timm.create_model("regnety_002", in_chans=1, num_classes=10), 12
settings = dict(lr=2e-3, weight_decay=1e-2)
optimizer = torch.optim.AdamW(model.parameters(), **settings)
sections = layerprune.find_sections(model, x[:2])
print(sections)
report("untrained", model, len(sections), sections.macs, *test)
dense = copy.deepcopy(model)
train(dense, torch.optim.AdamW(dense.parameters(), **settings), x, y, epochs)
report("dense", dense, len(sections), sections.macs, *test)
pruner = layerprune.ConcurrentPruner(
    model, sections, optimizer, total_steps=epochs * STEPS_PER_EPOCH, target_macs=0.6, theta_lr=0.1, check_interval=10
)
train(model, optimizer, x, y, epochs, pruner)
smaller = pruner.export()
left = layerprune.find_sections(smaller, x[:2])
report("pruned", smaller, len(left), left.macs, *test)
