"""Risk and coverage against a brute-force loop, ties averaged over all orders."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.evaluation.risk_coverage import (
    curve_table,
    means_of_surest,
    risk_coverage,
    trust_scores,
)


def test_a_curve_by_hand() -> None:
    curve = risk_coverage([0.9, 0.1, 0.8, 0.3], [1.0, 0.0, 0.5, 0.0])
    # Surest first: 1, 0.5, 0, 0, whose running means are 1, 0.75, 0.5 and 0.375.
    assert curve is not None
    assert curve["f1_at"] == pytest.approx({"25": 1.0, "50": 0.75, "75": 0.5, "100": 0.375})
    assert curve["aurc"] == pytest.approx((0 + 0.25 + 0.5 + 0.625) / 4)
    assert risk_coverage([], []) is None


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=6))
def test_equal_confidences_count_as_if_in_random_order(pairs: list[tuple[int, int]]) -> None:
    confidences, f1 = (np.asarray(each, dtype=float) for each in zip(*pairs, strict=True))
    orders = [
        order
        for order in permutations(range(len(pairs)))
        if all(confidences[a] >= confidences[b] for a, b in pairwise(order))
    ]
    expected = np.mean(
        [np.cumsum(f1[list(order)]) / np.arange(1, len(f1) + 1) for order in orders], axis=0
    )
    np.testing.assert_allclose(means_of_surest(confidences, f1), expected)


def test_what_is_trusted_and_what_is_not() -> None:
    possible = [False] * 3
    scores = trust_scores([0.9, 0.2, 0.6], [True, False, True], [1.0, 0.25, 0.5], possible)
    assert scores is not None
    assert scores["coverage"] == pytest.approx(2 / 3)
    assert (scores["f1_trusted"], scores["f1_not_trusted"]) == (0.75, 0.25)
    assert scores["impossible_trusted"] is None
    none = trust_scores([0.0], [False], [0.0], [False])
    assert none is not None and none["f1_trusted"] is None
    assert trust_scores([], [], [], []) is None


def test_the_table_has_the_methods_that_were_judged() -> None:
    trust = trust_scores([0.9, 0.2], [True, False], [1.0, 0.0], [False, False])
    table = curve_table({"poly": {"trust": trust}, "rag": {"trust": None}, "closed": {}})
    assert table is not None and table.row_count == 1
    assert [next(iter(column.cells)) for column in table.columns[1:]] == [
        *("100.0", "100.0", "50.0", "50.0"),  # 75 % of two answers are both
        *("0.250", "50 %", "100.0", "0.0"),
    ]
    assert curve_table({"rag": {"trust": None}, "of before": {}}) is None


def test_questions_that_nothing_answers_count_by_whether_they_are_trusted() -> None:
    impossible = [False, True, True, True]
    trust = trust_scores(
        [0.9, 0.8, 0.2, 0.1], [True, True, False, False], [1.0, 0, 0, 0], impossible
    )
    assert trust is not None
    assert (trust["f1_trusted"], trust["impossible_trusted"]) == (0.5, pytest.approx(1 / 3))
    other = trust | {"impossible_trusted": None}
    table = curve_table({"poly": {"trust": trust}, "rag": {"trust": other}})
    assert table is not None
    assert list(table.columns[-1].cells) == ["33 %", "-"]
