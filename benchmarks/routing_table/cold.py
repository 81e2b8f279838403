"""Files as they are when memory can't hold them."""

import os
from pathlib import Path


def forget(path: str | Path) -> None:
    """Drops a file's pages from memory, so that what is read comes from the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
