"""The passages' vectors as fp16 parts, one a group of partitions, memory-mapped.

They outlive the FAISS index that is made of them: another `index.factory` is built without encoding
anything again, and hits of an index that holds little of each vector are scored again by them.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from polyprag.errors import RunError
from polyprag.numba_kernels import in_threads
from polyprag.retrieval.encoders.interface import Encoder
from polyprag.retrieval.parts.fp16_rows import gather_fp16
from polyprag.retrieval.remedy import REMEDY
from sharding.storage.files import read_json, write_json

_FILE = "vectors.npy"
_NOTES = "notes.json"
_CHUNK = 4096  # passages encoded at a time
_A_THREAD = 1024  # candidates that are worth a thread: a tenth of a millisecond


def write_embeddings(
    directory: Path,
    titled_texts: Iterable[tuple[str, str] | None],
    encoder: Encoder,
    *,
    num_passages: int,
) -> None:
    """Encodes passages and writes their vectors.

    Args:
        directory: an existing, empty directory.
        titled_texts: (title, text) of each passage; None for a removed one, whose vector is zero.
        encoder: makes the vectors.
        num_passages: n.

    Raises:
        RunError: a vector isn't finite, or doesn't fit fp16.
    """
    vectors_nD = np.lib.format.open_memmap(
        directory / _FILE, mode="w+", dtype=np.float16, shape=(num_passages, encoder.dims)
    )
    done = 0
    without_vector: list[int] = []
    cut: list[int] = []
    remaining = iter(titled_texts)
    while chunk := list(islice(remaining, _CHUNK)):
        live = [(i, item) for i, item in enumerate(chunk, start=done) if item is not None]
        if live:
            made_mD = encoder.encode_passages([titled_text for _, titled_text in live])
            with np.errstate(over="ignore"):
                halved_mD = made_mD.astype(np.float16)
            finite_m = np.isfinite(halved_mD).all(axis=1)
            if not finite_m.all():
                _, (title, text) = live[int(finite_m.argmin())]
                raise RunError(
                    f"index.encoder gave {np.count_nonzero(~finite_m):,} of {len(live):,} passages "
                    "vectors with numbers that are infinite, undefined or above 65,504, such as "
                    f"{(title or text)[:40]!r}: it isn't fit for use, or set index.normalize=true"
                )
            positions = [position for position, _ in live]
            vectors_nD[positions] = halved_mD
            without_vector += [positions[i] for i in np.flatnonzero(~halved_mD.any(axis=1))]
            cut += [positions[i] for i in encoder.cut]
        done += len(chunk)
    vectors_nD.flush()
    write_json(directory / _NOTES, {"without_vector": without_vector, "cut": cut})


class EmbeddingNotes(msgspec.Struct, frozen=True):
    """Positions of a group's passages that there is something to say of.

    Attributes:
        without_vector: whose vector is zero, since the encoder knows nothing of them.
        cut: of which the encoder read the beginning only, since it takes no more.
    """

    without_vector: list[int] = []
    cut: list[int] = []


def read_notes(directory: Path) -> EmbeddingNotes:
    """Reads what `write_embeddings` wrote beside the vectors; nothing of earlier versions.

    Raises:
        RunError: it is damaged.
    """
    path = directory / _NOTES
    if not path.exists():
        return EmbeddingNotes()
    try:
        return msgspec.convert(read_json(path), EmbeddingNotes)
    except msgspec.ValidationError as error:
        raise RunError(f"{path}: {error}; {REMEDY}") from error


class Embeddings:
    """The opened parts of a segment as one (n, D) array.

    Attributes:
        dims: D.
    """

    def __init__(self, parts: Sequence[npt.NDArray[np.float16]]) -> None:
        """Takes mapped (n_i, D) arrays in the order of the passages; `open` maps them."""
        self._parts = tuple(parts)
        self._ends = list(accumulate(len(part) for part in parts))
        self._firsts = np.array([0, *self._ends[:-1]], np.int64)
        self._addresses = np.array([part.ctypes.data for part in parts], np.uintp)
        self.dims = int(parts[0].shape[1])

    @classmethod
    def open(cls, directories: Sequence[Path], *, num_passages: int) -> Self:
        """Maps what `write_embeddings` wrote for each group of a segment.

        Raises:
            RunError: a part is damaged, or they are of another number of passages.
        """
        parts = []
        for directory in directories:
            path = directory / _FILE
            try:
                part = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise RunError(f"{path}: {error}; {REMEDY}") from error
            if part.dtype != np.float16 or part.ndim != 2:
                raise RunError(f"{path}: {part.dtype} of shape {part.shape}; {REMEDY}")
            parts.append(np.asarray(part))
        opened = cls(parts)
        if len(opened) != num_passages or any(s.shape[1] != opened.dims for s in parts):
            raise RunError(
                f"{directories[0]}: the vectors of {len(opened)} passages, of "
                f"{opened.dims} numbers, where {num_passages} are expected; {REMEDY}"
            )
        return opened

    def __len__(self) -> int:
        """Returns the number of passages, n."""
        return self._ends[-1]

    def take(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Returns the vectors (m, D) at positions (m,), in their order."""
        if len(self._parts) == 1:
            return gather_fp16(self._parts[0], positions)
        vectors_mD = np.empty((len(positions), self.dims), np.float32)
        shard_of = np.searchsorted(self._ends, positions, side="right")
        for i in np.unique(shard_of).tolist():
            at = shard_of == i
            first = self._ends[i] - len(self._parts[i])
            vectors_mD[at] = gather_fp16(self._parts[i], positions[at] - first)
        return vectors_mD

    def scores(
        self, queries: npt.NDArray[np.float32], positions: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Returns inner products (Q, c) of queries (Q, D), C-contiguous, with vectors at positions.

        Args:
            queries: one for each row of the positions.
            positions: (Q, c); negative for none, which scores -inf.

        Raises:
            IndexError: there is no such position.
        """
        from polyprag.retrieval.parts.fp16_kernel import score_all

        self._check(positions)
        scores_Qc = np.empty(positions.shape, np.float32)

        def score(first: int, end: int) -> None:
            score_all(*(self._addresses, self._firsts, queries, positions), first, end, scores_Qc)

        in_threads(score, len(queries), at_least=_worth_a_thread(positions))
        return scores_Qc

    def best(
        self, queries: npt.NDArray[np.float32], positions: npt.NDArray[np.int64], *, k: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Returns the best k of each query's candidates.

        Args:
            queries: (Q, D) C-contiguous.
            positions: (Q, c), each once a query; negative for none.
            k: at least 1.

        Returns:
            Positions (Q, k), best first, equal scores by their positions, -1 where there are fewer;
            and their inner products, -inf where there are fewer.

        Raises:
            IndexError: there is no such position.
        """
        from polyprag.retrieval.parts.fp16_kernel import best

        self._check(positions)
        positions_Qk = np.full((len(queries), k), -1, np.int64)
        scores_Qk = np.full((len(queries), k), -np.inf, np.float32)

        def find(first: int, end: int) -> None:
            best(
                *(self._addresses, self._firsts, queries, positions),
                *(first, end, positions_Qk, scores_Qk),
            )

        in_threads(find, len(queries), at_least=_worth_a_thread(positions))
        return positions_Qk, scores_Qk

    def _check(self, positions: npt.NDArray[np.int64]) -> None:
        if positions.size and positions.max() >= len(self):
            raise IndexError(f"positions must be below {len(self)}: {positions.max()}")


def _worth_a_thread(positions: npt.NDArray[np.int64]) -> int:
    """Returns how many queries with so many candidates (Q, c) are worth a thread."""
    num_candidates: int = positions.shape[1]
    return -(-_A_THREAD // max(num_candidates, 1))
