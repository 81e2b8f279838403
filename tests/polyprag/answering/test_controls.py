"""The control's passages: never the question's own, and the same ones every time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.answering.controls import other_passages, random_rows
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


def test_random_rows_are_as_spread_as_the_passages_own_and_belong_to_none() -> None:
    rng = np.random.default_rng(5)
    scale = np.array([[[0.5], [3.0]], [[1.0], [0.0]]])  # of each row at each site
    own = rng.uniform(-1, 1, (2, 2, 4000)) * scale + np.array([[[7.0], [-2.0]], [[0.0], [4.0]]])
    drawn = random_rows("q", own, ids=[3, 9], seed=0)
    assert drawn.shape == own.shape and drawn.dtype == np.float32
    # A uniform number from -s to s has the standard deviation s / sqrt(3).
    np.testing.assert_allclose(drawn.std(-1), scale[..., 0] / np.sqrt(3), rtol=0.05, atol=1e-6)
    np.testing.assert_allclose(drawn.mean(-1), [[7, -2], [0, 4]], atol=0.15)
    across = np.corrcoef(np.vstack([own.reshape(4, -1)[:3], drawn.reshape(4, -1)[:3]]))
    assert np.abs(across - np.eye(6)).max() < 0.08  # alike nowhere
    alone = random_rows("q", own[1:], ids=[9], seed=0)
    np.testing.assert_array_equal(alone[0], drawn[1])
    assert not np.allclose(random_rows("q", own, ids=[3, 9], seed=1), drawn)
    assert not np.allclose(random_rows("p", own, ids=[3, 9], seed=0)[:, 0], drawn[:, 0])


def test_a_corpus_without_other_passages_is_refused() -> None:
    with pytest.raises(RunError, match="2 of the corpus's 3 passages"):
        other_passages("q", num_wanted=2, num_passages=3, barred={0, 1, -1}, seed=0)
