"""Reads FAISS's files, which may come from elsewhere: one that is damaged is an error in a line."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss

from polyprag.errors import RunError
from polyprag.retrieval.dense.faiss_factory import reason_of
from polyprag.retrieval.remedy import REMEDY
from sharding.storage.local import open_regular

_TABLE_BYTES = 1 << 32  # FAISS makes tables of up to half of it when it reads a lossy index
_reading = threading.Lock()


def read_file(path: Path, *, flags: int = 0) -> Any:
    """Reads a FAISS index, which may come from elsewhere, or maps it.

    From 1.15 on FAISS holds graphs, lists and codes against each other, and takes no more memory
    for a vector than the file has bytes, or 4 GiB.

    Args:
        path: of the file.
        flags: FAISS's; 0 reads it into memory.

    Raises:
        RunError: it is damaged, or names another file.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
        with _no_vector_longer_than(size):
            index = faiss.read_index(str(path), flags | faiss.IO_FLAG_READ_ONLY)
    except (OSError, RuntimeError, MemoryError) as error:
        reason = reason_of(error) if isinstance(error, RuntimeError) else str(error)
        raise RunError(f"{path}: not a readable FAISS index; {REMEDY} [{reason}]") from error
    if any(_lists_elsewhere(part) for part in _with_inner(index)):
        raise RunError(f"{path}: its lists are in another file; {REMEDY}")
    return index


def _with_inner(index: Any) -> Iterator[Any]:
    """Yields an index and those that it is made of."""
    whole = faiss.downcast_index(index)
    yield whole
    for name in ("index", "base_index", "refine_index", "quantizer"):
        inner = getattr(whole, name, None)
        if isinstance(inner, faiss.Index):
            yield from _with_inner(inner)


def _lists_elsewhere(index: Any) -> bool:
    """Returns whether an index's lists are in another file; ones mapped from its own name none."""
    lists: Any = getattr(index, "invlists", None)
    if lists is None:
        return False
    lists = faiss.downcast_InvertedLists(lists)
    return isinstance(lists, faiss.OnDiskInvertedLists) and bool(lists.filename)


@contextlib.contextmanager
def _no_vector_longer_than(num_bytes: int) -> Iterator[None]:
    """Has FAISS take hardly more memory for a vector; its limit is the whole process's."""
    if not hasattr(faiss, "set_deserialization_vector_byte_limit"):
        yield
        return
    with _reading:
        before = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(max(num_bytes, _TABLE_BYTES))
        try:
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(before)
