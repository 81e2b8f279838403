"""The control's passages: never the question's own, and the same ones every time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.answering.controls import other_passages
from polyprag.errors import RunError


@given(st.text(max_size=20), st.sets(st.integers(-1, 11), max_size=8), st.integers(1, 4))
def test_ids_are_distinct_in_range_and_never_barred(
    question: str, barred: set[int], num_wanted: int
) -> None:
    ids = other_passages(question, num_wanted=num_wanted, num_passages=12, barred=barred, seed=0)
    assert len(set(ids.tolist())) == num_wanted
    assert set(ids.tolist()) <= set(range(12)) - barred
    again = other_passages(question, num_wanted=num_wanted, num_passages=12, barred=barred, seed=0)
    assert ids.tolist() == again.tolist()


def test_question_and_seed_change_the_choice() -> None:
    def chosen(question: str, seed: int) -> list[int]:
        ids = other_passages(question, num_wanted=3, num_passages=10**9, barred=(), seed=seed)
        return [int(i) for i in ids]

    assert chosen("a", 0) != chosen("b", 0)
    assert chosen("a", 0) != chosen("a", 1)


def test_a_corpus_without_other_passages_is_refused() -> None:
    with pytest.raises(RunError, match="2 of the corpus's 3 passages"):
        other_passages("q", num_wanted=2, num_passages=3, barred={0, 1, -1}, seed=0)
