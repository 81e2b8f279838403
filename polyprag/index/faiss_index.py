"""A FAISS index of unit vectors by inner product; on the GPUs where there are any.

The index on disk is always a CPU index, so it can be built and searched on different machines. It
is mapped, not read. On a machine with GPUs it is sharded over all of them when it is opened, and
the k-means of an IVF index runs there when it is trained.
"""

import contextlib
import logging
import math
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
import numpy.typing as npt

from polyprag.errors import ConfigError, RunError
from polyprag.index.fusion import Ranking, ranking_of

_FILE = "vectors.faiss"
_POSITIONS = "positions.npy"  # of the vectors' passages, where not every passage has a vector
_GPU_MAX_K = 2048  # the kernels' limit
_NO_POSITIONS: npt.NDArray[np.int64] = np.zeros(0, np.int64)
_logger = logging.getLogger(__name__)


def gpus_wanted(gpu: str) -> bool:
    """Whether `index.gpu` and the machine make GPUs available; never with faiss-cpu."""
    return gpu == "auto" and faiss.get_num_gpus() > 0


def empty_index(dims: int, factory: str) -> Any:
    """An empty FAISS index.

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
            f"index.factory={factory!r} can't be used for vectors of {dims} numbers: it must be a "
            f"FAISS factory string such as Flat or IVF4096,PQ64 [{_reason(error)}]"
        ) from error


def write_vectors(
    directory: Path,
    index: Any,
    *,
    sample: npt.NDArray[np.float32] | None,
    vectors: Iterable[npt.NDArray[np.float32]],
    positions: npt.NDArray[np.int64] | None = None,
    factory: str,
    gpu: str,
) -> None:
    """Trains an empty index where it needs it, fills it and writes it.

    Args:
        directory: an existing directory.
        index: from `empty_index`.
        sample: (n, D) vectors to train on; None if `index.is_trained`.
        vectors: chunks (n, D) in the order of the ids.
        positions: ascending, of the passages that the vectors are of; None where they are of all.
        factory: for the error.
        gpu: `index.gpu`.

    Raises:
        ConfigError: there are too few passages for this factory string.
    """
    if sample is not None:
        try:
            _train(index, sample, gpu=gpu)
        except RuntimeError as error:
            raise ConfigError(
                f"index.factory={factory!r} can't be trained on {len(sample)} passages: take a "
                f"smaller one, or Flat, which needs no training [{_reason(error)}]"
            ) from error
    for chunk in vectors:
        index.add(chunk)
    faiss.write_index(index, str(directory / _FILE))
    if positions is not None:
        np.save(directory / _POSITIONS, positions, allow_pickle=False)


def can_train(index: Any, num_vectors: int) -> bool:
    """Whether FAISS would be content with so many vectors to find an inverted file's lists with."""
    ivf = _ivf(index)
    return ivf is None or num_vectors >= ivf.nlist * ivf.cp.min_points_per_centroid


def _train(index: Any, sample: npt.NDArray[np.float32], *, gpu: str) -> None:
    ivf = _ivf(index)
    if ivf is None or not gpus_wanted(gpu):
        index.train(sample)
        return
    on_gpus = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(ivf.d))
    ivf.clustering_index = on_gpus  # FAISS doesn't own it: it must outlive the training
    try:
        index.train(sample)
    finally:
        ivf.clustering_index = None


def _ivf(index: Any) -> Any | None:
    """The inverted file inside an index; None where there is none."""
    ivf = faiss.try_extract_index_ivf(index)
    return None if ivf is None else faiss.downcast_index(ivf)


