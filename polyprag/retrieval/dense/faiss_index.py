"""FAISS indexes by inner product: filled, written and searched; on GPUs where there are any.

An index on disk is always a CPU index, so it can be built and searched on different machines. It
is mapped, not read. On a machine with GPUs it is sharded over all of them when it is opened.
"""

import contextlib
import logging
import math
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
import numpy.typing as npt

from polyprag.errors import ConfigError, RunError
from polyprag.retrieval.dense.faiss_factory import inverted_file, is_lossy, reason_of
from polyprag.retrieval.dense.faiss_file import read_file
from polyprag.retrieval.remedy import REMEDY
from sharding.storage.array_files import map_array
from sharding.storage.files import read_json, write_json

FILE = "vectors.faiss"
_PLACE = "place.json"  # which of a segment's passages the vectors are of
_POSITIONS = "positions.npy"  # of the vectors' passages, where not every passage has a vector
_GPU_MAX_K = 2048  # the kernels' limit
_NO_POSITIONS: npt.NDArray[np.int64] = np.zeros(0, np.int64)
_logger = logging.getLogger(__name__)


def gpus_wanted(gpu: str) -> bool:
    """Returns whether `index.gpu` and the machine make GPUs available; never with faiss-cpu."""
    return gpu == "auto" and faiss.get_num_gpus() > 0


def write_index(directory: Path, index: Any) -> None:
    """Writes a FAISS index into an existing directory."""
    faiss.write_index(index, str(directory / FILE))


def read_index(directory: Path, *, flags: int = 0) -> Any:
    """Reads what `write_index` wrote; see `read_file`."""
    return read_file(directory / FILE, flags=flags)


def write_place(
    directory: Path, *, first: int, positions: npt.NDArray[np.int64] | None = None
) -> None:
    """Says which of a segment's passages the vectors of an index are of.

    Args:
        directory: where the index is.
        first: the position of the first vector's passage, where there are no positions.
        positions: ascending, of the passages that the vectors are of; None for consecutive ones.
    """
    write_json(directory / _PLACE, {"first": first})
    if positions is not None:
        np.save(directory / _POSITIONS, positions, allow_pickle=False)


def fill(
    index: Any, vectors: Iterable[npt.NDArray[np.float32]], ids: npt.NDArray[np.int64] | None
) -> None:
    """Adds vectors to an index.

    Args:
        index: a trained one.
        vectors: chunks (n, D).
        ids: of all of them, which an inverted file keeps; None numbers them.

    Raises:
        ConfigError: FAISS can't put them into an index of this kind.
    """
    done = 0
    for chunk in vectors:
        try:
            if ids is None:
                index.add(chunk)
            else:
                index.add_with_ids(chunk, ids[done : done + len(chunk)])
        except RuntimeError as error:
            raise ConfigError(
                f"index.factory can't be filled with {len(chunk):,} vectors: take another one, "
                f"such as auto or Flat [{reason_of(error)}]"
            ) from error
        done += len(chunk)


