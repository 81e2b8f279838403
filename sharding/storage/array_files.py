"""Files of arrays: written from memory, read into memory that may be changed, or mapped.

Writing and reading take a handful of calls: after every one a thread waits for its turn among the
others, and training waits for it. What is mapped may come from a stranger: a file is taken only if
it is what NumPy itself writes, and nothing in it is evaluated.
"""

import math
import mmap
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sharding.storage.files import atomic_write, open_url
from sharding.storage.local import open_regular

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

_MAX_HEADER = 4096
_ALIGNMENT = 16
_HEADER = re.compile(
    rb"\{'descr': '([<|][a-z]\d{1,2})', 'fortran_order': False, "
    rb"'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\), \} *\n"
)
_PREFIXES = {(1, 0): 2, (2, 0): 4, (3, 0): 4}  # bytes of the header's length, by version


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


def map_array(
    path: str | Path, *, dtypes: Sequence[npt.DTypeLike], ndim: int
) -> np.ndarray[Any, np.dtype[Any]]:
    """Returns a local .npy file as a read-only memory map; only what is used is read.

    A plain array, as the memmap class costs a call an access.

    Args:
        path: what `numpy.save` wrote.
        dtypes: one of which it must have.
        ndim: and so many dimensions.

    Raises:
        ValueError: it isn't such a file; says how.
        OSError: it can't be read.
    """
    memory = map_bytes(path)
    start, dtype, shape = _npy_header(memory[: _MAX_HEADER + 12].tobytes())
    if dtype not in [np.dtype(each) for each in dtypes] or len(shape) != ndim:
        wanted = " or ".join(str(np.dtype(each)) for each in dtypes)
        raise ValueError(f"{dtype} of shape {shape} where {wanted} of {ndim} dimensions is wanted")
    if start + math.prod(shape) * dtype.itemsize != len(memory):
        raise ValueError(f"{len(memory)} bytes where {dtype} of shape {shape} is promised")
    if not math.prod(shape):
        return np.zeros(shape, dtype)
    return memory[start:].view(dtype).reshape(shape)


def map_bytes(path: str | Path) -> Bytes:
    """Returns a local file's bytes as a read-only memory map; empty where it is.

    Raises:
        OSError: it can't be read, or is no file.
    """
    with open_regular(path) as file:
        length = os.fstat(file.fileno()).st_size
        if not length:
            return np.zeros(0, np.uint8)
        return np.frombuffer(mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ), np.uint8)


def _npy_header(data: bytes) -> tuple[int, np.dtype[Any], tuple[int, ...]]:
    """Returns where the numbers of a .npy file begin, their type and their shape."""
    prefix = _PREFIXES.get((data[6], data[7])) if data[:6] == b"\x93NUMPY" and data[7:] else None
    if prefix is None:
        raise ValueError("not a .npy file")
    start = 8 + prefix + int.from_bytes(data[8 : 8 + prefix], "little")
    found = _HEADER.fullmatch(data, 8 + prefix, start) if start <= len(data) else None
    if found is None or start % _ALIGNMENT:
        raise ValueError("not a .npy file of plain numbers in C order")
    try:
        dtype = np.dtype(found[1].decode())
    except TypeError as error:
        raise ValueError(f"no such type of numbers: {found[1].decode()}") from error
    return start, dtype, tuple(int(each) for each in found[2].split(b",") if each.strip())
