"""BM25 over all segments of an index: the base's finished scores, the others by its statistics."""

from collections.abc import Sequence
from itertools import accumulate
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
            *([part.counts.num_passages for part in parts] for parts in later),
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
        hashes = [term_hash(term) for term in self._base[0].analyzer.terms(query)]
        found = [self._of_base(hashes, k)]
        if self._counted:
            weights = {hashed: self._idf(hashed) for hashed in set(hashes)}
            weighed = [(hashed, weights[hashed]) for hashed in hashes]
            for parts, segment in zip(self._later, self._segments[1:], strict=True):
                sizes = [part.counts.num_passages for part in parts]
                scores = [part.scores(weighed) for part in parts]
                found.append(_best(scores, sizes, segment, k))
        return merged(found, k=k)

    def _of_base(self, hashes: list[int], k: int) -> Ranking:
        sizes = [shard.num_passages for shard in self._base]
        return _best([shard.scores(hashes) for shard in self._base], sizes, self._segments[0], k)

    def _idf(self, hashed: int) -> float:
        in_base = sum(shard.num_with_term(hashed) for shard in self._base)
        if in_base:
            return idf(in_base, self._base[0].base_passages)
        in_later = sum(part.counts.num_with_term(hashed) for part in self._counted)
        return idf(in_later, self._num_passages)


def _best(
    scores: Sequence[npt.NDArray[np.float32] | None],
    sizes: Sequence[int],
    segment: OpenSegment,
    k: int,
) -> Ranking:
    """The best of a segment's parts, whose scores (n,) are None where no passage has any."""
    rankings = []
    for scores_n, size, end in zip(scores, sizes, accumulate(sizes), strict=True):
        if scores_n is None:
            continue
        first = end - size
        hidden = segment.hidden[(segment.hidden >= first) & (segment.hidden < end)]
        scores_n[hidden - first] = 0
        best = best_of_scores(scores_n, k=k)
        rankings.append(Ranking(best.ids + (first + segment.span.first_id), best.scores))
    return merged(rankings, k=k)
