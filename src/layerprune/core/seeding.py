"""Named random generators: one name, one stream.

Initialisation, order, augmentation and gates draw from streams of their own, so runs of different methods with
one seed start from the same weights and see the same batches. Streams are re-seeded from (name, seed, epoch)
at every epoch: resuming at an epoch's start needs no stored generator state.
"""

import hashlib

import torch


def stream_seed(name: str, seed: int, *parts: int) -> int:
    """A 63-bit seed for the stream `name`, independent of the streams of other names, seeds and parts."""
    text = "/".join([name, str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(name: str, seed: int, *parts: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of stream `name` for `seed` (and, for example, an epoch), on `device`."""
    return torch.Generator(device=device).manual_seed(stream_seed(name, seed, *parts))
