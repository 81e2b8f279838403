from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from polyprag.index.fusion import Ranking, best_of_scores, merged, reciprocal_rank_fusion

ids = st.lists(st.integers(0, 30), unique=True, max_size=20)


def ranking(passage_ids: list[int]) -> Ranking:
    return Ranking(np.array(passage_ids, np.int64), np.arange(len(passage_ids), 0, -1, np.float32))


@given(scores=st.lists(st.integers(0, 5), min_size=1, max_size=40), k=st.integers(1, 50))
def test_best_of_scores_equals_sorting_all_positive_scores(scores: list[int], k: int) -> None:
    found = best_of_scores(np.array(scores, np.float32), k=k)
    expected = sorted((-score, i) for i, score in enumerate(scores) if score > 0)[:k]
    assert list(zip((-found.scores).tolist(), found.ids.tolist(), strict=True)) == expected


@given(scores=st.lists(st.integers(1, 5), min_size=2, max_size=40), k=st.integers(1, 50))
def test_merged_rankings_are_the_ranking_of_all(scores: list[int], k: int) -> None:
    all_scores = np.array(scores, np.float32)
    middle = len(scores) // 2
    first, second = (best_of_scores(part, k=k) for part in np.split(all_scores, [middle]))
    found = merged([first, Ranking(second.ids + middle, second.scores)], k=k)
    expected = best_of_scores(all_scores, k=k)
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.scores.tolist() == expected.scores.tolist()


@given(first=ids, second=ids, k=st.integers(1, 50))
def test_fusion_equals_summing_reciprocal_ranks(
    first: list[int], second: list[int], k: int
) -> None:
    sums: dict[int, float] = defaultdict(float)
    for passage_ids in (first, second):
        for i in passage_ids:
            sums[i] += 1 / (60 + passage_ids.index(i) + 1)
    expected = sorted((-np.float32(score), i) for i, score in sums.items())[:k]
    found = reciprocal_rank_fusion([ranking(first), ranking(second)], k=k)
    assert found.ids.tolist() == [i for _, i in expected]
    assert found.scores.tolist() == [-score for score, _ in expected]


def test_a_passage_that_both_methods_find_beats_one_that_a_single_method_ranks_first() -> None:
    fused = reciprocal_rank_fusion([ranking([1, 2]), ranking([3, 2])], k=3)
    assert fused.ids.tolist() == [2, 1, 3]
