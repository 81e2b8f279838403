"""Rows of several partitions as one array: an arena with slots, and where each id's row is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sharding.corpus.manifest import Partition
from sharding.rows.part import RowPartition


@dataclass(frozen=True, slots=True)
class Held:
    """A partition in a slot.

    Attributes:
        part: its rows, moments and step counts: views of the arena.
        arena: where it lies.
        slot: which slot it has.
    """

    part: RowPartition
    arena: "RowArena"
    slot: int

    @property
    def first_place(self) -> int:
        """Where the partition's first row is in the arena's arrays."""
        return self.slot * self.arena.size

    def release(self) -> None:
        """Gives the slot back; the views mustn't be used any more."""
        self.arena.free(self.slot)


class RowArena:
    """Slots of equal size for partitions of at most so many rows; threads may share it.

    Attributes:
        number: the arena's own.
        size: rows of a slot.
        rows: float32 (slots x size, S, K).
        exp_avg: float32 (slots x size, S, K).
        exp_avg_sq: float32 (slots x size, S or 1, K or 1).
        steps: int32 (slots x size,).
    """

    def __init__(self, number: int, *, slots: int, size: int, like: RowPartition) -> None:
        """Reserves the memory, which is taken when it is first written to.

        Args:
            number: told by `Held.arena`.
            slots: partitions that it can hold.
            size: rows of the largest of them.
            like: a partition whose arrays have the shape of all, but for the number of rows.
        """
        self.number, self.size = number, size
        total = slots * size
        self.rows = np.empty((total, *like.rows.shape[1:]), np.float32)
        self.exp_avg = np.empty((total, *like.exp_avg.shape[1:]), np.float32)
        self.exp_avg_sq = np.empty((total, *like.exp_avg_sq.shape[1:]), np.float32)
        self.steps = np.empty(total, np.int32)
        self._free = list(range(slots))
        self._lock = Lock()

    @property
    def is_full(self) -> bool:
        """Whether no slot is free."""
        return not self._free

    def place(self, part: RowPartition) -> Held | None:
        """Copies a partition into a free slot; None where there is none."""
        with self._lock:
            if not self._free:
                return None
            slot = self._free.pop()
        first = slot * self.size
        mine = slice(first, first + len(part.rows))
        held = replace(
            part,
            rows=self.rows[mine],
            exp_avg=self.exp_avg[mine],
            exp_avg_sq=self.exp_avg_sq[mine],
            steps=self.steps[mine],
        )
        held.rows[:], held.exp_avg[:] = part.rows, part.exp_avg
        held.exp_avg_sq[:], held.steps[:] = part.exp_avg_sq, part.steps
        return Held(held, self, slot)

    def free(self, slot: int) -> None:
        """Takes a slot back."""
        with self._lock:
            self._free.append(slot)


def copied(part: RowPartition) -> RowPartition:
    """Returns a partition in memory of its own."""
    return replace(
        part,
        rows=part.rows.copy(),
        exp_avg=part.exp_avg.copy(),
        exp_avg_sq=part.exp_avg_sq.copy(),
        steps=part.steps.copy(),
    )


class Places(NamedTuple):
    """Rows that lie in one arena: its number, which of the ids (None: all), their places in it."""

    arena: int
    at: npt.NDArray[np.intp] | None
    places: npt.NDArray[np.int64]


class Found(NamedTuple):
    """Where the rows of a step are, until one of their partitions goes.

    Attributes:
        ids: (M,) of the step.
        owners: (M,) their partitions.
        places: for each arena that has some of them.
    """

    ids: npt.NDArray[np.int64] | None
    owners: npt.NDArray[np.int64]
    places: Sequence[Places]


_NOTHING = Found(None, np.empty(0, np.int64), ())


class RowPlaces:
    """The partitions that are in memory, and where."""

    def __init__(self, partitions: Sequence[Partition]) -> None:
        """Knows of none in memory yet.

        Args:
            partitions: all of the corpus, by index.
        """
        count = len(partitions)
        self._first_ids = np.array([part.first_id for part in partitions], np.int64)
        # Ids of partitions of one size are divided, not looked up; the last may be smaller.
        size = partitions[0].num_passages if count else 0
        is_even = np.array_equal(self._first_ids, np.arange(count, dtype=np.int64) * size)
        self._size = size if is_even and partitions and partitions[-1].num_passages <= size else 0
        self._arena_of = np.full(count, -1, np.int32)  # -1: not in memory
        self._offset_of = np.zeros(count, np.int64)  # from an id to its place
        self._found = _NOTHING

    def put(self, index: int, held: Held) -> None:
        """A partition is in memory."""
        self._arena_of[index] = held.arena.number
        self._offset_of[index] = held.first_place - self._first_ids[index]

    def drop(self, index: int) -> None:
        """A partition is so no longer."""
        self._arena_of[index] = -1
        self._found = _NOTHING

    def find(self, ids: npt.NDArray[np.int64], *, activate: Callable[[int], None]) -> Found:
        """Returns where rows are; an update is told what was found for the gather before it.

        Args:
            ids: (M,) int64, ascending, each once; not changed since.
            activate: is called with each partition that isn't in memory, and must `put` it there.
        """
        if ids is not self._found.ids:
            owners = self._owners(ids)
            numbers = self._arena_of[owners]
            if (numbers < 0).any():
                for index in np.unique(owners[numbers < 0]).tolist():
                    activate(index)
                numbers = self._arena_of[owners]
            self._found = Found(ids, owners, _by_arena(numbers, ids + self._offset_of[owners]))
        return self._found

    def _owners(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if self._size:
            return ids // self._size
        return np.searchsorted(self._first_ids, ids, side="right") - 1


def _by_arena(numbers: npt.NDArray[np.int32], places: npt.NDArray[np.int64]) -> Sequence[Places]:
    if not len(numbers):
        return ()
    if (numbers == numbers[0]).all():
        return [Places(int(numbers[0]), None, places)]
    found = []
    for number in np.unique(numbers).tolist():
        at = np.flatnonzero(numbers == number)
        found.append(Places(number, at, places[at]))
    return found
