"""Tar files read in place: nothing is unpacked, so no member can reach outside a folder."""

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from layerprune.errors import LayerpruneError


def members(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """Name and content of every file in a tar file, plain or compressed; None is the content of a folder.

    Raises LayerpruneError naming the file when it is damaged.
    """
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isdir() or member.isfile():
                    yield member.name, archive.extractfile(member).read() if member.isfile() else None
    except EOFError:
        raise LayerpruneError(f"{path}: truncated: the archive ends early") from None
    except (tarfile.TarError, zlib.error, OSError) as error:
        first_line = str(error).partition("\n")[0].rstrip(":")
        raise LayerpruneError(f"{path}: not a sound tar archive: {first_line}") from None
