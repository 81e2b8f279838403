"""BM25 over all segments of an index: the base's finished scores, the others by its statistics."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from polyprag.errors import RunError
from polyprag.retrieval.fusion import TopK, best_of_parts, best_of_scores, top_k_of
from polyprag.retrieval.lexical.bm25 import BM25Part, idf
from polyprag.retrieval.lexical.term_counts import CountedPassages, TermCounts
from polyprag.retrieval.lexical.term_hashes import term_hash
from polyprag.retrieval.parts.span import OpenSegment
from polyprag.retrieval.remedy import REMEDY


class LexicalIndex:
    """An opened BM25 index of any number of segments.

    A term that the base has weighs as in the base. One that only later segments have weighs by
    how many of all passages have it. Lengths are measured by the base's mean.
    """

    def __init__(
        self,
        base: Sequence[BM25Part],
        later: Sequence[Sequence[CountedPassages]],
        *,
        segments: Sequence[OpenSegment],
    ) -> None:
        """Puts opened parts together; `open` opens them."""
        self._base, self._later, self._segments = tuple(base), tuple(later), tuple(segments)
        self._num_passages = sum(segment.span.num_passages for segment in segments)
        self._counted = [part for parts in later for part in parts]

    @classmethod
    def open(cls, directories: Sequence[Sequence[Path]], segments: Sequence[OpenSegment]) -> Self:
        """Maps the BM25 parts of every segment.

        Args:
            directories: of each segment's parts, the base's first.
            segments: whose they are.

        Raises:
            RunError: one is damaged, or of another number of passages.
        """
        base = [BM25Part.open(directory) for directory in directories[0]]
        statistics = base[0]
        later = [
            [
                CountedPassages(
                    TermCounts.open(directory),
                    mean_length=statistics.mean_length,
                    k1=statistics.k1,
                    b=statistics.b,
                )
                for directory in parts
            ]
            for parts in directories[1:]
        ]
        sizes = [
            [part.num_passages for part in base],
            *([part.num_passages for part in parts] for parts in later),
        ]
        for parts, found, segment in zip(directories, sizes, segments, strict=True):
            if sum(found) != segment.span.num_passages:
                raise RunError(
                    f"{parts[0]}: of {sum(found)} passages where the segment has "
                    f"{segment.span.num_passages}; {REMEDY}"
                )
        if statistics.base_passages != segments[0].span.num_passages:
            raise RunError(f"{directories[0][0]}: scored by other passages' statistics; {REMEDY}")
        return cls(base, later, segments=segments)

    def terms(self, query: str) -> list[str]:
        """Returns the terms of a query, as the base's passages were cut."""
        return self._base[0].analyzer.terms(query)

    def matched(self, query: str, text: str) -> float:
        """Returns how much of a query is in a text, 0 to 1: its terms weighed by their rarity.

        A term that no passage has weighs most: what the query is about may not be in the corpus.

        Args:
            query: a question or another text.
            text: of a passage, with its title.
        """
        terms, there = self.terms(query), set(self.terms(text))
        weights = [self._idf(term_hash(term)) for term in terms]
        found = [weight for term, weight in zip(terms, weights, strict=True) if term in there]
        return sum(found) / sum(weights) if terms else 0.0

    def search(self, queries: Sequence[str], *, k: int) -> TopK:
        """Returns the best k passages that share a term with each query.

        Args:
            queries: questions or other texts.
            k: at least 1.
        """
        nothing = [np.zeros(0, np.int64)] * len(queries)
        return self.search_and_score(queries, k=k, also=nothing)[0]

    def search_and_score(
        self, queries: Sequence[str], *, k: int, also: Sequence[npt.NDArray[np.int64]]
    ) -> tuple[TopK, list[npt.NDArray[np.float32]]]:
        """Returns the best k passages, as `search` finds them, and the scores of others.

        Args:
            queries: questions or other texts.
            k: at least 1.
            also: for each query, ids (m,) of passages.

        Returns:
            What was found, and for each query the scores (m,) of `also`; 0 where no term is shared.
        """
        analyzer = self._base[0].analyzer
        terms = [[term_hash(term) for term in analyzer.terms(query)] for query in queries]
        hashes = np.fromiter((hashed for each in terms for hashed in each), np.uint64)
        starts = np.concatenate([[0], np.cumsum([len(each) for each in terms])]).astype(np.int64)
        ids = np.concatenate([np.zeros(0, np.int64), *also])
        ends = np.concatenate([[0], np.cumsum([len(each) for each in also])]).astype(np.int64)
        scores = np.zeros(len(ids), np.float32)
        found: list[TopK] = []
        first = 0
        hidden = self._segments[0].hidden
        for part in self._base:
            best, of_also = part.search(
                hashes,
                starts,
                k=k,
                hidden=_within(hidden, first, part.num_passages),
                also=ids - first,
                also_starts=ends,
            )
            scores += of_also
            found.append(best.moved(first))
            first += part.num_passages
        of_each = [scores[first:end] for first, end in pairwise(ends.tolist())]
        if self._counted:
            found += self._later_best(terms, k, also, of_each)
        return best_of_parts(found, k=k), of_each

    def _later_best(
        self,
        terms: Sequence[Sequence[int]],
        k: int,
        also: Sequence[npt.NDArray[np.int64]],
        scores_of_also: Sequence[npt.NDArray[np.float32]],
    ) -> list[TopK]:
        """Returns the best k of each part of the later segments; fills in the scores of `also`."""
        weights = {hashed: self._idf(hashed) for hashed in {one for each in terms for one in each}}
        weighed = [[(hashed, weights[hashed]) for hashed in each] for each in terms]
        found = []
        for parts, segment in zip(self._later, self._segments[1:], strict=True):
            start = 0
            for part in parts:
                first_id = segment.span.first_id + start
                hidden = _within(segment.hidden, start, part.num_passages)
                rankings = []
                for each, ids, scores in zip(weighed, also, scores_of_also, strict=True):
                    scores_n = part.scores(each)
                    scores_n[hidden] = 0
                    inside = (ids >= first_id) & (ids < first_id + part.num_passages)
                    scores[inside] = scores_n[ids[inside] - first_id]
                    rankings.append(best_of_scores(scores_n, k=k))
                found.append(top_k_of(rankings, k=k).moved(first_id))
                start += part.num_passages
        return found

    def _idf(self, hashed: int) -> float:
        in_base = sum(part.num_with_term(hashed) for part in self._base)
        if in_base:
            return float(idf(in_base, self._base[0].base_passages))
        in_later = sum(part.counts.num_with_term(hashed) for part in self._counted)
        return float(idf(in_later, self._num_passages))


def _within(positions: npt.NDArray[np.int64], start: int, count: int) -> npt.NDArray[np.int64]:
    """Returns a segment's positions that lie in one of its parts, counted from its beginning."""
    inside = (positions >= start) & (positions < start + count)
    return positions[inside] - start
