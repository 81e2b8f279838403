"""BM25 over all segments of an index: the base's finished scores, the others by its statistics."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from polyprag.errors import RunError
from polyprag.index.bm25 import BM25Shard, idf
from polyprag.index.fusion import Ranking, merged
from polyprag.index.segments import OpenSegment
from polyprag.index.term_counts import CountedPassages, TermCounts
from polyprag.index.term_hashes import term_hash
from polyprag.index.top_k import best_of_scores

_REMEDY = "run `polyprag index RUN` again"


class LexicalIndex:
    """An opened BM25 index of any number of segments.

    A term that the base has weighs as in the base. One that only later segments have weighs by
    how many of all passages have it. Lengths are measured by the base's mean.
    """

    def __init__(
        self,
        base: Sequence[BM25Shard],
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
        base = [BM25Shard.open(directory) for directory in directories[0]]
        for shard in base:
            shard.share_scorer(None if shard is base[0] else base[0])
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
            [shard.num_passages for shard in base],
            *([part.num_passages for part in parts] for parts in later),
        ]
        for parts, found, segment in zip(directories, sizes, segments, strict=True):
            if sum(found) != segment.span.num_passages:
                raise RunError(
                    f"{parts[0]}: of {sum(found)} passages where the segment has "
                    f"{segment.span.num_passages}; {_REMEDY}"
                )
        if statistics.base_passages != segments[0].span.num_passages:
            raise RunError(f"{directories[0][0]}: scored by other passages' statistics; {_REMEDY}")
        return cls(base, later, segments=segments)

    def search(self, query: str, *, k: int) -> Ranking:
        """The best k passages that share a term with the query; fewer where fewer do."""
        return merged([ranking for ranking, _ in self._parts_of(query, k=k)], k=k)

    def search_and_score(
        self, query: str, *, k: int, also: npt.NDArray[np.int64]
    ) -> tuple[Ranking, npt.NDArray[np.float32]]:
        """The best k passages, as `search` finds them, and the scores of others.

        Args:
            query: a question or another text.
            k: at least 1.
            also: ids (m,) of passages.

        Returns:
            The ranking, and the scores (m,) of `also`; 0 where no term is shared.
        """
        scores_m = np.zeros(len(also), np.float32)
        rankings = []
        for ranking, (first, scores_n) in self._parts_of(query, k=k):
            rankings.append(ranking)
            inside = (also >= first) & (also < first + len(scores_n))
            scores_m[inside] = scores_n[also[inside] - first]
        return merged(rankings, k=k), scores_m

    def _parts_of(
        self, query: str, *, k: int
    ) -> Iterator[tuple[Ranking, tuple[int, npt.NDArray[np.float32]]]]:
        """Of each part with any of the query's terms: the best k, its first id and its scores."""
        hashes = [term_hash(term) for term in self._base[0].analyzer.terms(query)]
        yield from _best(
            (shard.scores(hashes) for shard in self._base), self._base, self._segments[0], k
        )
        if not self._counted:
            return
        weights = {hashed: self._idf(hashed) for hashed in set(hashes)}
        weighed = [(hashed, weights[hashed]) for hashed in hashes]
        for parts, segment in zip(self._later, self._segments[1:], strict=True):
            yield from _best((part.scores(weighed) for part in parts), parts, segment, k)

    def _idf(self, hashed: int) -> float:
        in_base = sum(shard.num_with_term(hashed) for shard in self._base)
        if in_base:
            return idf(in_base, self._base[0].base_passages)
        in_later = sum(part.counts.num_with_term(hashed) for part in self._counted)
        return idf(in_later, self._num_passages)


def _best(
    scores: Iterable[npt.NDArray[np.float32] | None],
    parts: Sequence[BM25Shard | CountedPassages],
    segment: OpenSegment,
    k: int,
) -> Iterator[tuple[Ranking, tuple[int, npt.NDArray[np.float32]]]]:
    """See `LexicalIndex._parts_of`; a part without any of the terms has None as scores (n,)."""
    start = 0
    for scores_n, part in zip(scores, parts, strict=True):
        end = start + part.num_passages
        if scores_n is not None:
            hidden = segment.hidden[(segment.hidden >= start) & (segment.hidden < end)]
            scores_n[hidden - start] = 0
            first_id = segment.span.first_id + start
            best = best_of_scores(scores_n, k=k)
            yield Ranking(best.ids + first_id, best.scores), (first_id, scores_n)
        start = end
