"""Inner products of queries with chosen fp16 vectors in the shards of a memory map.

Candidates lie anywhere in gigabytes of vectors, so their memory is asked for some candidates ahead,
and the numbers are widened as they are multiplied. One costs 60 ns where gathering them and
multiplying took 530 (256 numbers, 1,000 candidates a query).

This module imports numba, which takes half a second: import it where it is called.

Q queries, c candidates, D numbers a vector.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir

from polyprag.machine_code import in_threads, machine_code

_AHEAD = 8  # candidates whose memory is on its way
_BIAS = np.float32(2.0**112)  # fp32's exponent bias of 127 less fp16's of 15
_A_THREAD = 4096  # candidates that are worth a thread: a quarter of a millisecond
_numba: Any = numba  # which has no types


def _prefetch(_typing: Any, _address: Any) -> Any:
    """Asks for the cache line at an address."""

    def instruction(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        integer, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        signature = ir.FunctionType(ir.VoidType(), [pointer, integer, integer, integer])
        function = builder.module.declare_intrinsic("llvm.prefetch", (pointer,), signature)
        to_read, keep, data = integer(0), integer(3), integer(1)
        address = builder.inttoptr(arguments[0], pointer)
        builder.call(function, [address, to_read, keep, data])
        return context.get_dummy_value()

    return _numba.types.void(_numba.types.uintp), instruction


def _pointer(_typing: Any, _address: Any) -> Any:
    """A pointer to the bits of fp16 numbers at an address."""

    def instruction(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return _numba.types.CPointer(_numba.types.uint16)(_numba.types.uintp), instruction


_prefetched = _numba.extending.intrinsic(_prefetch)
_halves_at = _numba.extending.intrinsic(_pointer)


def _score(
    addresses: Any, firsts: Any, queries: Any, positions: Any, scores: Any, first: int, end: int
) -> None:
    """Scores the candidates of queries from `first` to `end`."""
    num_dims, num_candidates = queries.shape[1], positions.shape[1]
    places = np.empty(num_candidates, np.uintp)
    for q in range(first, end):
        for c in range(num_candidates):
            position = positions[q, c]
            if position < 0:
                places[c] = 0
                continue
            shard = np.searchsorted(firsts, position, side="right") - 1
            ahead = np.uintp((position - firsts[shard]) * num_dims * 2)
            places[c] = addresses[shard] + ahead
        for c in range(num_candidates):
            if c + _AHEAD < num_candidates:
                for byte in range(0, 2 * num_dims, 64):
                    _prefetched(places[c + _AHEAD] + np.uintp(byte))
            if places[c] == 0:
                scores[q, c] = -np.inf
                continue
            halves = _numba.carray(_halves_at(places[c]), num_dims)
            total = np.float32(0)
            for j in range(num_dims):
                half = np.uint32(halves[j])
                sign = (half & np.uint32(0x8000)) << np.uint32(16)
                bits = np.uint32(sign | ((half & np.uint32(0x7FFF)) << np.uint32(13)))
                total += bits.view(np.float32) * _BIAS * queries[q, j]
            scores[q, c] = total


_compiled: Any = machine_code(_score, fastmath={"reassoc", "contract", "nsz"})


def scores_of(
    addresses: npt.NDArray[np.uintp],
    firsts: npt.NDArray[np.int64],
    queries: npt.NDArray[np.float32],
    positions: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """The inner products of each query with its candidates.

    Args:
        addresses: of shards, C-contiguous (n_i, D) fp16 of finite numbers.
        firsts: the position of each shard's first vector, rising from 0.
        queries: (Q, D) C-contiguous.
        positions: (Q, c) of each query's candidates, which must be there; negative for none.

    Returns:
        (Q, c), -inf for none.
    """
    num_queries, num_candidates = positions.shape
    scores = np.empty(positions.shape, np.float32)

    def score(first: int, end: int) -> None:
        _compiled(addresses, firsts, queries, positions, scores, first, end)

    in_threads(score, num_queries, at_least=-(-_A_THREAD // max(num_candidates, 1)))
    return scores
