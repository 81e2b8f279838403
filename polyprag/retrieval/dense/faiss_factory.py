"""Which FAISS index suits so many vectors: the rule behind `index.factory=auto`, and empty indexes.

- Below 100,000 vectors Flat: exact.
- Below 500,000 an inverted file of fp16 vectors: nearly exact, and mapped from disk.
- From there OPQ, an inverted file and 4-bit product quantisation of what a vector has beside its
  list's centroid (fast scan), two numbers a code: D / 4 + 8 bytes a vector in memory, at most 104.
  Hits are scored again by the fp16 embeddings, which stay on disk.

An inverted file has 4 sqrt(N) lists, rounded to a power of two (FAISS's guidelines). GPUs know no
fast scan: there the third has 8-bit codes of four numbers.
"""

import math
import re
from typing import Any

import faiss

from polyprag.errors import ConfigError

AUTO = "auto"
_FLAT_BELOW = 100_000
_IVF_FLAT_BELOW = 500_000
_HNSW_FROM = 65_536  # lists from which a graph finds them: before, that costs recall and no less
_MAX_SUBVECTORS = 192
# FAISS takes these and fails later, HNSW0 by ending the process.
_UNUSABLE = re.compile(r"IDMap2?|(?:HNSW|NSG)0*[01](?!\d)|IVF0+(?!\d)")
_UNKNOWN = "could not parse"
_ANY_DIMS = 6720  # that many numbers divide
_NSG_NEEDS = 101  # vectors, for a graph that FAISS builds it from
_GPU_SUBVECTORS = (96, 64, 56, 48, 40, 32, 28, 24, 20, 16, 12, 8, 4, 3, 2, 1)  # that kernels know


def factory_for(num_vectors: int, dims: int, *, gpu: bool = False) -> str:
    """Returns the factory string that the rule chooses.

    Args:
        num_vectors: how many there will be.
        dims: D, their length.
        gpu: whether the index will be searched on GPUs.
    """
    if num_vectors < _FLAT_BELOW:
        return "Flat"
    lists = 2 ** round(math.log2(4 * math.sqrt(num_vectors)))
    if num_vectors < _IVF_FLAT_BELOW:
        return f"IVF{lists},SQfp16"
    if dims < 4:
        return f"IVF{lists},SQfp16"
    if gpu:
        subvectors = next(number for number in _GPU_SUBVECTORS if 4 * number <= dims)
        return f"OPQ{subvectors}_{2 * subvectors},IVF{lists},PQ{subvectors}"
    subvectors = min(_MAX_SUBVECTORS, dims // 2)
    rotated = dims // subvectors * subvectors
    graph = "_HNSW32" if lists >= _HNSW_FROM else ""
    return f"OPQ{subvectors}_{rotated},IVF{lists}{graph},PQ{subvectors}x4fsr"


def empty_index(dims: int, factory: str) -> Any:
    """Returns an empty FAISS index by inner product.

    Args:
        dims: length of the vectors.
        factory: a FAISS factory string such as `Flat` or `IVF4096,PQ64`.

    Raises:
        ConfigError: FAISS doesn't know the string, or it doesn't fit `dims`, or FAISS makes an
            index of it that can't be filled or searched.
    """
    unusable = _UNUSABLE.search(factory)
    if unusable is not None:
        raise ConfigError(
            f"index.factory={factory!r} can't be used for its {unusable[0]!r}: passages are "
            "numbered without IDMap, and lists and links must be more than none; take auto, Flat, "
            "HNSW32 or IVF4096,PQ64, for instance"
        )
    try:
        return faiss.index_factory(dims, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        reason = reason_of(error)
        fitting = "" if _UNKNOWN in reason else f" for vectors of {dims} numbers"
        raise ConfigError(
            f"index.factory={factory!r} can't be used{fitting}: it must be auto or a FAISS factory "
            f"string such as Flat or IVF4096,PQ64 [{reason}]"
        ) from error


def check_factory(factory: str, *, dims: int | None, num_vectors: int) -> None:
    """Refuses a factory string that can't be used, before anything is encoded.

    Args:
        factory: `index.factory`.
        dims: length of the vectors; None where it isn't known yet.
        num_vectors: how many there will be.

    Raises:
        ConfigError: FAISS doesn't know it, or it needs more vectors.
    """
    if factory == AUTO:
        return
    try:
        index = empty_index(dims or _ANY_DIMS, factory)
    except ConfigError as error:
        if dims is None and _UNUSABLE.search(factory) is None and _UNKNOWN not in str(error):
            return  # it may fit the vectors that will come
        raise
    needed = _vectors_needed(index)
    if num_vectors < needed:
        raise ConfigError(
            f"index.factory={factory!r} can't be used for {num_vectors:,} passages: it needs "
            f"{needed:,} at least; take a smaller one, or auto or Flat, which need none"
        )


def _vectors_needed(index: Any) -> int:
    """Returns the fewest vectors that FAISS can train or fill an index with."""
    stored: Any = faiss.downcast_index(index)
    while isinstance(stored, faiss.IndexPreTransform | faiss.IndexRefine):
        inner = stored.index if isinstance(stored, faiss.IndexPreTransform) else stored.base_index
        stored = faiss.downcast_index(inner)
    needed = [0, getattr(stored, "nlist", 0)]
    if isinstance(stored, faiss.IndexNSG):
        needed.append(_NSG_NEEDS)
    codes = getattr(stored, "pq", None)
    if isinstance(codes, faiss.ProductQuantizer):
        needed.append(codes.ksub)
    return int(max(needed))


def inverted_file(index: Any) -> Any | None:
    """Returns the inverted file inside an index; None where there is none."""
    ivf = faiss.try_extract_index_ivf(index)
    return None if ivf is None else faiss.downcast_index(ivf)


def can_train(index: Any, num_vectors: int) -> bool:
    """Returns whether so many vectors are enough for FAISS to find lists with."""
    ivf = inverted_file(index)
    return ivf is None or num_vectors >= ivf.nlist * ivf.cp.min_points_per_centroid


def is_lossy(index: Any) -> bool:
    """Returns whether an index holds so little of a vector that hits should be scored again."""
    stored = faiss.downcast_index(index)
    if isinstance(stored, faiss.IndexRefine):
        return False
    stored = inverted_file(stored) or stored
    if isinstance(stored, faiss.IndexPreTransform):
        stored = faiss.downcast_index(stored.index)
    code_size: int = getattr(stored, "code_size", 0)  # 1 byte a number is as good as exact
    return bool(0 < code_size < index.d)


def reason_of(error: RuntimeError) -> str:
    """Returns what went wrong, without FAISS's C++ signature."""
    return str(error).split("Error: ")[-1].split(": ", 1)[-1].strip()[:200]
