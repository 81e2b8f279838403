"""One block of memory with slots for partitions' rows, so that rows of several are one array."""

from dataclasses import dataclass, replace
from threading import Lock

import numpy as np

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
