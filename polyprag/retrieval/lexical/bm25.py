"""BM25 (Lucene's variant) over titles and texts: finished scores, in bm25s's arrays, memory-mapped.

A base is divided into parts of consecutive passages, each scored by the statistics of all, so the
best of all parts together are exactly what one index would give. A part is made by one task.

n passages of a part, N of the base, V terms of the part, T pairs of a term and a passage.
"""

from collections.abc import Sequence
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
from polyprag.retrieval.remedy import REMEDY
from sharding.storage.files import read_json, write_json

_SETTINGS = "settings.json"
_HASHES = "hashes.npy"
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
        hashes_V: TermHashes,
        retriever: Any,
        analyzer: Analyzer,
        *,
        base_passages: int,
        mean_length: float,
        title_weight: int,
        k1: float,
        b: float,
    ) -> None:
        """Wraps a bm25s retriever over mapped arrays; `open` makes one."""
        self._hashes_V, self._retriever, self.analyzer = hashes_V, retriever, analyzer
        self.num_passages = int(retriever.scores["num_docs"])
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
            retriever = bm25s.BM25.load(
                directory,
                mmap=True,
                allow_pickle=False,
                load_vocab=False,
                backend="numpy",
                show_progress=False,
            )
            # As plain arrays over the maps: the memmap class costs a call a slice.
            hashes = np.asarray(np.load(directory / _HASHES, mmap_mode="r", allow_pickle=False))
            scores = {
                name: np.asarray(retriever.scores[name]) for name in ("data", "indices", "indptr")
            }
            sound = (
                retriever.scores["num_docs"] == num_passages
                and scores["data"].shape == scores["indices"].shape == (scores["indptr"][-1],)
                and len(scores["indptr"]) == len(hashes) + 1
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise RunError(f"{directory}: not a readable BM25 index ({error}); {REMEDY}") from error
        if not sound:
            raise RunError(f"{directory}: its arrays don't fit together; {REMEDY}")
        retriever.scores.update(scores)
        return cls(
            hashes,
            retriever,
            analyzer,
            base_passages=base_passages,
            title_weight=title_weight,
            **numbers,
        )

    def num_with_term(self, hashed: int) -> int:
        """Returns how many passages have the term of a hash."""
        at = column_of(self._hashes_V, hashed)
        if at is None:
            return 0
        indptr = self._retriever.scores["indptr"]
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
        pairs = [self._retriever.scores[name] for name in ("data", "indices", "indptr")]
        columns, ends = at[known], known_before[starts]

        def search(first: int, end: int) -> None:
            search_part(
                *pairs,
                *(columns, ends, hidden, also, also_starts),
                *(self.num_passages, first, end),
                *(ids, scores, scores_of_also),
            )

        in_threads(search, num_queries, at_least=-(-_A_THREAD // max(self.num_passages, 1)))
        return TopK(ids, scores), scores_of_also
