"""The best k of many scores, as a heap in two arrays whose root is the worst that is kept.

Of equal scores the lower id is the better one. This module imports numba, which takes half a
second: import it where it is called. After a change delete what numba has kept of its callers.
"""

from typing import Any

from polyprag.numba_kernels import machine_code


def _offer(scores: Any, ids: Any, count: int, score: float, identity: int) -> int:
    """Takes in an entry if it is among the best.

    Args:
        scores: (k,) float32, of which `count` are taken.
        ids: (k,) int64.
        count: entries that are kept so far.
        score: of the entry.
        identity: its id.

    Returns:
        How many are kept now.
    """
    if count < len(scores):
        at = count
        while at > 0:
            above = (at - 1) // 2
            if scores[above] < score or (scores[above] == score and ids[above] > identity):
                break
            scores[at], ids[at] = scores[above], ids[above]
            at = above
        scores[at], ids[at] = score, identity
        return count + 1
    if score > scores[0] or (score == scores[0] and identity < ids[0]):
        sift(scores, ids, count, score, identity)
    return count


def _sift(scores: Any, ids: Any, count: int, score: float, identity: int) -> None:
    """Puts an entry in the root's place and restores the heap of so many."""
    at = 0
    while 2 * at + 1 < count:
        child = 2 * at + 1
        if child + 1 < count and (
            scores[child + 1] < scores[child]
            or (scores[child + 1] == scores[child] and ids[child + 1] > ids[child])
        ):
            child += 1
        if scores[child] > score or (scores[child] == score and ids[child] < identity):
            break
        scores[at], ids[at] = scores[child], ids[child]
        at = child
    scores[at], ids[at] = score, identity


def _put_in_order(scores: Any, ids: Any, count: int) -> None:
    """Turns a heap of so many entries into a ranking, the best first."""
    for last in range(count - 1, 0, -1):  # the worst goes to the end, then the next
        worst_score, worst_id = scores[0], ids[0]
        score, identity = scores[last], ids[last]
        sift(scores, ids, last, score, identity)
        scores[last], ids[last] = worst_score, worst_id


sift = machine_code(_sift)
offer = machine_code(_offer)
put_in_order = machine_code(_put_in_order)
