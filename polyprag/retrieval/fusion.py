"""Rankings, how the best of many scores are taken, and how rankings are fused."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RRF_CONSTANT = 60  # Cormack, Clarke and Buettcher, SIGIR 2009


class Ranking(NamedTuple):
    """Passages, best first; equal scores in the order of their ids.

    Attributes:
        ids: (n,) int64 passage ids, each once.
        scores: (n,) float32, falling.
    """

    ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


class TopK(NamedTuple):
    """The rankings of Q queries as arrays, k wide.

    Attributes:
        ids: (Q, k) int64 passage ids, best first; -1 where fewer were found.
        scores: (Q, k) float32, falling; -inf where fewer were found.
    """

    ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]

    def rankings(self) -> list[Ranking]:
        """Returns one ranking a query, without what wasn't found."""
        lengths = np.count_nonzero(self.ids >= 0, axis=1).tolist()
        return [
            Ranking(ids[:length], scores[:length])
            for ids, scores, length in zip(self.ids, self.scores, lengths, strict=True)
        ]

    def moved(self, first_id: int) -> "TopK":
        """Returns the same with ids that count from another one than 0."""
        return TopK(
            np.where(self.ids < 0, -1, self.ids + first_id) if first_id else self.ids, self.scores
        )


def top_k_of(rankings: Sequence[Ranking], *, k: int) -> TopK:
    """Rankings as arrays that are k wide, or as wide as the longest of them."""
    width = min(k, max((len(ranking.ids) for ranking in rankings), default=0))
    ids_Qk = np.full((len(rankings), width), -1, np.int64)
    scores_Qk = np.full((len(rankings), width), -np.inf, np.float32)
    for ids_k, scores_k, ranking in zip(ids_Qk, scores_Qk, rankings, strict=True):
        length = min(len(ranking.ids), width)
        ids_k[:length], scores_k[:length] = ranking.ids[:length], ranking.scores[:length]
    return TopK(ids_Qk, scores_Qk)


def best_of_candidates(
    ids: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], *, k: int
) -> TopK:
    """Returns the best k of each query's candidates, equal scores in the order of their ids.

    Args:
        ids: (Q, c), each once a query; -1 for none.
        scores: (Q, c) float32.
        k: at least 1; the result is no wider than the longest ranking.
    """
    is_whole = ids.shape[1] <= k and ids.size > 0 and ids.min() >= 0
    if is_whole and (scores[:, 1:] < scores[:, :-1]).all():  # sorted already, and no two are equal
        return TopK(ids, scores)
    missing = ids < 0
    if missing.any():
        scores = np.where(missing, np.float32(-np.inf), scores)
    width = min(k, int((~missing).sum(axis=1).max(initial=0)))
    falling = -scores
    # The best k and one more, which tells whether the last of them is equal to what is left out.
    order = np.argsort(falling, axis=1)[:, : k + 1] if ids.shape[1] <= 2 * k else _best(falling, k)
    best = np.take_along_axis(scores, order, 1)
    tied = ((best[:, 1:] == best[:, :-1]) & (best[:, 1:] > -np.inf)).any(axis=1)
    if tied.any():
        order[tied] = np.lexsort((ids[tied], falling[tied]), axis=1)[:, : k + 1]
    order = order[:, :width]
    return TopK(np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1))


def _best(falling: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """Finds the lowest k + 1 numbers of each row, in order, without sorting the rest."""
    chosen = np.argpartition(falling, k, axis=1)[:, : k + 1]
    within = np.argsort(np.take_along_axis(falling, chosen, 1), axis=1)
    return np.take_along_axis(chosen, within, 1)


def best_of_parts(parts: Sequence[TopK], *, k: int) -> TopK:
    """Returns the best k of what was found in parts that have no passage in common.

    Args:
        parts: of the same queries, each k wide at most; scores are on one scale.
        k: at least 1; the result is no wider than the longest ranking.
    """
    if len(parts) > 1:
        ids_Qc = np.concatenate([part.ids for part in parts], axis=1)
        return best_of_candidates(ids_Qc, np.concatenate([p.scores for p in parts], axis=1), k=k)
    ids_Qk, scores_Qk = parts[0]
    width = int(np.count_nonzero(ids_Qk >= 0, axis=1).max(initial=0))
    return TopK(ids_Qk[:, :width], scores_Qk[:, :width])


def ranking_of(ids: npt.ArrayLike, scores: npt.ArrayLike, *, k: int) -> Ranking:
    """Returns the best k of candidates given in any order."""
    ids_n = np.asarray(ids, dtype=np.int64)
    scores_n = np.asarray(scores, dtype=np.float32)
    order = np.lexsort((ids_n, -scores_n))[:k]
    return Ranking(ids_n[order], scores_n[order])


def best_of_scores(scores: npt.NDArray[np.float32], *, k: int) -> Ranking:
    """Returns the best k of all N passages among those that score above 0.

    Args:
        scores: (N,) one score a passage.
        k: at least 1; fewer are returned where fewer passages score above 0.
    """
    threshold = np.float32(0)
    if k < len(scores):
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    candidates = np.flatnonzero((scores >= threshold) & (scores > 0))
    return ranking_of(candidates, scores[candidates], k=k)


def reciprocal_rank_fusion(
    rankings: Sequence[Ranking], *, k: int, constant: int = RRF_CONSTANT
) -> Ranking:
    """Fuses rankings by the sum of 1 / (constant + rank), ranks counted from 1.

    Args:
        rankings: of the same query by different methods, each deeper than k where it can be.
        k: how many passages to return at most.
        constant: larger values let lower ranks count more.
    """
    fused: dict[int, float] = {}
    for ranking in rankings:
        for rank, passage_id in enumerate(ranking.ids.tolist(), start=1):
            fused[passage_id] = fused.get(passage_id, 0.0) + 1.0 / (constant + rank)
    return ranking_of(list(fused), list(fused.values()), k=k)


def weighted_fusion(
    rankings: Sequence[Ranking],
    *,
    weights: Sequence[float],
    minima: Sequence[float],
    k: int,
) -> Ranking:
    """Fuses rankings by a weighted sum of their normalised scores.

    A method's score becomes (score - minimum) / (the query's best score - minimum): the theoretical
    min-max of Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", ACM
    TOIS 2023. Unlike ranks it keeps by how much one passage is better than the next.

    Args:
        rankings: of the same query by different methods, each deeper than k where it can be. A
            passage that one of them lacks has that method's minimum.
        weights: one for each ranking, 0 or more.
        minima: the lowest score that each method can give: 0 for BM25, -1 for a cosine.
        k: how many passages to return at most.

    Raises:
        ValueError: there aren't as many weights and minima as rankings.
    """
    fused: dict[int, float] = {}
    for ranking, weight, minimum in zip(rankings, weights, minima, strict=True):
        above = np.maximum(ranking.scores.astype(np.float64) - minimum, 0)
        best = above.max(initial=0.0)
        shares = above / best if best > 0 else above  # all at the minimum: they stay 0
        for passage_id, share in zip(ranking.ids.tolist(), shares.tolist(), strict=True):
            fused[passage_id] = fused.get(passage_id, 0.0) + weight * share
    return ranking_of(list(fused), list(fused.values()), k=k)
