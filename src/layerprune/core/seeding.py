"""Named random generators: one name, one stream.

Initialisation, order, augmentation and gates draw from streams of their own, so runs of different methods with
one seed start from the same weights and see the same batches. Streams are re-seeded from (name, seed, epoch)
at every epoch: resuming at an epoch's start needs no stored generator state.

No number depends on torch's global generator, which threads that make runs side by side share.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch


def stream_seed(name: str, seed: int, *parts: int) -> int:
    """A 63-bit seed for the stream `name`, independent of the streams of other names, seeds and parts."""
    text = "/".join([name, str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(name: str, seed: int, *parts: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of stream `name` for `seed` (and, for example, an epoch), on `device`."""
    return torch.Generator(device=device).manual_seed(stream_seed(name, seed, *parts))


_SOURCE: ContextVar[torch.Generator] = ContextVar("source")


@contextmanager
def drawing_from(source: torch.Generator) -> Iterator[None]:
    """Within this context `present` returns this generator, in this thread only."""
    token = _SOURCE.set(source)
    try:
        yield
    finally:
        _SOURCE.reset(token)


def present() -> torch.Generator:
    """The generator that scores draw from: their driver's, or else torch's global one."""
    return _SOURCE.get(torch.default_generator)
