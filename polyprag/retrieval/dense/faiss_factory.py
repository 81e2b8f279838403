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
from typing import Any

import faiss

from polyprag.errors import ConfigError

AUTO = "auto"
_FLAT_BELOW = 100_000
_IVF_FLAT_BELOW = 500_000
_HNSW_FROM = 65_536  # lists from which a graph finds them: before, that costs recall and no less
_MAX_SUBVECTORS = 192
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
        ConfigError: FAISS doesn't know the string, or it doesn't fit `dims`.
    """
    try:
        return faiss.index_factory(dims, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ConfigError(
            f"index.factory={factory!r} can't be used for vectors of {dims} numbers: it must be "
            "auto or a FAISS factory string such as Flat or IVF4096,PQ64 "
            f"[{reason_of(error)}]"
        ) from error


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
