"""Search by words and by vectors at once: what both methods found, in one ranking.

Q queries, m candidates of one of them, D numbers a vector.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from polyprag.config import RetrievalConfig
from polyprag.retrieval.dense.search import DenseIndex
from polyprag.retrieval.fusion import (
    Ranking,
    TopK,
    reciprocal_rank_fusion,
    top_k_of,
    weighted_fusion,
)
from polyprag.retrieval.lexical.search import LexicalIndex

_FUSED_DEPTH = 100  # hits of each method that are fused at least
_LARGEST_COSINE = 1.01  # what is beyond is an inner product of vectors that aren't of unit length


def hybrid_search(
    queries: Sequence[str],
    dense: DenseIndex,
    bm25: LexicalIndex,
    *,
    k: int,
    retrieval: RetrievalConfig,
) -> TopK:
    """Returns the best k passages of each query by both methods.

    Args:
        queries: at least one.
        dense: the index by vectors.
        bm25: the index by words.
        k: at least 1.
        retrieval: `fusion`, `dense_weight` and `refine`.
    """
    depth = max(k, _FUSED_DEPTH)
    vectors_QD = dense.encoder.encode_queries(queries)
    near = dense.search_vectors(vectors_QD, k=depth, refine=retrieval.refine).rankings()
    if retrieval.fusion == "rrf":
        pairs = zip(bm25.search(queries, k=depth).rankings(), near, strict=True)
        return top_k_of([reciprocal_rank_fusion(pair, k=k) for pair in pairs], k=k)
    by_words, scored = bm25.search_and_score(queries, k=depth, also=[each.ids for each in near])
    rankings = []
    for vector_D, nearest, best, words_of_nearest in zip(
        vectors_QD, near, by_words.rankings(), scored, strict=True
    ):
        other = ~np.isin(nearest.ids, best.ids)
        ids_m = np.concatenate([best.ids, nearest.ids[other]])
        words_m = np.concatenate([best.scores, words_of_nearest[other]])
        vectors_m = dense.scores(vector_D, ids_m)
        rankings.append(
            _weighted(ids_m, words_m, vectors_m, dense_weight=retrieval.dense_weight, k=k)
        )
    return top_k_of(rankings, k=k)


def _weighted(
    ids_m: npt.NDArray[np.int64],
    words_m: npt.NDArray[np.float32],
    vectors_m: npt.NDArray[np.float32],
    *,
    dense_weight: float,
    k: int,
) -> Ranking:
    """Returns the best k of candidates whose scores by both methods are known."""
    largest, smallest = vectors_m.max(initial=0.0), vectors_m.min(initial=0.0)
    is_cosine = largest <= _LARGEST_COSINE and smallest >= -_LARGEST_COSINE
    return weighted_fusion(
        (Ranking(ids_m, words_m), Ranking(ids_m, vectors_m)),
        weights=(1 - dense_weight, dense_weight),
        minima=(0.0, -1.0 if is_cosine else float(smallest)),
        k=k,
    )
