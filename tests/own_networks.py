"""Networks of somebody's own: blocks as people write them, and torchvision's."""

import torch
import torchvision
from networks import source
from torch import Tensor, nn
from torch.nn import functional


class Residual(nn.Module):
    """A block as people write them: the activation behind the addition, dropout as a function."""

    def __init__(self, width: int, rate: float = 0.1) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        out = functional.dropout(torch.relu(self.first(x)), self.rate, self.training)
        return torch.relu(x + self.second(out))


class Own(nn.Module):
    def __init__(self, blocks: int = 4, width: int = 32, classes: int = 10, rate: float = 0.1) -> None:
        super().__init__()
        self.stem = nn.Linear(28 * 28, width)
        self.blocks = nn.Sequential(*(Residual(width, rate) for _ in range(blocks)))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(torch.relu(self.stem(x.flatten(1)))))


def own(**options: float) -> Own:
    torch.manual_seed(0)
    return Own(**options)


EXAMPLE = torch.zeros(2, 1, 28, 28)


def torchvisions(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    if name == "vit_b_16":  # narrower: its 86 million weights take ten seconds
        narrow = {"hidden_dim": 48, "num_heads": 4, "mlp_dim": 96}
        model = torchvision.models.VisionTransformer(64, 16, num_layers=12, num_classes=5, **narrow)
    else:
        model = getattr(torchvision.models, name)(num_classes=5)
    return model, torch.randn(2, 3, 64, 64, generator=source(1))
