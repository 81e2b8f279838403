from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.retrieval.fusion import (
    Ranking,
    best_of_candidates,
    best_of_parts,
    best_of_scores,
    ranking_of,
    reciprocal_rank_fusion,
    top_k_of,
    weighted_fusion,
)

ids = st.lists(st.integers(0, 30), unique=True, max_size=20)


def ranking(passage_ids: list[int]) -> Ranking:
    return Ranking(np.array(passage_ids, np.int64), np.arange(len(passage_ids), 0, -1, np.float32))


@given(scores=st.lists(st.integers(0, 5), min_size=1, max_size=40), k=st.integers(1, 50))
def test_best_of_scores_equals_sorting_all_positive_scores(scores: list[int], k: int) -> None:
    found = best_of_scores(np.array(scores, np.float32), k=k)
    expected = sorted((-score, i) for i, score in enumerate(scores) if score > 0)[:k]
    assert list(zip((-found.scores).tolist(), found.ids.tolist(), strict=True)) == expected


@given(scores=st.lists(st.integers(1, 5), min_size=2, max_size=40), k=st.integers(1, 50))
def test_the_best_of_parts_are_the_best_of_all(scores: list[int], k: int) -> None:
    all_scores = np.array(scores, np.float32)
    middle = len(scores) // 2
    first, second = (best_of_scores(part, k=k) for part in np.split(all_scores, [middle]))
    parts = [top_k_of([first], k=k), top_k_of([second], k=k).moved(middle)]
    expected = top_k_of([best_of_scores(all_scores, k=k)], k=k)
    for found in (best_of_parts(parts, k=k), best_of_parts([expected], k=k)):
        assert found.ids.tolist() == expected.ids.tolist()
        assert found.scores.tolist() == expected.scores.tolist()


@given(
    num_queries=st.integers(0, 4),
    num_candidates=st.integers(0, 30),
    k=st.integers(1, 40),
    levels=st.sampled_from([2, 8, 10**6]),
    seed=st.integers(0, 1000),
)
def test_the_best_of_candidates_equal_sorting_them_all(
    num_queries: int, num_candidates: int, k: int, levels: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    candidates = np.array(
        [generator.permutation(50)[:num_candidates] for _ in range(num_queries)], np.int64
    ).reshape(num_queries, num_candidates)
    candidates[generator.random(candidates.shape) < 0.2] = -1
    scores = generator.integers(-levels, levels, candidates.shape).astype(np.float32)
    found = best_of_candidates(candidates, scores, k=k)
    expected = [
        sorted((-score, i) for i, score in zip(row, of_row, strict=True) if i >= 0)[:k]
        for row, of_row in zip(candidates.tolist(), scores.tolist(), strict=True)
    ]
    assert found.ids.shape[1] == max(map(len, expected), default=0)
    for ranking, wanted in zip(found.rankings(), expected, strict=True):
        assert list(zip((-ranking.scores).tolist(), ranking.ids.tolist(), strict=True)) == wanted


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


def scored(scores_of: dict[int, float]) -> Ranking:
    return ranking_of(list(scores_of), list(scores_of.values()), k=len(scores_of))


def scores_of_ids(low: float, high: float) -> st.SearchStrategy[dict[int, float]]:
    return st.dictionaries(st.integers(0, 30), st.floats(low, high, width=32), max_size=20)


@given(
    lexical=scores_of_ids(0, 50),
    dense=scores_of_ids(-1, 1),
    share=st.floats(0, 1),
    k=st.integers(1, 50),
)
def test_weighted_fusion_equals_the_formula(
    lexical: dict[int, float], dense: dict[int, float], share: float, k: int
) -> None:
    def normalised(scores: dict[int, float], minimum: float, passage_id: int) -> float:
        span = max(scores.values(), default=minimum) - minimum
        return (scores.get(passage_id, minimum) - minimum) / span if span else 0.0

    sums = {
        i: (1 - share) * normalised(lexical, 0, i) + share * normalised(dense, -1, i)
        for i in {*lexical, *dense}
    }
    found = weighted_fusion(
        [scored(lexical), scored(dense)], weights=[1 - share, share], minima=[0, -1], k=k
    )
    assert len(found.ids) == min(k, len(sums))
    expected = sorted(sums.values(), reverse=True)[:k]
    np.testing.assert_allclose(found.scores, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        found.scores, [sums[i] for i in found.ids.tolist()], rtol=1e-6, atol=1e-7
    )


def test_weighted_fusion_keeps_how_far_the_scores_are_apart() -> None:
    lexical, dense = scored({1: 10.0, 2: 9.9, 3: 0.1}), scored({3: 0.9, 2: 0.8, 1: -0.9})
    found = weighted_fusion([lexical, dense], weights=[0.5, 0.5], minima=[0, -1], k=3)
    assert found.ids.tolist() == [2, 1, 3]
    by_hand = [(9.9 / 10 + 1.8 / 1.9) / 2, (1 + 0.1 / 1.9) / 2, (0.1 / 10 + 1) / 2]
    np.testing.assert_allclose(found.scores, by_hand, rtol=1e-6)


def test_weighted_fusion_of_equal_scores_counts_each_as_the_best() -> None:
    found = weighted_fusion(
        [scored({4: 2.0, 1: 2.0}), scored({})], weights=[0.5, 0.5], minima=[0, -1], k=9
    )
    assert found.ids.tolist() == [1, 4]
    assert found.scores.tolist() == [0.5, 0.5]


def test_weighted_fusion_of_nothing_is_empty() -> None:
    found = weighted_fusion([scored({}), scored({})], weights=[1, 1], minima=[0, -1], k=3)
    assert len(found.ids) == len(found.scores) == 0


def test_scores_at_the_minimum_or_rounded_below_it_add_nothing() -> None:
    below = np.nextafter(np.float32(-1), np.float32(-2))
    found = weighted_fusion([scored({1: -1.0, 2: float(below)})], weights=[1], minima=[-1], k=3)
    assert found.ids.tolist() == [1, 2]
    assert found.scores.tolist() == [0, 0]


def test_weighted_fusion_wants_a_weight_and_a_minimum_for_each_ranking() -> None:
    with pytest.raises(ValueError, match="shorter"):
        weighted_fusion([scored({1: 1.0}), scored({2: 1.0})], weights=[1], minima=[0, 0], k=1)
