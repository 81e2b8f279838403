"""BM25 (Lucene's variant) over titles and texts: finished scores, in bm25s's arrays, memory-mapped.

A base is divided into parts of consecutive passages, each scored by the statistics of all, so the
best of all parts together are exactly what one index would give. A part is made by one task.

n passages of a part, N of the base, V terms of the part, T pairs of a term and a passage.
"""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Self

import bm25s
import numpy as np
import numpy.typing as npt

from polyprag.errors import RunError
from polyprag.numba_kernels import in_threads
from polyprag.retrieval.analysis import Analyzer
from polyprag.retrieval.fusion import TopK
from polyprag.retrieval.lexical.term_counts import TermCounts
from polyprag.retrieval.lexical.term_hashes import TermHashes, column_of
from polyprag.retrieval.lexical.term_statistics import TermStatistics
from polyprag.retrieval.parts.part import SMALL_FILE
from polyprag.retrieval.remedy import REMEDY
from sharding.storage.array_files import map_array
from sharding.storage.files import read_json, write_json

_SETTINGS = "settings.json"
_HASHES = "hashes.npy"
_ARRAYS = {"data": np.float32, "indices": np.int32, "indptr": np.int64}  # as bm25s names them
_A_THREAD = 1 << 21  # passages, over all queries, that are worth a thread: about a millisecond


def write_bm25(
    directory: Path,
    groups: Sequence[TermCounts],
    statistics: TermStatistics,
    *,
    analyzer: Analyzer,
    title_weight: int,
    k1: float,
    b: float,
) -> None:
    """Scores every term of every passage of a part and writes it; holds 8 bytes a pair, T.

    Args:
        directory: an existing, empty directory.
        groups: the counts of the part's passages, consecutive groups in their order.
        statistics: of the whole base.
        analyzer: that the terms were made with; saved with the index.
        title_weight: how often a title's terms were counted; saved with the index.
        k1: term frequency saturation.
        b: how far length is normalised, 0 to 1.
    """
    hashes_V = np.unique(np.concatenate([counts.hashes for counts in groups]))
    columns = [np.searchsorted(hashes_V, counts.hashes) for counts in groups]
    num_with_V = np.zeros(len(hashes_V), np.int64)
    for counts, columns_V in zip(groups, columns, strict=True):
        num_with_V[columns_V] += counts.num_with
    indptr = np.zeros(len(hashes_V) + 1, np.int64)
    np.cumsum(num_with_V, out=indptr[1:])
    data_T = np.empty(int(indptr[-1]), np.float32)
    indices_T = np.empty(int(indptr[-1]), np.int32)
    everywhere_V = statistics.num_with[np.searchsorted(statistics.hashes, hashes_V)]
    idf_V = idf(everywhere_V, statistics.num_passages)
    next_V = indptr[:-1].copy()  # where a term's next pair goes
    first = 0
    for counts, columns_V in zip(groups, columns, strict=True):
        pairs_V = counts.num_with
        place_T = np.repeat(next_V[columns_V] - counts.starts[:-1], pairs_V)
        place_T += np.arange(len(place_T))
        next_V[columns_V] += pairs_V
        norms_n = k1 * (1 - b + b * counts.lengths / (statistics.mean_length or 1.0))
        having = counts.passages
        data_T[place_T] = np.repeat(idf_V[columns_V], pairs_V) * (
            counts.counts / (norms_n[having] + counts.counts)
        )
        indices_T[place_T] = having + first
        first += counts.num_passages
    retriever = bm25s.BM25(k1=k1, b=b, method="lucene")
    retriever.nonoccurrence_array = None
    retriever.vocab_dict = {}  # the hashes stand in its place
    retriever.scores = {
        "data": data_T,
        "indices": indices_T,
        "indptr": indptr,
        "num_docs": first,
    }
    retriever.save(directory, allow_pickle=False, show_progress=False)
    np.save(directory / _HASHES, hashes_V, allow_pickle=False)
    settings = {
        "analyzer": analyzer.settings,
        "num_passages": first,
        "base_passages": statistics.num_passages,
        "mean_length": statistics.mean_length,
        "title_weight": title_weight,
        "k1": k1,
        "b": b,
    }
    write_json(directory / _SETTINGS, settings)


def idf(num_with_term: Any, num_passages: int) -> Any:
    """Lucene's inverse document frequency, of one term or of an array of them."""
    return np.log(1 + (num_passages - num_with_term + 0.5) / (num_with_term + 0.5))


