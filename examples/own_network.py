"""A residual network that nobody registered, trained on digits and pruned meanwhile: python examples/own_network.py"""

import time
from pathlib import Path

import torch
from torch import nn

import layerprune
from layerprune.data import digits
from layerprune.measure.counting import count_macs


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


def report(name: str, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    with torch.no_grad():
        accuracy = (model.eval()(x).argmax(1) == y).float().mean()
        began = time.perf_counter()
        for _ in range(50):
            model(x[:32])
    milliseconds = 20 * (time.perf_counter() - began)
    depth = sum(isinstance(part, nn.Conv2d | nn.Linear) for part in model.modules())
    macs = count_macs(model, x.shape[1:])
    print(f"{name:9} depth {depth:2}  {macs:9,} MACs  {100 * accuracy:.1f} %  {milliseconds:.2f} ms for 32 images")


torch.manual_seed(0)
data = digits.load(Path())  # embedded in the package
(x, y), (x_test, y_test) = ((split.images.float() / 255, split.labels) for split in (data.train, data.test))
model, epochs, size = network(), 30, 64
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
sections = layerprune.find_sections(model, x[:2])
print(sections)
report("untrained", model, x_test, y_test)
steps = epochs * -(-len(x) // size)
pruner = layerprune.ConcurrentPruner(model, sections, optimizer, total_steps=steps, target_macs=0.5)
for _ in range(epochs):
    model.train()
    for part in torch.randperm(len(x)).split(size):
        nn.functional.cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()
        optimizer.zero_grad()
        for name in pruner.step():
            print("removed", name)
report("pruned", pruner.export(), x_test, y_test)
