"""Rows of an fp16 array as fp32: gathered and converted in one pass over the memory map.

NumPy converts fp16 one number at a time, which took most of the time of a search's rows (2.3 ns a
number). Here the bits of the exponent and the mantissa are moved to where fp32 has them, which
vectorises, and one multiplication mends the exponent's bias; it is exact, denormals included, for
all finite numbers.
"""

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from polyprag.machine_code import machine_code

_BIAS = np.float32(2.0**112)  # fp32's exponent bias of 127 less fp16's of 15
_Gather = Callable[[npt.NDArray[np.uint16], npt.NDArray[np.int64], npt.NDArray[np.uint32]], bool]


def take_half(
    table: npt.NDArray[np.float16], positions: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """The rows of a table at positions, in their order.

    Args:
        table: (n, ...) C-contiguous, of finite numbers.
        positions: (m,) from 0 to n - 1.

    Returns:
        (m, ...) float32.

    Raises:
        IndexError: there is no such position.
    """
    numbers = table.size // max(len(table), 1)
    bits = np.empty((len(positions), numbers), np.uint32)
    if not _compiled()(table.view(np.uint16).reshape(len(table), numbers), positions, bits):
        raise IndexError(f"positions must be from 0 to {len(table) - 1}")
    taken = bits.view(np.float32)
    taken *= _BIAS
    return taken.reshape(len(positions), *table.shape[1:])


def _gather(
    table: npt.NDArray[np.uint16],
    positions: npt.NDArray[np.int64],
    bits: npt.NDArray[np.uint32],
) -> bool:
    for i in range(len(positions)):
        if not 0 <= positions[i] < len(table):
            return False
        row = table[positions[i]]
        for j in range(row.shape[0]):
            half = np.uint32(row[j])
            sign = (half & np.uint32(0x8000)) << np.uint32(16)
            bits[i, j] = sign | ((half & np.uint32(0x7FFF)) << np.uint32(13))
    return True


@functools.cache
def _compiled() -> _Gather:
    compiled: _Gather = machine_code(_gather)
    return compiled
