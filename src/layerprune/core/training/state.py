"""Resume state: one file, written whole, from which training resumes bit for bit.

Its first line is the SHA-256 of the rest, so that a damaged file is refused instead of resumed.
"""

import time
from pathlib import Path
from typing import Any

from layerprune.core.networks.storage import tensors_as_bytes, tensors_from
from layerprune.errors import LayerpruneError
from layerprune.system import files
from layerprune.system.files import sha256


class StateFile:
    """State of one run. `identity` ties it to settings and code; state of another identity is not taken up.

    At most one write in `seconds` is due, so short epochs do not wait for the disk.
    """

    def __init__(self, path: Path | None, identity: str, seconds: float) -> None:
        self.path = path
        self.identity = identity
        self.seconds = seconds
        self.written = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """The stored state; None if there is none of this identity. Raises LayerpruneError for a damaged file."""
        if self.path is None or not self.path.exists():
            return None
        try:
            content = files.read_regular(self.path, files.LARGEST_WEIGHTS)
            stored = tensors_from(intact(content, self.path), self.path)
        except LayerpruneError as error:
            raise LayerpruneError(f"{error}; delete it to start this run over") from None
        if not isinstance(stored, dict) or not {"identity", "state"} <= stored.keys():
            raise LayerpruneError(f"{self.path}: not a state file; delete it to start this run over")
        return stored["state"] if stored["identity"] == self.identity else None

    def is_due(self) -> bool:
        """Whether it is time to write."""
        return self.path is not None and time.monotonic() - self.written >= self.seconds

    def write(self, state: dict[str, Any]) -> None:
        """Replace the stored state."""
        content = tensors_as_bytes({"identity": self.identity, "state": state})
        digest = sha256(content).encode() + b"\n"
        files.write_atomically(self.path, lambda stream: stream.write(digest + content))
        self.written = time.monotonic()

    def delete(self) -> None:
        """Remove the file once its run has a record."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def steps_done(path: Path) -> int:
    """Steps that a stored state has completed, whatever its identity; 0 if none can be read."""
    if not path.is_file():
        return 0
    try:
        content = files.read_regular(path, files.LARGEST_WEIGHTS)
        return tensors_from(intact(content, path), path)["state"]["progress"]["step"]
    except (LayerpruneError, KeyError, TypeError):
        return 0


def intact(stored: bytes, source: object) -> bytes:
    """The content of a state file behind its digest. Raises LayerpruneError if the two do not match."""
    digest, _, content = stored.partition(b"\n")
    if sha256(content).encode() != digest:
        raise LayerpruneError(f"{source}: damaged: its content does not fit its SHA-256")
    return content
