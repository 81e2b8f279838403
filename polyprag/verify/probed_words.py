"""Whether BM25 gives passages the scores that follow from their own words."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from polyprag.retrieval.lexical.bm25 import BM25Part
from polyprag.retrieval.lexical.search import LexicalIndex
from polyprag.retrieval.lexical.term_counts import TermCounts
from polyprag.retrieval.lexical.term_hashes import term_hash
from polyprag.retrieval.parts.span import OpenSegment
from polyprag.verify.sample import SegmentSample
from sharding.checks.problem import Problem
from sharding.corpus.passages import Passage

_QUERY_CHARACTERS = 160  # of a text
_ROUNDING = 1e-4  # of a score in fp32


class _Statistics:
    """What BM25's formula needs to know of all passages."""

    def __init__(self, samples: Sequence[SegmentSample]) -> None:
        self.base = [BM25Part.open(directory) for directory in samples[0].directories["bm25"]]
        self.later = [
            [TermCounts.open(directory) for directory in sample.directories["bm25"]]
            for sample in samples[1:]
        ]
        self._num_passages = sum(sample.segment.num_passages for sample in samples)

    def sizes(self, number: int) -> list[int]:
        """Passages of each BM25 part of a segment."""
        parts = self.base if number == 0 else self.later[number - 1]
        return [part.num_passages for part in parts]

    def score(self, query: str, passage: Passage) -> float:
        """Returns what Lucene's formula gives a passage for a query."""
        part = self.base[0]
        terms = part.analyzer.terms
        counts = Counter(terms(passage.title) * part.title_weight + terms(passage.text))
        length = counts.total() / (part.mean_length or 1.0)
        norm = part.k1 * (1 - part.b + part.b * length)
        return sum(
            self._idf(term) * counts[term] / (norm + counts[term])
            for term in terms(query)
            if counts[term]
        )

    def _idf(self, term: str) -> float:
        hashed = term_hash(term)
        num_passages = self.base[0].base_passages
        num_with = sum(part.num_with_term(hashed) for part in self.base)
        if not num_with:  # of later segments only: counted among all passages
            num_passages = self._num_passages
            num_with = sum(part.num_with_term(hashed) for parts in self.later for part in parts)
        return float(np.log1p((num_passages - num_with + 0.5) / (num_with + 0.5)))


def wrong_words(samples: Sequence[SegmentSample]) -> list[Problem]:
    """Searches for each passage by its title and the beginning of its text.

    Args:
        samples: of all segments, the base's first.

    Returns:
        A problem for each segment with a passage that has another score than Lucene's BM25 gives
        it by the base's statistics.
    """
    nobody = np.zeros(0, np.int64)
    index = LexicalIndex.open(
        [sample.directories["bm25"] for sample in samples],
        [OpenSegment(sample.segment.span, nobody) for sample in samples],
    )
    statistics = _Statistics(samples)
    passages = [passage for sample in samples for passage in sample.passages]
    queries = [f"{passage.title} {passage.text[:_QUERY_CHARACTERS]}" for passage in passages]
    ids = [np.array([passage.id], np.int64) for passage in passages]
    _, scores = index.search_and_score(queries, k=1, also=ids)
    found_m = np.array([score for (score,) in scores], np.float64)
    expected_m = np.array(
        [statistics.score(query, passage) for query, passage in zip(queries, passages, strict=True)]
    )
    agrees_m = np.isclose(found_m, expected_m, rtol=_ROUNDING, atol=_ROUNDING)
    problems = []
    done = 0
    for number, sample in enumerate(samples):
        mine = slice(done, done + len(sample.passages))
        done = mine.stop
        (wrong,) = np.nonzero(~agrees_m[mine])
        if len(wrong):
            at = mine.start + wrong[0]
            passage = passages[at]
            part = sample.part("bm25", passage.id, sizes=statistics.sizes(number))
            what = (
                f"passage {passage.id} scores {found_m[at]:.4f} for its own first words, which "
                f"give {expected_m[at]:.4f}{sample.of_sample(len(wrong))}"
            )
            problems.append(sample.problem(part, what))
    return problems
