"""The terms of the passages that a grown index has beyond its base, scored when they are searched.

bm25s keeps finished scores, which any further passage would change. A later segment keeps counts
instead and is scored by the base's statistics, so its scores are on the base's scale and growing
rewrites nothing.

n passages, V terms, T pairs of a term and a passage that has it.
"""

import json
from array import array
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from polyprag.errors import RunError
from polyprag.index.analysis import Analyzer
from polyprag.index.bm25 import weighted_terms
from sharding.files import read_json

_TERMS = "terms.json"
_ARRAYS = ("starts", "passages", "counts", "lengths")
_REMEDY = "run `polyprag index RUN` again"


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
        titled_texts: (title, text) of the segment's passages; held as 12 bytes a different term.
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
    columns_T = np.asarray(columns, np.int32)
    order = np.argsort(columns_T, kind="stable")
    starts = np.zeros(len(vocabulary) + 1, np.int64)
    np.cumsum(np.bincount(columns_T, minlength=len(vocabulary)), out=starts[1:])
    values: dict[str, npt.NDArray[Any]] = {
        "starts": starts,
        "passages": np.asarray(passages, np.int32)[order],
        "counts": np.asarray(counts, np.int32)[order],
        "lengths": np.asarray(lengths, np.int32),
    }
    for name in _ARRAYS:
        np.save(directory / f"{name}.npy", values[name], allow_pickle=False)
    (directory / _TERMS).write_text(
        json.dumps(list(vocabulary), ensure_ascii=False), encoding="utf-8"
    )


class TermCounts:
    """The opened counts, in Lucene's BM25 with statistics from elsewhere."""

    def __init__(
        self,
        columns: dict[str, int],
        *,
        starts: npt.NDArray[np.int64],
        passages: npt.NDArray[np.int32],
        counts: npt.NDArray[np.int32],
        norms: npt.NDArray[np.float32],
    ) -> None:
        """Puts opened parts together; `open` opens them."""
        self._columns = columns
        self._starts_V, self._passages_T, self._counts_T = starts, passages, counts
        self._norms_n = norms

    @classmethod
    def open(
        cls, directory: Path, *, num_passages: int, mean_length: float, k1: float, b: float
    ) -> Self:
        """Maps what `write_term_counts` wrote.

        Args:
            directory: where it is.
            num_passages: n.
            mean_length: of the base's passages, in terms.
            k1: term frequency saturation.
            b: how far length is normalised.

        Raises:
            RunError: it is damaged, or of another number of passages.
        """
        terms = read_json(directory / _TERMS)
        try:
            starts, passages, counts, lengths = (
                np.asarray(np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False))
                for name in _ARRAYS
            )
        except (OSError, ValueError, EOFError) as error:
            raise RunError(f"{directory}: not readable ({error}); {_REMEDY}") from error
        if (
            not isinstance(terms, list)
            or not all(isinstance(term, str) for term in terms)
            or starts.shape != (len(terms) + 1,)
            or passages.shape != (starts[-1],)
            or counts.shape != passages.shape
            or lengths.shape != (num_passages,)
        ):
            raise RunError(f"{directory}: its files don't fit together; {_REMEDY}")
        lengths_n = lengths / np.float32(mean_length or 1.0)
        norms_n = (k1 * (1 - b + b * lengths_n)).astype(np.float32)
        columns = {term: column for column, term in enumerate(terms)}
        return cls(columns, starts=starts, passages=passages, counts=counts, norms=norms_n)

    def num_with(self, term: str) -> int:
        """How many passages have a term."""
        at = self._columns.get(term)
        return 0 if at is None else int(self._starts_V[at + 1] - self._starts_V[at])

    def scores(self, idf_of_terms: Iterable[tuple[str, float]]) -> npt.NDArray[np.float32]:
        """The score (n,) of every passage.

        Args:
            idf_of_terms: the query's terms with their inverse document frequencies.
        """
        scores_n = np.zeros(len(self._norms_n), np.float32)
        for term, idf in idf_of_terms:
            at = self._columns.get(term)
            if at is None:
                continue
            span = slice(int(self._starts_V[at]), int(self._starts_V[at + 1]))
            having, counts = self._passages_T[span], self._counts_T[span]
            scores_n[having] += np.float32(idf) * (counts / (self._norms_n[having] + counts))
        return scores_n
