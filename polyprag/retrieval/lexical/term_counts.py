"""How often each term is in each passage: what BM25's statistics and scores are made from.

A group of partitions is counted without knowing of the others. A base's counts become finished
scores (`bm25`); those of a segment that an index has grown by are kept, and scored by the base's
statistics when they are searched, so growing rewrites nothing.

n passages, V terms, T pairs of a term and a passage that has it.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from polyprag.errors import RunError
from polyprag.retrieval.analysis import Analyzer
from polyprag.retrieval.lexical.term_hashes import TermHashes, column_of, term_hash
from polyprag.retrieval.remedy import REMEDY
from sharding.storage.array_files import map_array

_ARRAYS = {
    "hashes": np.uint64,
    "starts": np.int64,
    "passages": np.int32,
    "counts": np.int32,
    "lengths": np.int32,
}


def weighted_terms(analyzer: Analyzer, title: str, text: str, *, title_weight: int) -> list[str]:
    """Returns the terms of a passage, those of its title several times."""
    return analyzer.terms(title) * title_weight + analyzer.terms(text)


def write_term_counts(
    directory: Path,
    titled_texts: Iterable[tuple[str, str]],
    *,
    analyzer: Analyzer,
    title_weight: int,
) -> None:
    """Counts the terms of passages and writes them by term.

    Args:
        directory: an existing, empty directory.
        titled_texts: (title, text) of the passages; held as 12 bytes a different term of each.
        analyzer: text to terms.
        title_weight: how often the title's terms count.
    """
    vocabulary: dict[str, int] = {}
    columns, passages, counts, lengths = array("i"), array("i"), array("i"), array("i")
    for position, (title, text) in enumerate(titled_texts):
        terms = weighted_terms(analyzer, title, text, title_weight=title_weight)
        lengths.append(len(terms))
        for term, count in Counter(terms).items():
            columns.append(vocabulary.setdefault(term, len(vocabulary)))
            passages.append(position)
            counts.append(count)
    hashes_V = np.fromiter(map(term_hash, vocabulary), np.uint64, len(vocabulary))
    by_hash_V = np.argsort(hashes_V, kind="stable")
    rank_V = np.empty(len(vocabulary), np.int64)
    rank_V[by_hash_V] = np.arange(len(vocabulary))
    ranks_T = rank_V[np.asarray(columns, np.int32)]
    order = np.argsort(ranks_T, kind="stable")
    starts = np.zeros(len(vocabulary) + 1, np.int64)
    np.cumsum(np.bincount(ranks_T, minlength=len(vocabulary)), out=starts[1:])
    values: dict[str, npt.NDArray[Any]] = {
        "hashes": hashes_V[by_hash_V],
        "starts": starts,
        "passages": np.asarray(passages, np.int32)[order],
        "counts": np.asarray(counts, np.int32)[order],
        "lengths": np.asarray(lengths, np.int32),
    }
    for name in _ARRAYS:
        np.save(directory / f"{name}.npy", values[name], allow_pickle=False)


@dataclass(frozen=True, slots=True)
class TermCounts:
    """Opened counts, memory-mapped.

    Attributes:
        hashes: (V,) uint64, the terms' hashes, rising.
        starts: (V + 1,) int64, where each term's pairs begin.
        passages: (T,) int32, positions, rising within a term.
        counts: (T,) int32.
        lengths: (n,) int32, terms of each passage.
    """

    hashes: TermHashes
    starts: npt.NDArray[np.int64]
    passages: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Maps what `write_term_counts` wrote.

        Raises:
            RunError: it is damaged.
        """
        try:
            arrays = {
                name: map_array(directory / f"{name}.npy", dtypes=[dtype], ndim=1)
                for name, dtype in _ARRAYS.items()
            }
        except (OSError, ValueError, EOFError) as error:
            raise RunError(f"{directory}: not readable ({error}); {REMEDY}") from error
        opened = cls(**arrays)
        if not opened._fit_together():
            raise RunError(f"{directory}: its files don't fit together; {REMEDY}")
        return opened

    def _fit_together(self) -> bool:
        starts, passages = self.starts, self.passages
        return (
            len(starts) == len(self.hashes) + 1
            and starts[0] == 0
            and starts[-1] == len(passages) == len(self.counts)
            and bool(np.all(starts[1:] >= starts[:-1]))
            and bool(np.all(self.hashes[1:] > self.hashes[:-1]))
            and (not len(passages) or 0 <= passages.min() <= passages.max() < len(self.lengths))
            and (not len(passages) or bool(self.counts.min() >= 1))
            and (not len(self.lengths) or bool(self.lengths.min() >= 0))
        )

    @property
    def num_passages(self) -> int:
        """The number of passages, n."""
        return len(self.lengths)

    @property
    def num_with(self) -> npt.NDArray[np.int64]:
        """How many passages have each term, (V,)."""
        return np.diff(self.starts)

    def num_with_term(self, hashed: int) -> int:
        """Returns how many passages have the term of a hash."""
        at = column_of(self.hashes, hashed)
        return 0 if at is None else int(self.starts[at + 1] - self.starts[at])


class CountedPassages:
    """Counts that are scored when they are searched, by the statistics of a base."""

    def __init__(self, counts: TermCounts, *, mean_length: float, k1: float, b: float) -> None:
        """Takes counts and what Lucene's BM25 needs besides.

        Args:
            counts: of n passages.
            mean_length: of the base's passages, in terms.
            k1: term frequency saturation.
            b: how far length is normalised.
        """
        self.counts = counts
        lengths_n = counts.lengths / np.float32(mean_length or 1.0)
        self._norms_n = (k1 * (1 - b + b * lengths_n)).astype(np.float32)

    @property
    def num_passages(self) -> int:
        """The number of passages, n."""
        return self.counts.num_passages

    def scores(self, weighed_hashes: Sequence[tuple[int, float]]) -> npt.NDArray[np.float32]:
        """Returns the score (n,) of every passage.

        Args:
            weighed_hashes: the query's terms, hashed, with their inverse document frequencies.
        """
        scores_n = np.zeros(len(self._norms_n), np.float32)
        for hashed, idf in weighed_hashes:
            at = column_of(self.counts.hashes, hashed)
            if at is None:
                continue
            pairs = slice(int(self.counts.starts[at]), int(self.counts.starts[at + 1]))
            having, counts = self.counts.passages[pairs], self.counts.counts[pairs]
            scores_n[having] += np.float32(idf) * (counts / (self._norms_n[having] + counts))
        return scores_n
