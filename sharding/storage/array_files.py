"""Files of arrays, written from the memory where they lie and read into memory that may be changed.

Each takes a handful of calls: after every one a thread waits for its turn among the others, and
training waits for it.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sharding.storage.files import atomic_write, open_url

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def write_buffers(
    url: str | Path, buffers: Sequence[bytes | memoryview], *, durable: bool = True
) -> None:
    """Writes a file, atomically, of what lies in several places.

    Args:
        url: the file.
        buffers: its bytes; of memoryviews, the format is "B".
        durable: as of `atomic_write`.

    Raises:
        FileError: as of `atomic_write`.
    """
    with atomic_write(url, durable=durable) as file:
        left = [view for buffer in buffers if len(view := memoryview(buffer))]
        while left:
            count = os.writev(file.fileno(), left)
            while left and count >= len(left[0]):
                count -= len(left.pop(0))
            if left:
                left[0] = left[0][count:]


def read_buffer(url: str | Path) -> Bytes:
    """Returns a file's bytes, uint8, in memory of their own.

    Raises:
        FileError: as of `open_url`.
    """
    with open_url(url) as file:
        buffer = np.empty(file.seek(0, os.SEEK_END), np.uint8)
        file.seek(0)
        return buffer[: file.readinto(buffer)]  # type: ignore[attr-defined]
