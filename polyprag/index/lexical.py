"""BM25 over all segments of an index: the base as bm25s scored it, the others by its statistics."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from polyprag.index.bm25 import BM25Index, idf
from polyprag.index.fusion import Ranking, best_of_scores, merged
from polyprag.index.segments import OpenSegment
from polyprag.index.term_counts import TermCounts


class LexicalIndex:
    """An opened BM25 index of any number of segments.

    A term that the base has weighs as in the base. One that only later segments have weighs by
    how many of all passages have it. Lengths are measured by the base's mean.
    """

    def __init__(
        self,
        base: BM25Index,
        later: Sequence[TermCounts],
        *,
        segments: Sequence[OpenSegment],
    ) -> None:
        """Puts opened parts together; `open` opens them."""
        self._base, self._later, self._segments = base, tuple(later), tuple(segments)
        self._num_passages = sum(segment.span.num_passages for segment in segments)

    @classmethod
    def open(cls, directories: Sequence[Path], segments: Sequence[OpenSegment]) -> Self:
        """Maps the BM25 part of every segment.

        Args:
            directories: of the parts, the base's first.
            segments: whose they are.

        Raises:
            RunError: one is damaged, or of another number of passages.
        """
        base = BM25Index.open(directories[0], num_passages=segments[0].span.num_passages)
        later = [
            TermCounts.open(
                directory,
                num_passages=segment.span.num_passages,
                mean_length=base.mean_length,
                k1=base.k1,
                b=base.b,
            )
            for directory, segment in zip(directories[1:], segments[1:], strict=True)
        ]
        return cls(base, later, segments=segments)

    def search(self, query: str, *, k: int) -> Ranking:
        """The best k passages that share a term with the query; fewer where fewer do."""
        terms = self._base.analyzer.terms(query)
        scores = [self._base.scores(terms)]
        if self._later:
            weights = {term: self._idf(term) for term in set(terms)}
            weighed = [(term, weights[term]) for term in terms]
            scores += [segment.scores(weighed) for segment in self._later]
        rankings = []
        for segment, scores_n in zip(self._segments, scores, strict=True):
            scores_n[segment.hidden] = 0
            found = best_of_scores(scores_n, k=k)
            rankings.append(Ranking(found.ids + segment.span.first_id, found.scores))
        return merged(rankings, k=k)

    def _idf(self, term: str) -> float:
        in_base = self._base.num_with(term)
        if in_base:
            return idf(in_base, self._base.num_passages)
        in_later = sum(segment.num_with(term) for segment in self._later)
        return idf(in_later, self._num_passages)
