"""RowAdam against torch.optim.Adam, row by row."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.row_optimizer import RowAdam

N, S, K = 5, 2, 3


@settings(max_examples=40, deadline=None)
@given(
    touched=st.lists(st.sets(st.integers(0, N - 1)), min_size=1, max_size=8),
    scale=st.sampled_from([1e-4, 1.0, 1e3]),
    beta1=st.sampled_from([0.0, 0.9]),
    beta2=st.sampled_from([0.95, 0.999]),
    as_numpy=st.booleans(),
)
def test_touched_rows_move_as_under_torch_adam_and_others_rest(
    touched: list[set[int]], scale: float, beta1: float, beta2: float, as_numpy: bool
) -> None:
    generator = torch.Generator().manual_seed(len(touched))
    rows = torch.randn(N, S, K, generator=generator)
    singles = [rows[i].clone().requires_grad_() for i in range(N)]
    adams = [torch.optim.Adam([row], lr=0.1, betas=(beta1, beta2)) for row in singles]
    table = [rows.clone(), torch.zeros(N, S, K), torch.zeros(N, S, K)]
    steps = torch.zeros(N, dtype=torch.int32)
    optimizer = RowAdam(lr=0.5, betas=(beta1, beta2))
    for number, index in enumerate(touched):
        lr = 0.1 / (1 + number)  # a schedule
        order = sorted(index, reverse=True)
        grad = torch.randn(len(order), S, K, generator=generator) * scale
        arguments = [*table, steps]
        if as_numpy:
            arguments = [array.numpy() for array in arguments]
        optimizer.update(*arguments, index=np.array(order, dtype=np.int64), grad=grad, lr=lr)
        for i, g in zip(order, grad, strict=True):
            adams[i].param_groups[0]["lr"] = lr
            singles[i].grad = g.clone()
            adams[i].step()
    for i in range(N):
        torch.testing.assert_close(table[0][i], singles[i].detach(), atol=1e-6, rtol=1e-6)
        state = adams[i].state[singles[i]]
        assert steps[i] == int(state.get("step", 0))
        if state:
            torch.testing.assert_close(table[1][i], state["exp_avg"], atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(table[2][i], state["exp_avg_sq"], atol=1e-6, rtol=1e-6)
        else:
            assert torch.equal(table[0][i], rows[i]), "a row that rests doesn't move"


def test_late_bias_correction_stays_exact() -> None:
    row = torch.zeros(1, 1, 1).requires_grad_()
    adam = torch.optim.Adam([row], lr=0.1)
    table = [torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.zeros(1, 1, 1)]
    steps = torch.zeros(1, dtype=torch.int32)
    optimizer = RowAdam(lr=0.1)
    for number in range(500):
        grad = torch.full((1, 1, 1), float(np.sin(number)))
        optimizer.update(*table, steps, index=torch.tensor([0]), grad=grad)
        row.grad = grad.clone()
        adam.step()
    torch.testing.assert_close(table[0], row.detach(), atol=1e-5, rtol=1e-5)


def test_a_row_named_twice_is_refused() -> None:
    table = torch.zeros(3, N, S, K)
    steps = torch.zeros(N, dtype=torch.int32)
    with pytest.raises(ValueError, match="twice"):
        RowAdam().update(*table, steps, index=torch.tensor([1, 1]), grad=torch.ones(2, S, K))
