"""BM25's search of one part as one loop: add up the finished scores, keep the best k.

A plain Python loop over bm25s's arrays that numba compiles when it is first used. bm25s has such
loops too, but takes a query at a time from Python or all cores for all of them, knows nothing of
passages that are hidden, and leaves open which of equal scores come first.

This module imports numba, which takes half a second: import it where it is called.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from polyprag.numba_kernels import machine_code
from polyprag.retrieval.heap_kernel import offer, put_in_order

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float32]
_BLOCK = 64  # passages that are looked at together


def _search_part(
    data: _Floats,
    indices: npt.NDArray[np.int32],
    indptr: _Ints,
    columns: _Ints,
    column_starts: _Ints,
    hidden: _Ints,
    also: _Ints,
    also_starts: _Ints,
    num_passages: int,
    first: int,
    end: int,
    best_ids: _Ints,
    best_scores: _Floats,
    also_scores: _Floats,
) -> bool:
    """Finds the best k of n passages for some of Q queries; False where the arrays are damaged.

    The arrays may come from elsewhere, and are indexed by what is in them: it is looked at here,
    where it is used (a tenth of a query's time), rather than in all gigabytes when they are opened.

    Equal scores come in the order of their passages; only scores above 0 are found.

    Args:
        data: (T,) scores of pairs of a term and a passage that has it, by term.
        indices: (T,) the pairs' passages, 0 to n - 1.
        indptr: (V + 1,) where each term's pairs begin.
        columns: the queries' terms, one query after the other.
        column_starts: (Q + 1,) where each query's terms begin.
        hidden: passages that aren't found.
        also: passages that are scored whatever is found, one query after the other; those that
            aren't from 0 to n - 1 are passed over.
        also_starts: (Q + 1,) where each query's begin.
        num_passages: n.
        first: of the queries that are searched.
        end: of them.
        best_ids: (Q, k), filled with -1; the passages found.
        best_scores: (Q, k) their scores.
        also_scores: as `also`.
    """
    k = best_ids.shape[1]
    padded = -(-num_passages // _BLOCK) * _BLOCK
    scores = np.zeros(padded, np.float32)
    sound = True
    for q in range(first, end):
        for t in range(column_starts[q], column_starts[q + 1]):
            begin, stop = indptr[columns[t]], indptr[columns[t] + 1]
            if begin < 0 or stop > len(indices) or stop > len(data):
                sound = False
                continue
            for j in range(begin, stop):
                passage = indices[j]
                if passage < 0 or passage >= num_passages:
                    sound = False
                    continue
                scores[passage] += data[j]
        for passage in hidden:
            scores[passage] = 0
        for a in range(also_starts[q], also_starts[q + 1]):
            if 0 <= also[a] < num_passages:
                also_scores[a] = scores[also[a]]
        ids, best = best_ids[q], best_scores[q]
        count = 0
        least = np.float32(0)  # a score must be above
        for block in range(0, padded, _BLOCK):
            above = 0
            for i in range(block, block + _BLOCK):  # which becomes a few vector instructions
                above += scores[i] > least
            if above > 0:
                for i in range(block, block + _BLOCK):
                    score = scores[i]
                    if score <= least:
                        continue
                    if not score < np.inf:
                        sound = False
                        continue
                    count = offer(best, ids, count, score, i)
                    if count == k:
                        least = best[0]
            for i in range(block, block + _BLOCK):
                scores[i] = 0
        put_in_order(best, ids, count)
    return sound


search_part: Any = machine_code(_search_part)