class VectorIndex:
    """An opened index.

    Attributes:
        is_lossy: whether it holds so little of each vector that hits should be scored again.
        num_vectors: how many it holds.
        max_hits: how many hits a search can give.
    """

    def __init__(
        self,
        index: Any,
        *,
        on_gpu: bool,
        is_lossy: bool = False,
        first: int = 0,
        positions: npt.NDArray[np.int64] | None = None,
        end: int | None = None,
        where: Path | None = None,
    ) -> None:
        """Wraps a FAISS index; `open` reads one."""
        self._where = where
        self._end = int(index.ntotal) if end is None else end  # of the ids that it may name
        self.is_lossy, self.num_vectors = is_lossy, int(index.ntotal)
        self.max_hits = min(self.num_vectors, _GPU_MAX_K) if on_gpu else self.num_vectors
        self._index, self._on_gpu, self._first, self._positions = index, on_gpu, first, positions
        # GPU indexes share scratch memory and aren't thread-safe; CPU ones are.
        self._guard: contextlib.AbstractContextManager[Any] = (
            threading.Lock() if on_gpu else contextlib.nullcontext()
        )

    @classmethod
    def open(
        cls, directory: Path, *, num_passages: int, dims: int, gpu: str, nprobe: int = 0
    ) -> Self:
        """Maps an index and moves it to the GPUs where there are any.

        Args:
            directory: where it and its place are.
            num_passages: of the segment.
            dims: length of the vectors.
            gpu: `index.gpu`.
            nprobe: lists of an inverted file that a search reads; 0 for the square root of their
                number or, where the index is lossy and a list is soon read, a 32nd of them.

        Raises:
            RunError: it is damaged, or of other passages or vectors.
        """
        path = directory / FILE
        place = read_json(directory / _PLACE)
        first = place.get("first") if isinstance(place, dict) else None
        if type(first) is not int or not 0 <= first <= num_passages:
            raise RunError(f"{directory / _PLACE}: not a place; {REMEDY}")
        positions = _read_positions(directory / _POSITIONS, num_passages=num_passages)
        index = read_index(directory, flags=faiss.IO_FLAG_MMAP_IFC)
        if index.d != dims or index.ntotal > num_passages:
            raise RunError(
                f"{path}: {index.ntotal} vectors of {index.d} numbers where {num_passages} of "
                f"{dims} are expected; {REMEDY}"
            )
        if positions is not None and len(positions) != index.ntotal:
            raise RunError(f"{path}: {index.ntotal} vectors of {len(positions)} passages; {REMEDY}")
        ivf, lossy = inverted_file(index), is_lossy(index)
        if ivf is not None:  # FAISS's default of one list finds little
            share = ivf.nlist // 32 if lossy else 0
            ivf.nprobe = min(nprobe or max(round(math.sqrt(ivf.nlist)), share), ivf.nlist)
            graph = getattr(faiss.downcast_index(ivf.quantizer), "hnsw", None)
            if graph is not None:  # it finds as many lists as it keeps in view
                graph.efSearch = max(graph.efSearch, ivf.nprobe)
        placed, on_gpu = _on_gpus(index) if gpus_wanted(gpu) else (index, False)
        if positions is None and first + index.ntotal > num_passages:
            raise RunError(f"{path}: {index.ntotal} vectors from passage {first} on; {REMEDY}")
        return cls(
            placed,
            on_gpu=on_gpu,
            is_lossy=lossy,
            first=first,
            positions=positions,
            end=num_passages - first if positions is None else len(positions),
            where=path,
        )

    def search(
        self, queries: npt.NDArray[np.float32], *, k: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Returns the best k passages of each query.

        Args:
            queries: (Q, D) float32.
            k: at least 1; fewer are returned where the index has fewer.

        Returns:
            Their positions in the segment (Q, k'), -1 where fewer were found, and their scores.

        Raises:
            ConfigError: k is above what GPUs can select.
            RunError: the index is damaged, or FAISS can't search it.
        """
        k = min(k, self.num_vectors)
        if self._on_gpu and k > _GPU_MAX_K:
            raise ConfigError(
                f"a GPU index returns at most {_GPU_MAX_K} passages and {k} were asked for; ask "
                "for fewer or set index.gpu=never"
            )
        if k == 0:
            return np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
        try:
            with self._guard:
                scores_Qk, ids_Qk = self._index.search(queries, k)
        except (RuntimeError, MemoryError) as error:
            reason = reason_of(error) if isinstance(error, RuntimeError) else "out of memory"
            raise RunError(f"{self._where}: can't be searched; {REMEDY} [{reason}]") from error
        if ids_Qk.max(initial=-1) >= self._end:  # an inverted file says what it likes
            raise RunError(f"{self._where}: names vector {ids_Qk.max()}; {REMEDY}")
        if self._positions is not None:
            ids_Qk = np.where(ids_Qk < 0, -1, self._positions[ids_Qk])
        elif self._first:
            ids_Qk = np.where(ids_Qk < 0, -1, ids_Qk + self._first)
        return ids_Qk, scores_Qk


def _read_positions(path: Path, *, num_passages: int) -> npt.NDArray[np.int64] | None:
    if not os.path.lexists(path):
        return None
    try:
        positions = map_array(path, dtypes=[np.int64], ndim=1).copy()
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: {error}; {REMEDY}") from error
    bounded = np.concatenate([[-1], positions, [num_passages]])
    if not np.all(bounded[1:] > bounded[:-1]):
        raise RunError(f"{path}: not the positions of {num_passages} passages or fewer; {REMEDY}")
    return positions


def gpu_cloning() -> Any:
    """Returns the options for moving an index to all GPUs: divided over them, by cuVS if there."""
    options = faiss.GpuMultipleClonerOptions()
    options.shard = True
    if "CUVS" in faiss.get_compile_options():
        options.use_cuvs = True
    return options


def _on_gpus(index: Any) -> tuple[Any, bool]:
    """Returns the index sharded over all GPUs, or itself where FAISS has none of its kind there."""
    try:
        return faiss.index_cpu_to_all_gpus(index, co=gpu_cloning()), True
    except RuntimeError as error:
        _logger.warning("this FAISS index stays on the CPU: %s", reason_of(error))
        return index, False
