"""Which passages of which splits make which partition: pure functions over integers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Piece:
    """Passages of a split.

    Attributes:
        split: its number.
        passages: which, by their positions in it, ascending.
    """

    split: int
    passages: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pack:
    """Partitions that one task writes.

    Attributes:
        first_partition: their first one's number.
        first_id: of its first passage.
        sizes: passages in each.
        pieces: where the passages come from, in order.
    """

    first_partition: int
    first_id: int
    sizes: list[int]
    pieces: list[Piece]


def pack_plan(
    sizes: Sequence[int],
    left_out: NDArray[np.int64],
    *,
    partition_size: int,
    pack_size: int,
    first_partition: int = 0,
    first_id: int = 0,
) -> Iterator[Pack]:
    """Numbers the passages that stay densely, and parts them into full partitions.

    Args:
        sizes: passages in each split.
        left_out: positions over all splits of passages that don't stay, ascending.
        partition_size: passages in a partition; the last may have less.
        pack_size: passages that a task should write at least.
        first_partition: the first partition's number: how many a corpus has before.
        first_id: the first passage's id, likewise.

    Yields:
        The tasks, in the order of the ids.
    """
    begins = np.concatenate([[0], np.cumsum(np.asarray(sizes, np.int64))])
    # Kept passages before each split: where its ids begin.
    first_ids = begins - np.searchsorted(left_out, begins)
    total = int(first_ids[-1])
    per_pack = max(1, -(-pack_size // partition_size)) * partition_size
    for first in range(0, total, per_pack):
        end = min(first + per_pack, total)
        edges = [*range(first, end, partition_size), end]
        yield Pack(
            first_partition + first // partition_size,
            first_id + first,
            [b - a for a, b in pairwise(edges)],
            _pieces(first, end, begins, first_ids, left_out),
        )


def _pieces(
    first: int,
    end: int,
    begins: NDArray[np.int64],
    first_ids: NDArray[np.int64],
    left_out: NDArray[np.int64],
) -> list[Piece]:
    """Returns the passages that are kept from the `first` to before the `end`."""
    split = int(np.searchsorted(first_ids, first, side="right")) - 1
    pieces = []
    while first < end:
        a, b = np.searchsorted(left_out, begins[split : split + 2])
        stays = np.ones(begins[split + 1] - begins[split], bool)
        stays[left_out[a:b] - begins[split]] = False
        at = first - int(first_ids[split])
        passages = np.flatnonzero(stays)[at : at + end - first]
        if len(passages):
            pieces.append(Piece(split, passages))
        first += len(passages)
        split += 1
    return pieces