class BM25Part:
    """An opened part; only what a query touches is read from disk.

    Attributes:
        analyzer: text to terms, as it was built.
        num_passages: n.
        base_passages: N.
        mean_length: terms of one of the base's passages.
        title_weight: how often a title's terms were counted.
        k1: term frequency saturation.
        b: how far length is normalised.
    """

    def __init__(
        self,
        directory: Path,
        hashes_V: TermHashes,
        scores: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]],
        analyzer: Analyzer,
        *,
        num_passages: int,
        base_passages: int,
        mean_length: float,
        title_weight: int,
        k1: float,
        b: float,
    ) -> None:
        """Wraps mapped arrays, of `scores` data, indices and indptr; `open` maps them."""
        self._where, self._hashes_V, self._scores = directory, hashes_V, scores
        self.analyzer, self.num_passages = analyzer, num_passages
        self.base_passages, self.mean_length = base_passages, mean_length
        self.title_weight, self.k1, self.b = title_weight, k1, b

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Maps what `write_bm25` wrote.

        Raises:
            RunError: it is damaged.
        """
        settings = read_json(directory / _SETTINGS)
        where = str(directory / _SETTINGS)
        if not isinstance(settings, dict):
            raise RunError(f"{where}: not an object; {REMEDY}")
        analyzer = Analyzer.from_settings(settings.get("analyzer"), where=where)
        try:
            numbers = {name: float(settings[name]) for name in ("mean_length", "k1", "b")}
            num_passages, base_passages, title_weight = (
                int(settings[name]) for name in ("num_passages", "base_passages", "title_weight")
            )
            hashes = map_array(directory / _HASHES, dtypes=[np.uint64], ndim=1)
            scores = {
                name: map_array(directory / f"{name}.csc.index.npy", dtypes=[dtype], ndim=1)
                for name, dtype in _ARRAYS.items()
            }
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise RunError(f"{directory}: not a readable BM25 index ({error}); {REMEDY}") from error
        wrong = _contradiction(hashes, num_passages=num_passages, **scores)
        if wrong is None and not all(map(isfinite, numbers.values())):
            wrong = "its statistics aren't numbers"
        if wrong is not None:
            raise RunError(f"{directory}: its arrays don't fit together: {wrong}; {REMEDY}")
        return cls(
            directory,
            hashes,
            (scores["data"], scores["indices"], scores["indptr"]),
            analyzer,
            num_passages=num_passages,
            base_passages=base_passages,
            title_weight=title_weight,
            **numbers,
        )

    def num_with_term(self, hashed: int) -> int:
        """Returns how many passages have the term of a hash."""
        at = column_of(self._hashes_V, hashed)
        if at is None:
            return 0
        indptr = self._scores[2]
        return int(indptr[at + 1] - indptr[at])

    def search(
        self,
        hashes: TermHashes,
        starts: npt.NDArray[np.int64],
        *,
        k: int,
        hidden: npt.NDArray[np.int64],
        also: npt.NDArray[np.int64],
        also_starts: npt.NDArray[np.int64],
    ) -> tuple[TopK, npt.NDArray[np.float32]]:
        """Returns the best k passages of each of Q queries, those that have any of its terms.

        Args:
            hashes: of the queries' terms, one query after the other; a repeated one counts as
                often as it is repeated.
            starts: (Q + 1,) where each query's terms begin.
            k: at least 1.
            hidden: positions in the part that aren't found.
            also: positions (m,) of which the score is wanted, one query after the other; those
                that lie outside of the part are passed over.
            also_starts: (Q + 1,) where each query's begin.

        Returns:
            Positions in the part, and the scores (m,) of `also`, 0 where no term is shared.
        """
        from polyprag.retrieval.lexical.bm25_kernel import search_part

        at = np.searchsorted(self._hashes_V, hashes)
        known = at < len(self._hashes_V)
        known[known] = self._hashes_V[at[known]] == hashes[known]
        known_before = np.concatenate([[0], np.cumsum(known)])
        num_queries, width = len(starts) - 1, min(k, self.num_passages)
        ids = np.full((num_queries, width), -1, np.int64)
        scores = np.full((num_queries, width), -np.inf, np.float32)
        scores_of_also = np.zeros(len(also), np.float32)
        columns, ends = at[known], known_before[starts]

        def search(first: int, end: int) -> None:
            is_sound = search_part(
                *self._scores,
                *(columns, ends, hidden, also, also_starts),
                *(self.num_passages, first, end),
                *(ids, scores, scores_of_also),
            )
            if not is_sound:
                raise RunError(f"{self._where}: names passages that it doesn't have; {REMEDY}")

        in_threads(search, num_queries, at_least=-(-_A_THREAD // max(self.num_passages, 1)))
        return TopK(ids, scores), scores_of_also


def _contradiction(
    hashes_V: TermHashes,
    *,
    num_passages: int,
    data: npt.NDArray[np.float32],
    indices: npt.NDArray[np.int32],
    indptr: npt.NDArray[np.int64],
) -> str | None:
    """Returns what can't be in a part's arrays; what is in large ones is looked at in searches."""
    if len(indptr) != len(hashes_V) + 1 or len(data) != len(indices):
        return "of different lengths"
    if indptr[0] != 0 or indptr[-1] != len(data) or np.any(indptr[1:] < indptr[:-1]):
        return "indptr doesn't divide the scores"
    if np.any(hashes_V[1:] <= hashes_V[:-1]):
        return "hashes don't rise"
    if indices.nbytes > SMALL_FILE:
        return None
    if len(indices) and not 0 <= indices.min() <= indices.max() < num_passages:
        return f"indices name passages from {indices.min()} to {indices.max()} of {num_passages}"
    return None if np.all(np.isfinite(data)) else "scores aren't finite"
