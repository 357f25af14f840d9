"""A residual network that nobody registered, pruned to half of its multiply-adds while it trains."""

import copy

import torch
from _digits import STEPS_PER_EPOCH, images, report, train
from torch import nn

import layerprune


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.norm(self.second(torch.relu(self.first(x)))))


def network(blocks: int = 8, channels: int = 16) -> nn.Sequential:
    stem, head = nn.Conv2d(1, channels, 5, stride=4, padding=2), nn.Linear(channels, 10)
    return nn.Sequential(stem, *(Block(channels) for _ in range(blocks)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


torch.manual_seed(0)
(x, y), test = images("train"), images("test")
model, epochs = network(), 30
settings = dict(lr=0.05, momentum=0.9)
optimizer = torch.optim.SGD(model.parameters(), **settings)
sections = layerprune.find_sections(model, x[:2])
print(sections)
report("untrained", model, len(sections), sections.macs, *test)
dense = copy.deepcopy(model)
train(dense, torch.optim.SGD(dense.parameters(), **settings), x, y, epochs)
report("dense", dense, len(sections), sections.macs, *test)
pruner = layerprune.ConcurrentPruner(model, sections, optimizer, total_steps=epochs * STEPS_PER_EPOCH, target_macs=0.5)
train(model, optimizer, x, y, epochs, pruner)
smaller = pruner.export()
left = layerprune.find_sections(smaller, x[:2])
report("pruned", smaller, len(left), left.macs, *test)
