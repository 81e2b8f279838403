"""One lane's microbatches in their fixed order from any cursor, made ahead by a pool of threads."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from sharding.errors import CorpusError
from sharding.stream.plan import LaneCursor, settled_cursor
from sharding.stream.shuffle import ShuffledPartition

T = TypeVar("T")

# The least that a thread makes in one go: handing work over costs some 50 microseconds.
_PIECE = 32


@dataclass(frozen=True, slots=True)
class LaneBatch(Generic[T]):
    """What a lane adds to one global step.

    Attributes:
        lane: which.
        items: at most `microbatch` examples.
        partitions: the partitions that they come from, in reading order.
        cursor: where the lane goes on after this batch.
    """

    lane: int
    items: tuple[T, ...]
    partitions: tuple[int, ...]
    cursor: LaneCursor


class Lane(Generic[T]):
    """Gives out a lane's microbatches of one epoch, and keeps some more in the making.

    In memory are the records of the partition that is being given out, those of the next one once
    it has begun, and `prefetch` microbatches of examples (or 32 examples if that is more).
    """

    def __init__(
        self,
        lane: int,
        *,
        order: Sequence[int],
        sizes: Sequence[int],
        cursor: LaneCursor,
        load: Callable[[int, int], ShuffledPartition[T]],
        microbatch: int,
        prefetch: int,
        pool: Executor,
    ) -> None:
        """Starts to read the first partition.

        Args:
            lane: its number.
            order: the partitions, in reading order.
            sizes: of each of these, its examples.
            cursor: where to go on; see `check_fits`.
            load: (partition, its examples) -> that partition, shuffled.
            microbatch: examples in a batch; the last may have fewer.
            prefetch: batches made ahead.
            pool: runs what is given to it first before what is given to it later: a piece of a
                partition waits in its thread until the partition is there.
        """
        self._lane, self._order, self._sizes = lane, order, sizes
        self._load, self._pool = load, pool
        self._microbatch = microbatch
        self._look_ahead, self._piece = prefetch * microbatch, max(microbatch, _PIECE)
        self._cursor = self._ahead = settled_cursor(cursor.position, cursor.offset, sizes)
        self._num_ahead = 0  # examples between the two
        self._partitions: dict[int, Future[ShuffledPartition[T]]] = {}  # by position
        self._pieces: deque[tuple[int, Future[list[T]]]] = deque()  # with their partition
        self._made: list[T] = []  # the piece that is being given out
        self._made_of, self._given = -1, 0
        if self._ahead.position < len(order):
            self._partition(self._ahead.position)

    def read_ahead(self) -> None:
        """Has as many examples made as should be ready."""
        while self._num_ahead < self._look_ahead and self._ahead.position < len(self._order):
            position, start = self._ahead.position, self._ahead.offset
            stop = min(start + self._piece, self._sizes[position])
            piece = self._pool.submit(_examples, self._partition(position), start, stop)
            self._pieces.append((self._order[position], piece))
            self._num_ahead += stop - start
            self._ahead = settled_cursor(position, stop, self._sizes)
            if self._ahead.position > position:
                del self._partitions[position]  # from here on only its pieces have it

    def take(self) -> LaneBatch[T] | None:
        """Returns the next microbatch; None when the lane has no data left.

        Raises:
            CorpusError: a shard is damaged, or holds another number of examples than planned.
        """
        self.read_ahead()
        items: list[T] = []
        touched: list[int] = []
        while len(items) < self._microbatch:
            if self._given == len(self._made):
                if not self._pieces:
                    break
                self._made_of, piece = self._pieces.popleft()
                self._made, self._given = piece.result(), 0
            fresh = self._made[self._given : self._given + self._microbatch - len(items)]
            self._given += len(fresh)
            items += fresh
            if touched[-1:] != [self._made_of]:
                touched.append(self._made_of)
        if not items:
            return None
        self._num_ahead -= len(items)
        at = self._cursor
        self._cursor = settled_cursor(at.position, at.offset + len(items), self._sizes)
        self.read_ahead()
        if len(self._partitions) < 2:
            self._begin_next()
        return LaneBatch(self._lane, tuple(items), tuple(touched), self._cursor)

    def _begin_next(self) -> None:
        """Has the partition read whose turn comes after the one that is being given out.

        Not before a first batch was taken: then what all lanes need first is read first.
        """
        position = self._ahead.position
        if self._ahead.offset > 0:
            position = settled_cursor(position, self._sizes[position], self._sizes).position
        if position < len(self._order):
            self._partition(position)

    def _partition(self, position: int) -> "Future[ShuffledPartition[T]]":
        """Returns a partition that is being read, or is now."""
        if position not in self._partitions:
            self._partitions[position] = self._pool.submit(
                self._load, self._order[position], self._sizes[position]
            )
        return self._partitions[position]


def _examples(partition: "Future[ShuffledPartition[T]]", start: int, stop: int) -> list[T]:
    return partition.result().examples(start, stop)


def check_fits(cursor: LaneCursor, sizes: Sequence[int], *, lane: int) -> None:
    """Raises `CorpusError` when a lane's cursor lies outside its partitions of these sizes."""
    end = len(sizes)
    if cursor.position < end:
        fits = cursor.offset <= sizes[cursor.position]
    else:
        fits = cursor == LaneCursor(end, 0)
    if not fits:
        raise CorpusError(
            f"lane {lane}: {cursor} lies outside its {end} partitions: the checkpoint belongs to "
            "another corpus or other data.lanes; resume with the corpus and config it was made with"
        )
