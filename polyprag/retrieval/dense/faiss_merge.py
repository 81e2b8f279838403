"""Joins inverted files that were filled apart, on disk: memory holds one list of one of them.

FAISS keeps an inverted file's lists as the last block of its file: `ilar`, the number of lists, the
bytes of a code, `full`, the lists' sizes, then each list's codes and ids. The block is written here
list by list from files that are mapped, so millions of vectors are joined without loading them.
(FAISS's own merging on disk needs a second file and writes to standard output.) Fast-scan lists are
packed in blocks of vectors, which can't be joined: such an index is filled and joined as its twin
without fast scan and packed in the end, in memory, where a search needs it, too.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from polyprag.errors import RunError
from polyprag.retrieval.dense.faiss_factory import empty_index, inverted_file
from polyprag.retrieval.dense.faiss_file import read_file

_BLOCK, _FULL = b"ilar", b"full"


def is_joined_on_disk(index: Any) -> bool:
    """Returns whether `join_on_disk` can join files of an index like this one."""
    ivf = inverted_file(index)
    if ivf is None or _outermost(index) != ivf.this:
        return False
    return isinstance(faiss.downcast_InvertedLists(ivf.invlists), faiss.ArrayInvertedLists)


def plain_twin(dims: int, factory: str) -> Any | None:
    """Returns the index that is filled in place of a fast-scan one; None for all other kinds.

    Args:
        dims: D.
        factory: a FAISS factory string.
    """
    fast = empty_index(dims, factory)
    ivf = inverted_file(fast)
    if not isinstance(ivf, faiss.IndexIVFPQFastScan) or not factory.endswith(("x4fs", "x4fsr")):
        return None
    twin = empty_index(dims, factory.removesuffix("r").removesuffix("fs"))
    _inverted_file(twin).by_residual = ivf.by_residual
    return twin


def join_on_disk(target: Path, trained: Any, filled: Sequence[Path]) -> None:
    """Writes one index with the vectors of several.

    Args:
        target: the file to write.
        trained: the index without vectors that each of the others began as.
        filled: its copies with vectors, whose ids are used as they are.

    Raises:
        RunError: this FAISS keeps its files otherwise.
    """
    opened = [read_file(path, flags=faiss.IO_FLAG_MMAP) for path in filled]
    lists = [_inverted_file(index).invlists for index in opened]
    ivf = _inverted_file(trained)
    sizes = np.array(
        [sum(each.list_size(number) for each in lists) for number in range(ivf.nlist)], np.uint64
    )
    trained.ntotal = ivf.ntotal = sum(index.ntotal for index in opened)
    try:
        empty = faiss.serialize_index(trained).tobytes()
    finally:
        trained.ntotal = ivf.ntotal = 0
    sized = _BLOCK + struct.pack("<QQ", ivf.nlist, ivf.code_size)
    head, found, rest = empty.rpartition(sized)
    if not found or rest != b"sprs" + bytes(8):
        raise RunError(
            f"{target}: the installed FAISS writes inverted files in another way; choose another "
            "index.factory, such as Flat, or another release of faiss"
        )
    with open(target, "wb") as file:
        file.write(head + sized + _FULL + struct.pack("<Q", ivf.nlist))
        file.write(sizes.tobytes())
        for number in range(ivf.nlist):
            having = [(each, each.list_size(number)) for each in lists if each.list_size(number)]
            for each, size in having:
                codes = each.get_codes(number)
                file.write(faiss.rev_swig_ptr(codes, size * ivf.code_size).tobytes())
            for each, size in having:
                file.write(faiss.rev_swig_ptr(each.get_ids(number), size).tobytes())


def pack_codes(path: Path) -> None:
    """Turns a file of a `plain_twin` into one of its fast-scan index; holds that in memory."""
    plain = read_file(path, flags=faiss.IO_FLAG_MMAP)
    packed: Any = faiss.IndexIVFPQFastScan(_inverted_file(plain))
    outer: Any = faiss.downcast_index(plain)
    if isinstance(outer, faiss.IndexPreTransform):
        transforms: Any = outer.chain
        chain = [transforms.at(i) for i in range(transforms.size())]
        packed = faiss.IndexPreTransform(packed)
        for transform in reversed(chain):
            packed.prepend_transform(transform)
    temporary = path.with_name(f"{path.name}.packed")
    faiss.write_index(packed, str(temporary))
    temporary.replace(path)


def _inverted_file(index: Any) -> Any:
    ivf = inverted_file(index)
    if ivf is None:
        raise ValueError("not an inverted file")
    return ivf


def _outermost(index: Any) -> Any:
    """Returns the address of what holds an index's vectors, inside its rotations, to compare it."""
    inner: Any = faiss.downcast_index(index)
    while isinstance(inner, faiss.IndexPreTransform):
        inner = faiss.downcast_index(inner.index)
    return inner.this
