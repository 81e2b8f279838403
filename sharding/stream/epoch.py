"""The data of an epoch from any cursor on: of one lane, or of all lanes of one worker.

What a lane gives in a step depends on (seed, epoch, lane, step) only, never on who reads it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from sharding.corpus.manifest import Partition
from sharding.corpus.reader import Corpus
from sharding.errors import CorpusError
from sharding.stream.lane import Lane, LaneBatch, check_fits
from sharding.stream.plan import (
    Cursor,
    LaneCursor,
    lanes_of_worker,
    partition_order,
    partitions_of_lane,
    settled_cursor,
)
from sharding.stream.pooled_iterator import PooledIterator
from sharding.stream.shuffle import Expander, ShuffledPartition

T = TypeVar("T")

_THREADS = 4  # of a worker; tokenizers let go of the interpreter while they work


class LaneStream(PooledIterator[LaneBatch[T]]):
    """Iterates over one lane's microbatches of one epoch; ends when the lane has no data left.

    An error in a shard is raised by the first batch that needs it. Close the stream (or use it as
    a context manager) to end its thread.
    """

    def __init__(
        self,
        corpus: Corpus,
        lane: int,
        *,
        num_lanes: int,
        seed: int,
        epoch: int,
        microbatch: int,
        expand: Expander[T],
        num_examples: Callable[[Partition], int],
        cursor: LaneCursor | None = None,
        prefetch: int = 2,
    ) -> None:
        """Starts reading.

        Args:
            corpus: what to read.
            lane: which of the `num_lanes`.
            num_lanes: of the whole stream.
            seed: decides the order, with epoch and lane.
            epoch: from 0.
            microbatch: examples in a batch; the lane's last may have fewer.
            expand: makes the examples.
            num_examples: how many examples a partition has, as the plan counted them.
            cursor: where to go on; the epoch's start by default.
            prefetch: batches made ahead.

        Raises:
            CorpusError: the cursor doesn't fit this corpus.
        """
        order, sizes = _order_and_sizes(
            corpus, lane, num_lanes=num_lanes, seed=seed, epoch=epoch, num_examples=num_examples
        )
        check_fits(cursor or LaneCursor(0, 0), sizes, lane=lane)
        super().__init__(threads=1, name=f"lane-{lane}")
        self._lane: Lane[T] = Lane(
            lane,
            order=order,
            sizes=sizes,
            cursor=cursor or LaneCursor(0, 0),
            load=partial(_load, corpus, expand, seed, epoch),
            microbatch=microbatch,
            prefetch=prefetch,
            pool=self._pool,
        )
        self._lane.read_ahead()

    def _take(self) -> LaneBatch[T] | None:
        return self._lane.take()


@dataclass(frozen=True, slots=True)
class StepBatch(Generic[T]):
    """What one worker adds to one global step.

    Attributes:
        step: the step's number in its epoch, from 0.
        lanes: the batches of this worker's lanes that have data left, ascending.
        cursor: where all lanes, of this worker and of others, go on after this step; after the
            epoch's last step that is the start of the next epoch.
    """

    step: int
    lanes: tuple[LaneBatch[T], ...]
    cursor: Cursor


class WorkerStream(PooledIterator[StepBatch[T]]):
    """Iterates over the steps of one epoch, for the lanes of one of `world_size` workers.

    All workers get equally many steps, and the same cursors: a worker whose lanes have ended gets
    steps without lanes. One pool of threads reads and makes examples for all lanes.

    An error in a shard is raised by the first step that needs it. Close the stream (or use it as a
    context manager) to end its threads.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        rank: int,
        world_size: int,
        num_lanes: int,
        seed: int,
        microbatch: int,
        expand: Expander[T],
        num_examples: Callable[[Partition], int],
        cursor: Cursor | None = None,
        prefetch: int = 2,
        threads: int = _THREADS,
    ) -> None:
        """Starts reading.

        Args:
            corpus: what to read.
            rank: which worker, from 0.
            world_size: the number of workers, at most `num_lanes`.
            num_lanes: of the whole stream.
            seed: decides the order, with epoch and lane.
            microbatch: examples that a lane gives a step; its last may have fewer.
            expand: makes the examples.
            num_examples: how many examples a partition has, as the plan counted them.
            cursor: where to go on, and in which epoch; the start of epoch 0 by default.
            prefetch: microbatches that each lane makes ahead.
            threads: the most that run at once.

        Raises:
            CorpusError: the cursor doesn't fit this corpus, or there are more workers than lanes.
        """
        mine = lanes_of_worker(rank, world_size=world_size, num_lanes=num_lanes)
        of_lane = partial(
            _order_and_sizes, corpus, num_lanes=num_lanes, seed=seed, num_examples=num_examples
        )
        self._microbatch, self._num_lanes, self._of_lane = microbatch, num_lanes, of_lane
        cursor = self._start_of(0) if cursor is None else cursor
        if len(cursor.lanes) != num_lanes:
            raise CorpusError(
                f"the cursor has {len(cursor.lanes)} lanes and data.lanes={num_lanes}: resume with "
                "the config that the checkpoint was made with"
            )
        plans = [of_lane(lane, epoch=cursor.epoch) for lane in range(num_lanes)]
        self._sizes = [sizes for _, sizes in plans]
        for lane, sizes in enumerate(self._sizes):
            check_fits(cursor.lanes[lane], sizes, lane=lane)
        super().__init__(threads=threads, name="lanes")
        self._lanes: list[Lane[T]] = [
            Lane(
                lane,
                order=plans[lane][0],
                sizes=plans[lane][1],
                cursor=cursor.lanes[lane],
                load=partial(_load, corpus, expand, seed, cursor.epoch),
                microbatch=microbatch,
                prefetch=prefetch,
                pool=self._pool,
            )
            for lane in mine
        ]
        settled = (
            settled_cursor(lane.position, lane.offset, sizes)
            for lane, sizes in zip(cursor.lanes, self._sizes, strict=True)
        )
        self._cursor = Cursor(cursor.epoch, cursor.step, tuple(settled))
        for ready in self._lanes:  # only now, after every lane's first partition
            ready.read_ahead()

    def _take(self) -> StepBatch[T] | None:
        before = self._cursor
        if self._at_end(before):
            return None
        batches = [batch for lane in self._lanes if (batch := lane.take()) is not None]
        cursors = [
            settled_cursor(lane.position, lane.offset + self._microbatch, sizes)
            for lane, sizes in zip(before.lanes, self._sizes, strict=True)
        ]
        after = Cursor(before.epoch, before.step + 1, tuple(cursors))
        self._cursor = after
        resume = self._start_of(before.epoch + 1) if self._at_end(after) else after
        return StepBatch(before.step, tuple(batches), resume)

    def _at_end(self, cursor: Cursor) -> bool:
        return all(
            lane.position == len(sizes)
            for lane, sizes in zip(cursor.lanes, self._sizes, strict=True)
        )

    def _start_of(self, epoch: int) -> Cursor:
        plans = (self._of_lane(lane, epoch=epoch) for lane in range(self._num_lanes))
        return Cursor(epoch, 0, tuple(settled_cursor(0, 0, sizes) for _, sizes in plans))


def _order_and_sizes(
    corpus: Corpus,
    lane: int,
    *,
    num_lanes: int,
    seed: int,
    epoch: int,
    num_examples: Callable[[Partition], int],
) -> tuple[list[int], list[int]]:
    """Returns a lane's partitions in reading order, and the examples of each."""
    partitions = corpus.manifest.partitions
    of_lane = partitions_of_lane(lane, num_partitions=len(partitions), num_lanes=num_lanes)
    order = partition_order(seed, epoch, lane=lane, partitions=of_lane)
    return order, [num_examples(partitions[index]) for index in order]


def _load(
    corpus: Corpus, expand: Expander[T], seed: int, epoch: int, index: int, num_examples: int
) -> ShuffledPartition[T]:
    return ShuffledPartition(
        corpus,
        corpus.manifest.partitions[index],
        expand=expand,
        num_examples=num_examples,
        seed=seed,
        epoch=epoch,
    )
