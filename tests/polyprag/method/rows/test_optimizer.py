"""RowAdam against torch.optim.Adam, row by row, and against the formula in float64."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyprag.method.rows.kernel import compiled
from polyprag.method.rows.optimizer import RowAdam

N = 6

shapes = st.tuples(st.integers(1, 4), st.integers(1, 19))
touched_rows = st.lists(st.sets(st.integers(0, N - 1)), min_size=1, max_size=10)


def state(shape: tuple[int, int], groups: tuple[int, int] | None = None) -> list[Tensor]:
    """Rows, both moments and the step counts of an untrained table."""
    generator = torch.Generator().manual_seed(0)
    second = torch.zeros(N, *(groups or shape))
    rows = torch.randn(N, *shape, generator=generator)
    return [rows, torch.zeros(N, *shape), second, torch.zeros(N, dtype=torch.int32)]


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes,
    touched=touched_rows,
    scale=st.sampled_from([1e-4, 1.0, 1e3]),
    beta1=st.sampled_from([0.0, 0.9]),
    beta2=st.sampled_from([0.95, 0.999]),
    clip=st.sampled_from([0.0, 1e-3, 2.0]),
    as_numpy=st.booleans(),
)
def test_touched_rows_move_as_under_torch_adam_and_others_rest(
    shape: tuple[int, int],
    touched: list[set[int]],
    scale: float,
    beta1: float,
    beta2: float,
    clip: float,
    as_numpy: bool,
) -> None:
    generator = torch.Generator().manual_seed(len(touched))
    arrays: list[Any] = state(shape)
    before = arrays[0].clone()
    singles = [row.clone().requires_grad_() for row in before]
    adams = [torch.optim.Adam([row], lr=0.1, betas=(beta1, beta2)) for row in singles]
    optimizer = RowAdam(lr=0.5, betas=(beta1, beta2), grad_clip=clip)
    for number, rows in enumerate(touched):
        lr = 0.1 / (1 + number)  # a schedule
        order = sorted(rows, reverse=True)
        grad = torch.randn(len(order), *shape, generator=generator) * scale
        given = [array.numpy() for array in arrays] if as_numpy else arrays
        optimizer.update(*given, index=np.array(order, dtype=np.int64), grad=grad, lr=lr)
        for i, g in zip(order, grad, strict=True):
            adams[i].param_groups[0]["lr"] = lr
            singles[i].grad = g.clone()
            if clip:
                singles[i].grad = (g * (clip / g.double().norm()).clamp(max=1)).float()
            adams[i].step()
    table, exp_avg, exp_avg_sq, steps = arrays
    for i in range(N):
        torch.testing.assert_close(table[i], singles[i].detach(), atol=1e-6, rtol=1e-6)
        adam = adams[i].state[singles[i]]
        assert steps[i] == int(adam.get("step", 0))
        if adam:
            for mine, theirs, unit in (
                (exp_avg, "exp_avg", scale),
                (exp_avg_sq, "exp_avg_sq", scale**2),
            ):
                torch.testing.assert_close(
                    mine[i] / unit, adam[theirs] / unit, atol=1e-6, rtol=1e-6
                )
        else:
            assert torch.equal(table[i], before[i]), "a row that rests doesn't move"
            assert not exp_avg[i].any() and not exp_avg_sq[i].any()


@settings(max_examples=60, deadline=None)
@given(shape=shapes, touched=touched_rows, of=st.sampled_from(["site", "row"]), clip=st.booleans())
def test_shared_second_moments_follow_the_mean_of_squared_gradients(
    shape: tuple[int, int], touched: list[set[int]], of: str, clip: bool
) -> None:
    generator = np.random.default_rng(len(touched))
    groups = (shape[0], 1) if of == "site" else (1, 1)
    rows, exp_avg, exp_avg_sq, steps = (array.numpy() for array in state(shape, groups))
    w = rows.astype(np.float64)
    m, v = np.zeros_like(w), np.zeros((N, *groups))
    count = np.zeros(N, int)
    optimizer = RowAdam(lr=0.01, betas=(0.8, 0.9), grad_clip=0.5 if clip else 0.0)
    for index in map(sorted, touched):
        grad = generator.standard_normal((len(index), *shape)).astype(np.float32)
        optimizer.update(rows, exp_avg, exp_avg_sq, steps, index=np.array(index, int), grad=grad)
        for i, g in zip(index, grad.astype(np.float64), strict=True):
            if clip:
                g = g * min(1.0, 0.5 / np.linalg.norm(g))
            count[i] += 1
            m[i] = 0.8 * m[i] + 0.2 * g
            mean = (g**2).mean(axis=1, keepdims=True) if of == "site" else (g**2).mean()
            v[i] = 0.9 * v[i] + 0.1 * mean
            denominator = np.sqrt(v[i] / (1 - 0.9 ** count[i])) + 1e-8
            w[i] -= 0.01 * m[i] / (1 - 0.8 ** count[i]) / denominator
    np.testing.assert_allclose(rows, w, atol=1e-6)
    np.testing.assert_allclose(exp_avg, m, atol=1e-6)
    np.testing.assert_allclose(exp_avg_sq, v, atol=1e-6)
    np.testing.assert_array_equal(steps, count)


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes,
    owners=st.lists(st.integers(0, 2), min_size=N, max_size=N),
    touched=touched_rows,
    of=st.sampled_from(["element", "site", "row"]),
)
def test_rows_end_bit_identical_however_they_are_spread_over_partitions(
    shape: tuple[int, int], owners: list[int], touched: list[set[int]], of: str
) -> None:
    groups = {"element": shape, "site": (shape[0], 1), "row": (1, 1)}[of]
    optimizer = RowAdam(lr=0.1, grad_clip=1.0)
    together = [array.numpy() for array in state(shape, groups)]
    members = [[i for i in range(N) if owners[i] == owner] for owner in range(3)]
    apart = [[array[ids] for array in together] for ids in members]
    generator = np.random.default_rng(0)

    def update(owner: int, index: list[int], grad: Any) -> None:
        mine = [i for i in index if i in members[owner]]
        at = [members[owner].index(i) for i in mine]
        g = grad[[index.index(i) for i in mine]]
        optimizer.update(*apart[owner], index=np.array(at, np.int32), grad=g)

    with ThreadPoolExecutor(3) as pool:
        for index in map(list, touched):
            grad = generator.standard_normal((len(index), *shape), dtype=np.float32)
            optimizer.update(*together, index=np.array(index, np.int64), grad=grad)
            list(pool.map(lambda owner, i=index, g=grad: update(owner, i, g), range(3)))
    for owner, ids in enumerate(members):
        for whole, part in zip(together, apart[owner], strict=True):
            assert whole[ids].tobytes() == part.tobytes()


def test_summed_examples_of_one_passage_count_as_one_step() -> None:
    rows, exp_avg, exp_avg_sq, steps = state((2, 3))
    single = rows[4].clone().requires_grad_()
    adam = torch.optim.Adam([single], lr=0.1)
    grads = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(1))
    ids, owner = np.unique([4, 1, 4], return_inverse=True)
    summed = torch.zeros(2, 2, 3).index_add_(0, torch.from_numpy(owner), grads)
    RowAdam(lr=0.1).update(rows, exp_avg, exp_avg_sq, steps, index=ids, grad=summed)
    (single * grads[0]).sum().backward()
    (single * grads[2]).sum().backward()
    adam.step()
    torch.testing.assert_close(rows[4], single.detach(), atol=1e-6, rtol=1e-6)
    assert steps.tolist() == [0, 1, 0, 0, 1, 0]


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


@pytest.mark.parametrize(
    ("index", "message"),
    [([1, 2, 1], "twice"), ([1, 2, N], "outside"), ([1, 2, -1], "outside")],
)
def test_a_row_named_twice_or_not_there_is_refused_and_nothing_changes(
    index: list[int], message: str
) -> None:
    arrays = state((2, 3))
    before = [array.clone() for array in arrays]
    with pytest.raises(ValueError, match=message):
        RowAdam().update(*arrays, index=torch.tensor(index), grad=torch.ones(3, 2, 3))
    assert all(map(torch.equal, arrays, before))


@pytest.mark.parametrize(
    ("position", "wrong"),
    [
        (0, torch.zeros(N, 2, 3, dtype=torch.float64)),
        (0, torch.zeros(3, N, 2).permute(1, 2, 0)),
        (1, torch.zeros(N - 1, 2, 3)),
        (2, torch.zeros(N, 1, 3)),
        (2, torch.zeros(N + 1, 2, 3)),
        (3, torch.zeros(N, dtype=torch.int64)),
        (3, torch.zeros(N - 1, dtype=torch.int32)),
    ],
)
def test_arrays_that_the_kernel_would_misread_are_refused(position: int, wrong: Tensor) -> None:
    arrays = state((2, 3))
    arrays[position] = wrong
    with pytest.raises(ValueError, match=r"must be|shapes don't fit"):
        RowAdam().update(*arrays, index=torch.tensor([0]), grad=torch.ones(1, 2, 3))
    with pytest.raises(ValueError, match="shapes don't fit"):
        RowAdam().update(*state((2, 3)), index=torch.tensor([0]), grad=torch.ones(1, 3, 2))


@pytest.fixture
def recompiled() -> Iterator[None]:
    compiled.cache_clear()
    yield
    compiled.cache_clear()


def test_no_directory_for_the_machine_code_means_compiling_without_one(
    monkeypatch: pytest.MonkeyPatch, recompiled: None
) -> None:
    from numba.core import caching

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    arrays = state((2, 3))
    RowAdam().update(*arrays, index=torch.tensor([0]), grad=torch.ones(1, 2, 3))
    assert arrays[3][0] == 1


def test_numba_is_not_imported_before_the_first_update() -> None:
    check = "import polyprag.method.rows.optimizer, sys; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
