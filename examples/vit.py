"""A small vision transformer of torchvision's: attention and MLPs are sections of their own, and half of them leave."""

import copy

import torch
from _digits import STEPS_PER_EPOCH, images, report, train
from torchvision.models import VisionTransformer

import layerprune

torch.manual_seed(0)
(x, y), test = images("train", colours=3), images("test", colours=3)
model = VisionTransformer(
    image_size=28, patch_size=7, num_layers=6, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10
)
epochs = 20
settings = dict(lr=1e-3, weight_decay=1e-2)
optimizer = torch.optim.AdamW(model.parameters(), **settings)
sections = layerprune.find_sections(model, x[:2])
print(sections)
report("untrained", model, len(sections), sections.macs, *test)
dense = copy.deepcopy(model)
train(dense, torch.optim.AdamW(dense.parameters(), **settings), x, y, epochs)
report("dense", dense, len(sections), sections.macs, *test)
pruner = layerprune.ConcurrentPruner(
    model, sections, optimizer, total_steps=epochs * STEPS_PER_EPOCH, target_depth=6, drawn_share=0.5
)
train(model, optimizer, x, y, epochs, pruner)
smaller = pruner.export()
left = layerprune.find_sections(smaller, x[:2])
report("pruned", smaller, len(left), left.macs, *test)
