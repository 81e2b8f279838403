"""Where the rows of passages lie in memory: worked out for all ids of a step at once."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sharding.corpus.manifest import Partition
from sharding.rows.arena import Held


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
