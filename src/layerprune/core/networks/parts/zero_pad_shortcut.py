"""Option A of He et al. (CVPR 2016, arXiv 1512.03385, section 3.3): the parameter-free shortcut of a shape change."""

from torch import Tensor, nn


class ZeroPadShortcut(nn.Module):
    """Every `stride`-th pixel, between channels of 0: [B, C, H, W] -> [B, `channels`, H / stride, W / stride].

    `channels` must exceed C by an even number.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        each_side = (self.channels - x.shape[1]) // 2
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, each_side, each_side))

    def extra_repr(self) -> str:
        return f"{self.channels}, stride={self.stride}"
