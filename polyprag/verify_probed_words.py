"""Whether BM25 gives passages the scores that follow from their own words.

W title weights that an index may have been built with: it doesn't say which it was.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from polyprag.config import IndexConfig
from polyprag.index.bm25 import BM25Shard
from polyprag.index.lexical import LexicalIndex
from polyprag.index.segments import OpenSegment
from polyprag.index.term_counts import TermCounts
from polyprag.index.term_hashes import term_hash
from polyprag.verify_sample import SegmentSample
from sharding.checks.problem import Problem
from sharding.passages import Passage

_QUERY_CHARACTERS = 160  # of a text
_WEIGHTS = np.arange(1, 1025)  # beyond, a title's words are as good as alone
_ROUNDING = 1e-4  # of a score in fp32


class _Statistics:
    """What BM25's formula needs to know of all passages."""

    def __init__(self, samples: Sequence[SegmentSample]) -> None:
        self.base = [BM25Shard.open(directory) for directory in samples[0].parts["bm25"]]
        self.later = [
            [TermCounts.open(directory) for directory in sample.parts["bm25"]]
            for sample in samples[1:]
        ]
        self._num_passages = sum(sample.segment.num_passages for sample in samples)

    def sizes(self, number: int) -> list[int]:
        """Passages of each BM25 component of a segment."""
        parts = self.base if number == 0 else self.later[number - 1]
        return [part.num_passages for part in parts]

    def scores(self, query: str, passage: Passage) -> npt.NDArray[np.float64]:
        """What each title weight would give, (W,)."""
        shard = self.base[0]
        terms = shard.analyzer.terms
        title, text = Counter(terms(passage.title)), Counter(terms(passage.text))
        lengths_W = _WEIGHTS * title.total() + text.total()
        norms_W = shard.k1 * (1 - shard.b + shard.b * lengths_W / (shard.mean_length or 1.0))
        scores_W = np.zeros(len(_WEIGHTS))
        for term in terms(query):
            counts_W = _WEIGHTS * title[term] + text[term]
            if counts_W[0]:
                scores_W += self._idf(term) * counts_W / (norms_W + counts_W)
        return scores_W

    def _idf(self, term: str) -> float:
        hashed = term_hash(term)
        num_passages = self.base[0].base_passages
        num_with = sum(shard.num_with_term(hashed) for shard in self.base)
        if not num_with:  # of later segments only: counted among all passages
            num_passages = self._num_passages
            num_with = sum(part.num_with_term(hashed) for parts in self.later for part in parts)
        return float(np.log1p((num_passages - num_with + 0.5) / (num_with + 0.5)))


def wrong_words(samples: Sequence[SegmentSample]) -> list[Problem]:
    """Each passage is searched for by its title and the beginning of its text.

    Args:
        samples: of all segments, the base's first.

    Returns:
        A problem for each segment with a passage that has another score than Lucene's BM25 gives
        it by the base's statistics.
    """
    nobody = np.zeros(0, np.int64)
    index = LexicalIndex.open(
        [sample.parts["bm25"] for sample in samples],
        [OpenSegment(sample.segment.span, nobody) for sample in samples],
    )
    statistics = _Statistics(samples)
    passages = [passage for sample in samples for passage in sample.passages]
    queries = [f"{passage.title} {passage.text[:_QUERY_CHARACTERS]}" for passage in passages]
    ids = [np.array([passage.id], np.int64) for passage in passages]
    _, scores = index.search_and_score(queries, k=1, also=ids)
    found_m = np.array([score for (score,) in scores], np.float64)
    expected_mW = np.array(
        [
            statistics.scores(query, passage)
            for query, passage in zip(queries, passages, strict=True)
        ]
    ).reshape(len(passages), len(_WEIGHTS))
    agrees_mW = np.isclose(found_m[:, None], expected_mW, rtol=_ROUNDING, atol=_ROUNDING)
    weight = _weight_of(agrees_mW)
    problems = []
    done = 0
    for number, sample in enumerate(samples):
        mine = slice(done, done + len(sample.passages))
        done = mine.stop
        (wrong,) = np.nonzero(~agrees_mW[mine, weight])
        if len(wrong):
            at = mine.start + wrong[0]
            passage = passages[at]
            component = sample.component("bm25", passage.id, sizes=statistics.sizes(number))
            what = (
                f"passage {passage.id} scores {found_m[at]:.4f} for its own first words, which "
                f"give {expected_mW[at, weight]:.4f}{sample.of_sample(len(wrong))}"
            )
            problems.append(sample.problem(component, what))
    return problems


def _weight_of(agrees_mW: npt.NDArray[np.bool_]) -> int:
    """The position of the title weight that most passages agree with; if in doubt the default."""
    num_agreeing_W = agrees_mW.sum(axis=0)
    usual = int(np.searchsorted(_WEIGHTS, IndexConfig().bm25_title_weight))
    best = int(num_agreeing_W.argmax())
    return usual if num_agreeing_W[usual] == num_agreeing_W[best] else best
