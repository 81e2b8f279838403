"""Loops over chosen rows of fp16 numbers that lie anywhere in gigabytes of mapped memory.

The memory of a row is asked for some rows ahead, and its numbers are widened as they are read. An
inner product with a candidate of 256 numbers costs 60 ns that way, where gathering the candidates
and multiplying them took 530 (1,000 candidates a query).

This module imports numba, which takes half a second: import it where it is called.

Q queries, c candidates, D numbers a row.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir

from polyprag.numba_kernels import machine_code
from polyprag.retrieval.heap_kernel import offer, put_in_order

_AHEAD = 8  # rows whose memory is on its way
_LINE = 64  # bytes that memory gives at a time
_BIAS = np.float32(2.0**112)  # fp32's exponent bias of 127 less fp16's of 15
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
    """Returns a pointer to the bits of fp16 numbers at an address."""

    def instruction(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return _numba.types.CPointer(_numba.types.uint16)(_numba.types.uintp), instruction


_prefetched = _numba.extending.intrinsic(_prefetch)
_halves_at = _numba.extending.intrinsic(_pointer)


def _widened(half: Any) -> Any:
    """Returns an fp16 number's bits where fp32 has them: of the number divided by 2**112."""
    sign = (half & np.uint32(0x8000)) << np.uint32(16)
    return np.uint32(sign | ((half & np.uint32(0x7FFF)) << np.uint32(13)))


def _gather(table: Any, positions: Any, taken: Any) -> bool:
    """Fills taken (m, D) with the numbers of rows; False where there is no such row."""
    for i in range(len(positions)):
        if not 0 <= positions[i] < len(table):
            return False
    for i in range(len(positions)):
        if i + _AHEAD < len(positions):
            address = np.uintp(table[positions[i + _AHEAD]].ctypes.data)
            for byte in range(0, 2 * table.shape[1], _LINE):
                _prefetched(address + np.uintp(byte))
        row = table[positions[i]]
        for j in range(row.shape[0]):
            bits = np.uint32(_widened_bits(np.uint32(row[j])))
            taken[i, j] = bits.view(np.float32) * _BIAS
    return True


def _score(addresses: Any, firsts: Any, query: Any, positions: Any, scores: Any) -> None:
    """Fills in the inner products (c,) of one query (D,) with candidates (c,); see `_best`."""
    num_dims, num_candidates = query.shape[0], positions.shape[0]
    places = np.empty(num_candidates, np.uintp)
    for c in range(num_candidates):
        position = positions[c]
        if position < 0:
            places[c] = 0
            continue
        part = np.searchsorted(firsts, position, side="right") - 1
        before = np.uintp((position - firsts[part]) * num_dims * 2)
        places[c] = addresses[part] + before
    for c in range(min(_AHEAD, num_candidates)):
        for byte in range(0, 2 * num_dims, _LINE):
            _prefetched(places[c] + np.uintp(byte))
    for c in range(num_candidates):
        if c + _AHEAD < num_candidates:
            for byte in range(0, 2 * num_dims, _LINE):
                _prefetched(places[c + _AHEAD] + np.uintp(byte))
        if places[c] == 0:
            scores[c] = -np.inf
            continue
        halves = _numba.carray(_halves_at(places[c]), num_dims)
        total = np.float32(0)
        for j in range(num_dims):
            bits = np.uint32(_widened_bits(np.uint32(halves[j])))
            total += bits.view(np.float32) * _BIAS * query[j]
        scores[c] = total


def _score_all(
    addresses: Any, firsts: Any, queries: Any, positions: Any, first: int, end: int, scores: Any
) -> None:
    """Scores the candidates of queries from `first` to `end`: scores is (Q, c)."""
    for q in range(first, end):
        _score_one(addresses, firsts, queries[q], positions[q], scores[q])


def _best(
    addresses: Any,
    firsts: Any,
    queries: Any,
    positions: Any,
    first: int,
    end: int,
    best_positions: Any,
    best_scores: Any,
) -> None:
    """Finds the best k candidates of queries from `first` to `end`.

    Args:
        addresses: of parts, C-contiguous (n_i, D) fp16 of finite numbers.
        firsts: the position of each part's first vector, rising from 0.
        queries: (Q, D) C-contiguous.
        positions: (Q, c) of each query's candidates, which must be there; negative for none.
        first: of the queries that are looked at.
        end: of them.
        best_positions: (Q, k), filled with -1; the best, equal scores by their positions.
        best_scores: (Q, k), filled with -inf; their scores.
    """
    scores = np.empty(positions.shape[1], np.float32)
    for q in range(first, end):
        _score_one(addresses, firsts, queries[q], positions[q], scores)
        count = 0
        for c in range(len(scores)):
            if positions[q, c] >= 0:
                count = offer(best_scores[q], best_positions[q], count, scores[c], positions[q, c])
        put_in_order(best_scores[q], best_positions[q], count)


_widened_bits: Any = machine_code(_widened)
gather: Any = machine_code(_gather)
_score_one: Any = machine_code(_score, fastmath={"reassoc", "contract", "nsz"})
score_all: Any = machine_code(_score_all)
best: Any = machine_code(_best)
