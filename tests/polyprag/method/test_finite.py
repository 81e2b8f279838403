"""What isn't finite is found, wherever it is, and nothing else."""

import numpy as np
import pytest
import torch

from polyprag.method.finite import is_finite, names_not_finite, rows_not_finite


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_number_among_many_is_found(value: float, dtype: torch.dtype) -> None:
    numbers = torch.ones(3, 50, 7, dtype=dtype)
    assert is_finite(numbers) and not rows_not_finite(numbers).any()
    numbers[1, 49, 6] = value
    assert not is_finite(numbers)
    np.testing.assert_array_equal(rows_not_finite(numbers), [False, True, False])
    named = [("good", torch.ones(4)), ("bad", numbers), ("none", torch.ones(0, 3))]
    assert names_not_finite(named) == ["bad"]


def test_the_largest_weights_are_finite_and_whole_numbers_are_passed_over() -> None:
    largest = torch.full((64, 64), torch.finfo(torch.float32).max)
    assert names_not_finite([("w", largest), ("q", torch.full((2,), 255, dtype=torch.uint8))]) == []


def test_a_gradient_whose_square_is_infinite_is_refused() -> None:
    """2e19 squared is above 3.4e38, the largest float32; 1e18 squared isn't."""
    assert is_finite(torch.tensor([[1e18, 1.0]]))
    assert not is_finite(torch.tensor([[2e19, 1.0]]))
    np.testing.assert_array_equal(rows_not_finite(torch.tensor([[2e19], [1e18]])), [True, False])
