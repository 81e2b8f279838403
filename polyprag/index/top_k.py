"""The best k of many scores, in one pass over them: a loop that numba compiles at its first use.

`numpy.partition` moves all N scores to find a few; with a heap of k, nearly every score costs one
comparison.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from polyprag.index.fusion import Ranking, ranking_of

_Floats = npt.NDArray[np.float32]
_Kernel = Callable[[_Floats, _Floats, npt.NDArray[np.int64]], int]


def best_of_scores(scores: _Floats, *, k: int) -> Ranking:
    """The best k of all N passages among those that score above 0.

    Args:
        scores: (N,) one score a passage.
        k: at least 1; fewer are returned where fewer passages score above 0.
    """
    k = min(k, len(scores))
    best, ids = np.empty(k, np.float32), np.empty(k, np.int64)
    count = _compiled()(scores, best, ids) if k else 0
    return ranking_of(ids[:count], best[:count], k=k)


def _fill_heap(scores: _Floats, best: _Floats, ids: npt.NDArray[np.int64]) -> int:
    """Fills a heap whose root is the worst that is kept: of equal scores the highest id.

    Ids rise as the scores are read, so one that only equals the root never replaces it.
    """
    size, count = len(best), 0
    for i in range(len(scores)):
        score = scores[i]
        if score <= 0 or (count == size and score <= best[0]):
            continue
        if count < size:
            at = count
            count += 1
            while at > 0 and best[(at - 1) // 2] >= score:  # of equals, the later one goes up
                best[at], ids[at] = best[(at - 1) // 2], ids[(at - 1) // 2]
                at = (at - 1) // 2
        else:
            at = 0
            while 2 * at + 1 < size:
                child = 2 * at + 1
                if child + 1 < size and (
                    best[child + 1] < best[child]
                    or (best[child + 1] == best[child] and ids[child + 1] > ids[child])
                ):
                    child += 1
                if best[child] >= score:
                    break
                best[at], ids[at] = best[child], ids[child]
                at = child
        best[at], ids[at] = score, i
    return count


@functools.cache
def _compiled() -> _Kernel:
    import numba

    try:
        kernel: Any = numba.njit(cache=True, nogil=True)(_fill_heap)
    except (OSError, RuntimeError):  # no directory can be written to: compile in every process
        kernel = numba.njit(nogil=True)(_fill_heap)
    compiled: _Kernel = kernel
    return compiled
