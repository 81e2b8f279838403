"""Who reads what, in which order, and from where to go on: pure functions of integers.

The order of a lane's data depends on (seed, epoch, lane) only, never on the number of workers.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from sharding.errors import CorpusError
from sharding.storage.versioned import Natural, Stored


class _Draw(IntEnum):
    """What a random stream is for, so that no two of them share their numbers."""

    PARTITIONS = 0
    EXAMPLES = 1


class LaneCursor(Stored, frozen=True):
    """Where a lane goes on: the index into its order of partitions, and the examples taken there.

    Always in the one form where `offset` is less than that partition's examples, or (number of
    partitions, 0) at the lane's end.
    """

    position: Natural
    offset: Natural

    def __post_init__(self) -> None:
        if self.position < 0 or self.offset < 0:
            raise CorpusError(
                f"a lane's cursor can't be negative: {self}; the checkpoint is damaged"
            )


class Cursor(Stored, frozen=True):
    """Where a stream goes on: the epoch, the steps taken in it, and every lane's cursor."""

    epoch: Natural
    step: Natural
    lanes: tuple[LaneCursor, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the cursor as plain JSON values."""
        lanes = [[lane.position, lane.offset] for lane in self.lanes]
        return {"epoch": self.epoch, "step": self.step, "lanes": lanes}

    @classmethod
    def from_json(cls, fields: Any) -> "Cursor":
        """Returns the cursor that `to_json` wrote.

        Raises:
            CorpusError: the fields aren't a cursor.
        """
        try:
            epoch, step, lanes = fields["epoch"], fields["step"], fields["lanes"]
            numbers = [epoch, step, *(number for lane in lanes for number in lane)]
            if any(type(number) is not int or number < 0 for number in numbers):
                raise ValueError("not whole numbers of 0 or more")
            cursors = tuple(LaneCursor(position, offset) for position, offset in lanes)
            return cls(epoch, step, cursors)
        except (KeyError, TypeError, ValueError) as error:
            raise CorpusError(
                f"not a cursor of a data stream: {fields!r} ({error}); "
                "resume from another checkpoint"
            ) from error


def lanes_of_worker(rank: int, *, world_size: int, num_lanes: int) -> list[int]:
    """Returns a worker's lanes, ascending; no worker has two more than another.

    Every `world_size`-th lane: with equal partitions the lanes with one more of them come first,
    so that they too are shared evenly, and the workers differ by one microbatch at most in every
    step of the epoch, its last ones included.

    Raises:
        CorpusError: there are more workers than lanes.
    """
    if not 1 <= world_size <= num_lanes:
        raise CorpusError(
            f"{num_lanes} lanes can't be shared by {world_size} workers, each of which needs one "
            f"at least; use 1 to {num_lanes} workers, or more data.lanes in a new run"
        )
    return list(range(rank, num_lanes, world_size))


def partitions_of_lane(lane: int, *, num_partitions: int, num_lanes: int) -> list[int]:
    """Returns a lane's partitions, ascending."""
    return list(range(lane, num_partitions, num_lanes))


def partitions_of_worker(
    rank: int, *, world_size: int, num_partitions: int, num_lanes: int
) -> list[int]:
    """Returns a worker's partitions, ascending: those of its lanes."""
    lanes = lanes_of_worker(rank, world_size=world_size, num_lanes=num_lanes)
    return sorted(
        partition
        for lane in lanes
        for partition in partitions_of_lane(
            lane, num_partitions=num_partitions, num_lanes=num_lanes
        )
    )


def partition_order(seed: int, epoch: int, *, lane: int, partitions: Sequence[int]) -> list[int]:
    """Returns the order in which a lane reads its partitions in an epoch."""
    order = _generator(seed, _Draw.PARTITIONS, epoch, lane).permutation(len(partitions))
    return [partitions[i] for i in order]


def example_order(
    seed: int, epoch: int, *, partition: int, num_examples: int
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Returns a partition's order of examples in an epoch: a permutation of (num_examples,)."""
    return _generator(seed, _Draw.EXAMPLES, epoch, partition).permutation(num_examples)


def _generator(seed: int, draw: _Draw, epoch: int, index: int) -> np.random.Generator:
    # The spawn key, not further entropy words: SeedSequence([s, e]) equals SeedSequence([s, e, 0]).
    sequence = np.random.SeedSequence(seed, spawn_key=(draw, epoch, index))
    return np.random.Generator(np.random.Philox(sequence))


def steps_per_epoch(
    examples_per_partition: Sequence[int], *, num_lanes: int, microbatch: int
) -> int:
    """Returns the steps until the longest lane has given all its examples, `microbatch` at a time.

    Args:
        examples_per_partition: by partition index.
        num_lanes: of the whole stream.
        microbatch: examples that a lane gives a step; a lane's last one may be smaller.
    """
    sizes = lane_sizes(examples_per_partition, num_lanes=num_lanes)
    return max(-(-size // microbatch) for size in sizes)


def lane_sizes(examples_per_partition: Sequence[int], *, num_lanes: int) -> list[int]:
    """Returns the examples of every lane in an epoch."""
    return [sum(examples_per_partition[lane::num_lanes]) for lane in range(num_lanes)]


def lane_cursor_at(
    step_in_epoch: int, sizes_in_order: Sequence[int], *, microbatch: int
) -> LaneCursor:
    """Returns where a lane goes on after a number of steps, without reading anything.

    Args:
        step_in_epoch: steps taken in this epoch.
        sizes_in_order: the examples of the lane's partitions, in `partition_order`.
        microbatch: examples that a lane gives a step.
    """
    return settled_cursor(0, step_in_epoch * microbatch, sizes_in_order)


def settled_cursor(position: int, offset: int, sizes_in_order: Sequence[int]) -> LaneCursor:
    """Returns the cursor that lies `offset` examples behind a partition's start, in its one form.

    Args:
        position: index into the lane's order of partitions.
        offset: may run past that partition, and past the lane's end.
        sizes_in_order: the examples of the lane's partitions, in `partition_order`.
    """
    while position < len(sizes_in_order) and offset >= sizes_in_order[position]:
        offset -= sizes_in_order[position]
        position += 1
    return LaneCursor(position, offset if position < len(sizes_in_order) else 0)
