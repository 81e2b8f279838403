"""Which FAISS index suits so many vectors: the rule behind `index.factory=auto`, and empty indexes.

- Below 100,000 vectors Flat: exact.
- Below 2,000,000 an inverted file of fp16 vectors: nearly exact, and mapped from disk.
- From there OPQ, an inverted file and 4-bit product quantisation (fast scan): about D / 8 bytes and
  an id a vector in memory. Hits are scored again by the fp16 embeddings, which stay on disk.

An inverted file has 4 sqrt(N) lists, rounded to a power of two (FAISS's guidelines). GPUs know no
fast scan: there the third has 8-bit codes.
"""

import math
from typing import Any

import faiss

from polyprag.errors import ConfigError

AUTO = "auto"
_FLAT_BELOW = 100_000
_IVF_FLAT_BELOW = 2_000_000
_HNSW_FROM = 16_384  # lists whose centroids are themselves searched by a graph
_MAX_SUBVECTORS = 96


def factory_for(num_vectors: int, dims: int, *, gpu: bool = False) -> str:
    """The factory string that the rule chooses.

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
    subvectors = min(_MAX_SUBVECTORS, dims // 4)
    if subvectors < 1:
        return f"IVF{lists},SQfp16"
    graph = "_HNSW32" if lists >= _HNSW_FROM and not gpu else ""
    codes = f"PQ{subvectors}" if gpu else f"PQ{subvectors}x4fs"
    rotated = min(2 * subvectors, dims // subvectors * subvectors)
    return f"OPQ{subvectors}_{rotated},IVF{lists}{graph},{codes}"


def empty_index(dims: int, factory: str) -> Any:
    """An empty FAISS index by inner product.

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
    """The inverted file inside an index; None where there is none."""
    ivf = faiss.try_extract_index_ivf(index)
    return None if ivf is None else faiss.downcast_index(ivf)


def can_train(index: Any, num_vectors: int) -> bool:
    """Whether FAISS would be content with so many vectors to find an inverted file's lists with."""
    ivf = inverted_file(index)
    return ivf is None or num_vectors >= ivf.nlist * ivf.cp.min_points_per_centroid


def is_lossy(index: Any) -> bool:
    """Whether an index holds so little of each vector that its hits should be scored again."""
    stored = faiss.downcast_index(index)
    if isinstance(stored, faiss.IndexRefine):
        return False
    stored = inverted_file(stored) or stored
    if isinstance(stored, faiss.IndexPreTransform):
        stored = faiss.downcast_index(stored.index)
    code_size: int = getattr(stored, "code_size", 0)  # 1 byte a number is as good as exact
    return bool(0 < code_size < index.d)


def reason_of(error: RuntimeError) -> str:
    """What went wrong, without FAISS's C++ signature."""
    return str(error).split("Error: ")[-1].split(": ", 1)[-1].strip()[:200]
