"""ZIP archives of torch that nobody vouches for: what is read of one takes no more memory than the file is long."""

import zipfile


def stored_members(archive: zipfile.ZipFile, size: int) -> list[zipfile.ZipInfo]:
    """The members of an archive of `size` bytes, in its order.

    Raises ValueError for one that torch does not write: with a compressed member, with members that share their bytes,
    or with bytes before or behind the archive, where another reader might find another list of members.
    """
    members = archive.infolist()
    compressed = next((each for each in members if each.compress_type != zipfile.ZIP_STORED), None)
    if compressed is not None:
        raise ValueError(f"{_short(compressed.filename)} is compressed")
    if sum(each.file_size for each in members) > size:
        raise ValueError("its members share their bytes")
    if archive.comment or min((each.header_offset for each in members), default=0) > 0:
        raise ValueError("bytes before or behind the archive")
    return members


def _short(name: str) -> str:
    return repr(name if len(name) <= 60 else f"{name[:60]}...")
