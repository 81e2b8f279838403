"""The schedule: where it starts, ends, and that it never leaves (0, 1]."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.training.schedule import rate_factor


@given(
    total=st.integers(1, 500),
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
    warmup=st.floats(0, 0.99),
    data=st.data(),
)
def test_factor_stays_in_range(
    total: int, schedule: str, warmup: float, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, total - 1))
    assert 0 < rate_factor(step, total, schedule=schedule, warmup_ratio=warmup) <= 1


def test_shapes() -> None:
    def at(step: int, schedule: str) -> float:
        return rate_factor(step, 100, schedule=schedule, warmup_ratio=0.1)

    assert [at(s, "constant") for s in (0, 4, 10, 99)] == pytest.approx([1 / 11, 5 / 11, 1, 1])
    assert [at(s, "linear") for s in (10, 55, 99)] == pytest.approx([1, 0.5, 1 / 90])
    assert at(55, "cosine") == pytest.approx(0.5)
    assert at(99, "cosine") == pytest.approx(0.5 * (1 - math.cos(math.pi / 90)))
