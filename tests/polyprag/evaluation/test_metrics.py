"""SQuAD's known cases, and the bootstrap against one written with numpy alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.evaluation.metrics import (
    bootstrap_interval,
    contains_answer,
    exact_match,
    f1_score,
    normalize_answer,
    score,
)


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The  Cat, sat!", "cat sat"),
        ("an A.B. Theatre", "ab theatre"),
        ("Saint-Denis", "saintdenis"),
        ("the", ""),
        ("\n Anna\tthe great\n", "anna great"),
        ("São Paulo", "são paulo"),
    ],
)
def test_normalisation_of_squad(text: str, normalized: str) -> None:
    assert normalize_answer(text) == normalized


@pytest.mark.parametrize(
    ("prediction", "answer", "f1", "em"),
    [
        ("Denver Broncos", "The Denver Broncos", 1.0, 1.0),
        ("Santa Clara", "Santa Clara, California", 0.8, 0.0),  # p 1, r 2/3
        ("in the city of Paris, France", "Paris", 1 / 3, 0.0),  # p 1/5, r 1
        ("b b c", "b c c", 2 / 3, 0.0),  # multiplicity counts: 2 of 3 either way
        ("gold", "silver", 0.0, 0.0),
        ("", "silver", 0.0, 0.0),
        ("", "A", 0.0, 0.0),  # nothing said is never right
        (" \n", "The", 0.0, 0.0),
        ("?!", "The", 0.0, 0.0),
        ("", "", 0.0, 0.0),
        ("the", "a", 0.0, 0.0),  # of neither is anything left by normalising
        ("A", "A", 1.0, 1.0),
        (" The  The ", "The The", 1.0, 1.0),
        ("The Who", "The The", 0.5, 0.0),
        ("!!!", "!!!", 1.0, 1.0),
        ("The", "Theatre", 0.0, 0.0),
        ("Лев Толстой", "лев толстой", 1.0, 1.0),
        ("किशोर कुमार", "किशोर कुमार", 1.0, 1.0),
        ("कमल", "कमाल", 0.0, 0.0),  # a vowel's mark makes another word
        ("かき", "がき", 0.0, 0.0),  # so does the mark of a voiced sound
        ("がき", "か\u3099き", 1.0, 1.0),  # and it is the same in one character and in two
        ("Sa\u0303o Paulo", "São Paulo", 1.0, 1.0),
        ("Sao Paulo", "São Paulo", 0.5, 0.0),
        ("ＮＨＫ １９２５", "NHK 1925", 1.0, 1.0),  # noqa: RUF001 - wide forms
        ("東京", "東京", 1.0, 1.0),
        ("東京", "京都", 0.0, 0.0),
    ],
)
def test_f1_and_exact_match_of_known_cases(
    prediction: str, answer: str, f1: float, em: float
) -> None:
    assert f1_score(prediction, answer) == pytest.approx(f1)
    assert exact_match(prediction, answer) == em


def test_presence_wants_whole_tokens_in_order() -> None:
    assert contains_answer("She was born in New York City.", "new york") == 1.0
    assert contains_answer("She was born in Newark", "New") == 0.0
    assert contains_answer("York, New", "New York") == 0.0
    assert contains_answer("anything", "The") == 0.0
    assert contains_answer("by The The", "The The") == 1.0
    assert contains_answer("", "A") == contains_answer("", "") == 0.0


def test_each_score_is_the_best_over_aliases() -> None:
    scores = score("the film director", ["actor", "film maker", "director", "film director"])
    assert (scores.f1, scores.em, scores.contains) == (1.0, 1.0, 1.0)
    assert score("anything", []).f1 == 0.0


@given(st.text(max_size=40), st.text(max_size=40))
def test_f1_is_symmetric_bounded_and_one_for_exact_matches(left: str, right: str) -> None:
    if normalize_answer(left) and normalize_answer(right):
        assert f1_score(left, right) == pytest.approx(f1_score(right, left))
    assert 0.0 <= f1_score(left, right) <= 1.0
    if exact_match(left, right):
        assert f1_score(left, right) == 1.0
    assert f1_score("", left) == exact_match("", left) == contains_answer("", left) == 0.0
    assert exact_match(left, left) == float(bool(left.strip()))


def test_interval_agrees_with_a_numpy_bootstrap() -> None:
    rng = np.random.default_rng(7)
    values = rng.beta(0.4, 0.6, size=300)
    means = rng.choice(values, size=(20_000, values.size)).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    interval = bootstrap_interval(list(values), seed=3)
    assert interval is not None
    assert interval[0] == pytest.approx(low, abs=0.004)
    assert interval[1] == pytest.approx(high, abs=0.004)
    assert interval == bootstrap_interval(list(values), seed=3)


def test_interval_of_few_or_equal_values() -> None:
    assert bootstrap_interval([]) is None
    assert bootstrap_interval([0.25]) == (0.25, 0.25)
    assert bootstrap_interval([1.0] * 9) == (1.0, 1.0)
