"""timm's RegNetY, pruned to six tenths of its multiply-adds while it trains (pip install timm)."""

import timm
import torch
from _digits import STEPS_PER_EPOCH, images, report, train

import layerprune

torch.manual_seed(0)
(x, y), test = images("train"), images("test")
model, epochs = timm.create_model("regnety_002", in_chans=1, num_classes=10), 12
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
sections = layerprune.find_sections(model, x[:2])
print(sections)
report("untrained", model, len(sections), sections.macs, *test)
pruner = layerprune.ConcurrentPruner(
    model, sections, optimizer, total_steps=epochs * STEPS_PER_EPOCH, target_macs=0.6, theta_lr=0.1, check_interval=10
)
train(pruner, x, y, epochs)
smaller = pruner.export()
left = layerprune.find_sections(smaller, x[:2])
report("pruned", smaller, len(left), left.macs, *test)