class VectorIndex:
    """An opened index."""

    def __init__(
        self, index: Any, *, on_gpu: bool, positions: npt.NDArray[np.int64] | None = None
    ) -> None:
        """Wraps a FAISS index; `open` reads one."""
        self._index, self._on_gpu, self._positions = index, on_gpu, positions
        # GPU indexes share scratch memory and aren't thread-safe; CPU ones are.
        self._guard: contextlib.AbstractContextManager[Any] = (
            threading.Lock() if on_gpu else contextlib.nullcontext()
        )

    @classmethod
    def open(cls, directory: Path, *, num_passages: int, dims: int, gpu: str) -> Self:
        """Maps what `write_vectors` wrote and moves it to the GPUs where there are any.

        Raises:
            RunError: it is damaged, or of other passages or vectors.
        """
        path = directory / _FILE
        positions = _read_positions(directory / _POSITIONS, num_passages=num_passages)
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise RunError(
                f"{path}: not a readable FAISS index; run `polyprag index RUN` again "
                f"[{_reason(error)}]"
            ) from error
        expected = num_passages if positions is None else len(positions)
        if (index.ntotal, index.d) != (expected, dims):
            raise RunError(
                f"{path}: {index.ntotal} vectors of {index.d} numbers where {expected} of "
                f"{dims} are expected; run `polyprag index RUN` again"
            )
        ivf = _ivf(index)
        if ivf is not None:  # FAISS's default of one list finds little
            ivf.nprobe = max(1, round(math.sqrt(ivf.nlist)))
        placed, on_gpu = _on_gpus(index) if gpus_wanted(gpu) else (index, False)
        return cls(placed, on_gpu=on_gpu, positions=positions)

    def search(
        self,
        queries: npt.NDArray[np.float32],
        *,
        k: int,
        without: npt.NDArray[np.int64] = _NO_POSITIONS,
    ) -> list[Ranking]:
        """The best k passages of each query, by their positions; none for a zero vector.

        Args:
            queries: (n, D) float32 unit or zero vectors.
            k: at least 1; fewer passages are returned where the index has or finds fewer.
            without: positions of passages that aren't found. (FAISS's own selectors don't work on
                GPUs, so as many more are asked for.)

        Raises:
            ConfigError: k is above what GPUs can select.
        """
        k = min(k, self._index.ntotal)
        if self._on_gpu and k > _GPU_MAX_K:
            raise ConfigError(
                f"a GPU index returns at most {_GPU_MAX_K} passages and {k} were asked for; ask "
                "for fewer or set index.gpu=never"
            )
        if k == 0:
            nothing = ranking_of([], [], k=0)
            return [nothing] * len(queries)
        asked = min(k + len(without), self._index.ntotal)
        if self._on_gpu:
            asked = min(asked, _GPU_MAX_K)
        with self._guard:
            scores_nk, ids_nk = self._index.search(queries, asked)
        found_nk = (ids_nk >= 0) & np.any(queries, axis=1)[:, None]
        if self._positions is not None:
            ids_nk = self._positions[ids_nk]
        if len(without):
            found_nk &= ~np.isin(ids_nk, without)
        return [
            ranking_of(ids[found], scores[found], k=k)
            for ids, scores, found in zip(ids_nk, scores_nk, found_nk, strict=True)
        ]


def _read_positions(path: Path, *, num_passages: int) -> npt.NDArray[np.int64] | None:
    if not path.exists():
        return None
    try:
        positions: npt.NDArray[np.int64] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RunError(f"{path}: {error}; run `polyprag index RUN` again") from error
    bounded = np.concatenate([[-1], positions.ravel(), [num_passages]])
    if positions.dtype != np.int64 or not np.all(np.diff(bounded) > 0):
        raise RunError(
            f"{path}: not the positions of {num_passages} passages or fewer; run `polyprag index "
            "RUN` again"
        )
    return positions


def _on_gpus(index: Any) -> tuple[Any, bool]:
    """The index sharded over all GPUs, or itself where FAISS has no GPU version of its kind."""
    options = faiss.GpuMultipleClonerOptions()
    options.shard = True
    try:
        return faiss.index_cpu_to_all_gpus(index, co=options), True
    except RuntimeError as error:
        _logger.warning("this FAISS index stays on the CPU: %s", _reason(error))
        return index, False


def _reason(error: RuntimeError) -> str:
    """What went wrong, without FAISS's C++ signature."""
    return str(error).split("Error: ")[-1].split(": ", 1)[-1].strip()[:200]
