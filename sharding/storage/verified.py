"""The bytes of a file that a manifest names, if they have the size and SHA-256 that it says."""

import hashlib
from pathlib import Path

from sharding.errors import FileError
from sharding.storage.files import read_bytes, size_of


def read_verified(
    url: str | Path, *, sha256: str, num_bytes: int | None = None, remedy: str
) -> bytes:
    """Reads a file whole, and never much more than it should have, however long it has become.

    Args:
        url: a path or URL.
        sha256: what its SHA-256 is, in hex.
        num_bytes: and its size, if it is known.
        remedy: what to do where it is another; ends the error.

    Raises:
        FileError: the file can't be read, or isn't the one that was promised.
    """
    # One byte more than it should have shows that it is longer.
    data = read_bytes(url, length=None if num_bytes is None else num_bytes + 1)
    if num_bytes is not None and len(data) != num_bytes:
        raise FileError(
            f"{url}: holds {size_of(url)} bytes where the manifest says {num_bytes}; {remedy}"
        )
    if hashlib.sha256(data).hexdigest() != sha256:
        raise FileError(f"{url}: SHA-256 differs from the manifest's; {remedy}")
    return data
