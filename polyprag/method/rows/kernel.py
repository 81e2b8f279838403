"""Adam on chosen rows of a table in one pass: a plain Python loop that numba compiles when asked.

Compiling takes about two seconds, once on a machine: numba keeps the machine code in
`__pycache__` beside this file, or, where that can't be written, in the user's cache directory
(`NUMBA_CACHE_DIR` names another). Loading it takes half a second. Every sum has a fixed order and
nothing may be reassociated, so what becomes of a row depends on that row alone, however rows are
grouped into calls.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from polyprag.numba_kernels import machine_code

TWICE, OUTSIDE, SHAPES = 1, 2, 3  # what the kernel returns where it changed nothing

_Floats = np.ndarray[Any, np.dtype[np.float32]]
_Int32s = np.ndarray[Any, np.dtype[np.int32]]
_Int64s = np.ndarray[Any, np.dtype[np.int64]]
Kernel = Callable[
    [_Floats, _Floats, _Floats, _Int32s, _Int64s, _Floats, float, float, float, float, float], int
]


def update_rows(
    rows: _Floats,
    exp_avg: _Floats,
    exp_avg_sq: _Floats,
    steps: _Int32s,
    index: _Int64s,
    grad: _Floats,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    grad_clip: float,
) -> int:
    """Adam (arXiv 1412.6980), each row with the bias correction of its own step count.

    Args:
        rows: (N, S, K), changed in place as the moments and step counts are.
        exp_avg: (N, S, K) first moments.
        exp_avg_sq: (N, S, K), (N, S, 1) or (N, 1, 1) second moments.
        steps: (N,), none of them negative.
        index: (M,) rows to update.
        grad: (M, S, K) their gradients.
        lr: learning rate.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: added to the denominator.
        grad_clip: the largest norm that a row's gradient keeps; 0 for any.

    Returns:
        0; with nothing changed, `TWICE` or `OUTSIDE` where `index` names a row twice or one that
        isn't there, and `SHAPES` where these don't fit.
    """

    def sum_of_squares(values: _Floats) -> float:
        sum0 = sum1 = sum2 = sum3 = 0.0  # four chains: one would wait for every addition
        whole = len(values) - len(values) % 4
        for j in range(0, whole, 4):
            x0, x1 = np.float64(values[j]), np.float64(values[j + 1])
            x2, x3 = np.float64(values[j + 2]), np.float64(values[j + 3])
            sum0 += x0 * x0
            sum1 += x1 * x1
            sum2 += x2 * x2
            sum3 += x3 * x3
        for j in range(whole, len(values)):
            sum0 += np.float64(values[j]) * np.float64(values[j])
        return (sum0 + sum1) + (sum2 + sum3)

    num_rows, sites, experts = rows.shape
    num_groups = exp_avg_sq.shape[1] * exp_avg_sq.shape[2]
    if (
        exp_avg.shape != rows.shape
        or exp_avg_sq.shape[0] != num_rows
        or (exp_avg_sq.shape[1] != sites and num_groups != 1)
        or exp_avg_sq.shape[2] not in (experts, 1)
        or len(steps) != num_rows
        or grad.shape != (len(index), sites, experts)
    ):
        return SHAPES

    # The step count of a row that was met is turned negative, which shows the second time.
    for m in range(len(index)):
        i = index[m]
        outside = i < 0 or i >= num_rows
        if outside or steps[i] < 0:
            for met in range(m):
                steps[index[met]] = ~steps[index[met]]
            return OUTSIDE if outside else TWICE
        steps[i] = ~steps[i]

    width = sites * experts
    size = width // max(num_groups, 1)
    flat_rows, flat_grad = rows.reshape(num_rows, width), grad.reshape(len(index), width)
    flat_first = exp_avg.reshape(num_rows, width)
    flat_second = exp_avg_sq.reshape(num_rows, num_groups)
    keep1, rest1 = np.float32(beta1), np.float32(1.0 - beta1)
    keep2, rest2, eps32 = np.float32(beta2), np.float32(1.0 - beta2), np.float32(eps)
    count, step_size, correction = 0, np.float32(0.0), np.float32(0.0)
    for m in range(len(index)):
        i = index[m]
        steps[i] = ~steps[i] + 1
        if steps[i] != count:  # two powers, which rows that are equally old share
            count = steps[i]
            step_size = np.float32(lr / (1.0 - beta1 ** np.float64(count)))
            correction = np.float32(1.0 / np.sqrt(1.0 - beta2 ** np.float64(count)))
        g, row, first, second = flat_grad[m], flat_rows[i], flat_first[i], flat_second[i]
        scale = np.float32(1.0)
        if grad_clip > 0.0:
            norm = np.sqrt(sum_of_squares(g))
            if norm > grad_clip:
                scale = np.float32(grad_clip / norm)
        if size == 1:
            for j in range(num_groups):
                x = g[j] * scale
                a = first[j] * keep1 + rest1 * x
                v = second[j] * keep2 + rest2 * (x * x)
                first[j] = a
                second[j] = v
                row[j] -= step_size * a / (np.sqrt(v) * correction + eps32)
            continue
        for group in range(num_groups):
            # Slices, because LLVM vectorises a loop whose index can't be negative.
            start, stop = group * size, (group + 1) * size
            g_s, first_s, row_s = g[start:stop], first[start:stop], row[start:stop]
            mean = sum_of_squares(g_s) / size * np.float64(scale) * np.float64(scale)
            v = second[group] * keep2 + rest2 * np.float32(mean)
            second[group] = v
            rate = step_size / (np.sqrt(v) * correction + eps32)
            for j in range(size):
                a = first_s[j] * keep1 + rest1 * (g_s[j] * scale)
                first_s[j] = a
                row_s[j] -= rate * a
    return 0


@functools.cache
def compiled() -> Kernel:
    """`update_rows` as machine code that runs without the GIL; the first call compiles or loads."""
    import numba  # half a second, and only training needs it

    floats = numba.float32[:, :, ::1]
    unchanged = numba.types.Array(numba.float32, 3, "C", readonly=True)
    index = numba.types.Array(numba.int64, 1, "C", readonly=True)
    signature = numba.int64(
        floats, floats, floats, numba.int32[::1], index, unchanged, *[numba.float64] * 5
    )
    # error_model: a check for division by zero in every step would keep LLVM from vectorising.
    kernel: Kernel = machine_code(update_rows, signature, error_model="numpy")
    return kernel
