"""From an image file to a uint8 picture of the size that networks take (torchvision.transforms.v2).

For training a random part, 8 to 100 % of the area and 3:4 to 4:3 wide, scaled to the size and mirrored half of the
time; for evaluation the centre, after the shorter side was scaled to 8/7 of the size (256 for 224). Both as in
torchvision's reference recipe. Grey and CMYK images become colour.

Pillow decodes and scales, as in that recipe, or torchvision itself on tensors, which takes less time and comes out the
same but for rounding; Pillow also tries whatever torchvision cannot decode.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional

AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be decoded, and why, in one line."""

    reason: str


@dataclass(frozen=True)
class TrainingView:
    """Content and a key -> uint8 [3, size, size]; the same key draws the same view in whatever process."""

    size: int
    decoder: str = "pil"

    def __call__(self, content: bytes, key: int) -> Tensor | Unreadable:
        image = DECODERS[self.decoder](content)
        if isinstance(image, Unreadable):
            return image
        with _drawing_from(key):
            top, left, height, width = RandomResizedCrop.get_params(image, AREA, ASPECT)
            mirrored = bool(torch.rand(1) < 0.5)
        view = functional.resized_crop(image, top, left, height, width, [self.size, self.size], antialias=True)
        return _as_tensor(functional.horizontal_flip(view) if mirrored else view)


@dataclass(frozen=True)
class EvaluationView:
    """Content -> uint8 [3, size, size]; nothing is drawn, whatever the key."""

    size: int
    decoder: str = "pil"

    def __call__(self, content: bytes, key: int = 0) -> Tensor | Unreadable:
        image = DECODERS[self.decoder](content)
        if isinstance(image, Unreadable):
            return image
        scaled = functional.resize(image, [self.size * 8 // 7], antialias=True)
        return _as_tensor(functional.center_crop(scaled, [self.size, self.size]))


warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # large images; larger ones are refused

DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What PIL raises for damaged files, and for more than 179 million pixels."""


def decode(content: bytes, size: int | None = None) -> Image.Image | Unreadable:
    """The image in RGB. With a `size`, one of other height or width is unreadable, and is not decoded."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            if size is not None and image.size != (size, size):
                return Unreadable(f"{image.height}x{image.width} pixels instead of {size}x{size}")
            return image.convert("RGB")
    except DAMAGE as error:
        return Unreadable("no image" if "BytesIO" in str(error) else " ".join(str(error).split()))


def _decode_to_tensor(content: bytes) -> Tensor | Unreadable:
    """The image as uint8 [3, H, W]."""
    try:
        Image.open(io.BytesIO(content)).close()  # its size alone, which torchvision would not refuse
        return decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.RGB)
    except (RuntimeError, *DAMAGE):  # torchvision's word for damage is RuntimeError
        image = decode(content)
        return image if isinstance(image, Unreadable) else functional.pil_to_tensor(image)


DECODERS: Mapping[str, Callable[[bytes], Image.Image | Tensor | Unreadable]] = {
    "pil": decode,
    "torchvision": _decode_to_tensor,
}


def _as_tensor(image: Image.Image | Tensor) -> Tensor:
    return image.contiguous() if isinstance(image, Tensor) else functional.pil_to_tensor(image)


@contextmanager
def _drawing_from(key: int) -> Iterator[None]:
    """Draw torch's global random numbers from this key; afterwards they continue as they would have.

    Not torch.manual_seed: it seeds every device, which takes longer than decoding a small image.
    """
    source = torch.default_generator
    before = source.get_state()
    source.manual_seed(key)
    try:
        yield
    finally:
        source.set_state(before)
