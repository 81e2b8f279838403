"""The rows that one worker trains, of which only those being read are in memory.

A partition's rows and moments are loaded ahead of the lane that comes to it, and written behind the
lane that has left it, by threads, while training goes on. So a table may be larger than any memory:
what is held is two partitions a lane and a few that are on their way to the disk, besides copies of
those being trained while a checkpoint is written. All lie in one block of memory (`arena.py`),
so a step is one gather and one update, however many partitions it touches.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from sharding.corpus.manifest import Partition
from sharding.rows.arena import Held, RowArena, RowPlaces, copied
from sharding.rows.part import Float32Array, RowPartition
from sharding.rows.traffic import RowsWritten, RowTraffic
from sharding.storage.closing import Closing

S = TypeVar("S")  # what is known of a file of rows that was written

LOOKAHEAD = 1  # partitions that each lane has loaded ahead
MAX_WRITES = 8  # partitions on their way to a file that nobody reads any more


class RowOptimizer(Protocol):
    """What updates rows in place; see `polyprag.method.rows.optimizer.RowAdam.update`."""

    def update(
        self,
        rows: Any,
        exp_avg: Any,
        exp_avg_sq: Any,
        steps: Any,
        *,
        index: Any,
        grad: Any,
        lr: float | None = None,
    ) -> None:
        """One step on the rows `index` with gradients `grad`."""


@dataclass(slots=True)
class _Write(Generic[S]):
    """A partition on its way to a file."""

    held: Held
    future: "Future[S]"


class RowTable(Closing, Generic[S]):
    """Rows and moments of the partitions that this worker's lanes read.

    Nobody else touches them, so nothing here is ever communicated. Errors of the threads are raised
    by `gather`, and by what `checkpoint` returns.
    """

    def __init__(
        self,
        partitions: Sequence[Partition],
        *,
        shape: tuple[int, int],
        load: Callable[[int, S | None], RowPartition],
        save: Callable[[RowPartition, int], S],
        optimizer: RowOptimizer,
        lookahead: int = LOOKAHEAD,
        max_writes: int = MAX_WRITES,
    ) -> None:
        """Starts empty.

        Args:
            partitions: all of the corpus, by index.
            shape: (S, K) of a row.
            load: gives a partition's rows to start or go on with; it is told what `save` returned
                for the partition last, or None where this table hasn't written it. Called by
                threads.
            save: writes a partition's rows after a global step to a file of its own, durably.
                Called by threads.
            optimizer: updates rows.
            lookahead: partitions that each lane has loaded ahead.
            max_writes: partitions on their way to a file at most; training waits for the oldest
                when there are more.
        """
        self._places = RowPlaces(partitions)
        self._largest = max((part.num_passages for part in partitions), default=1)
        self._shape, self._optimizer = shape, optimizer
        self._lookahead, self._max_writes = lookahead, max_writes
        self._traffic = RowTraffic(load=load, save=save, place=self._place)
        self._orders: dict[int, Sequence[int]] = {}
        self._positions: dict[int, int] = {}
        self._arenas: list[RowArena] = []
        self._growing = Lock()
        self._active: dict[int, Held] = {}
        self._is_dirty = np.zeros(len(partitions), np.bool_)
        self._leaving: dict[int, _Write[S]] = {}  # oldest first
        self._failed: deque[BaseException] = deque()

    def begin(
        self, orders: Mapping[int, Sequence[int]], positions: Mapping[int, int] | None = None
    ) -> None:
        """Takes the lanes' partitions of an epoch, and loads the first of each lane.

        Args:
            orders: for each of this worker's lanes, its partitions in reading order.
            positions: where in that order each lane goes on; the start by default.
        """
        self._orders = dict(orders)
        self._positions = {lane: (positions or {}).get(lane, 0) for lane in orders}
        for lane in self._orders:
            self._load_ahead(lane)

    def gather(self, ids: npt.NDArray[np.int64]) -> Float32Array:
        """Returns the rows of passages, a copy.

        Args:
            ids: (M,) int64, ascending, each once.

        Returns:
            float32 (M, S, K).

        Raises:
            FileError: a file of rows is missing or damaged, or one couldn't be written.
        """
        self._collect()
        if self._failed:
            raise self._failed.popleft()
        gathered = np.empty((len(ids), *self._shape), np.float32)
        for number, at, places in self._places.find(ids, activate=self._activate).places:
            rows = self._arenas[number].rows
            if at is None:
                np.take(rows, places, axis=0, out=gathered, mode="clip")
            else:
                gathered[at] = rows[places]
        return gathered

    def update(self, ids: npt.NDArray[np.int64], grad: Any, *, rate: float) -> None:
        """One optimiser step on rows that `gather` has given since the last `advance`.

        Args:
            ids: (M,) int64, ascending, each once; not changed since.
            grad: float32 (M, S, K), an array or a tensor on the CPU.
            rate: learning rate.
        """
        found = self._places.find(ids, activate=self._activate)
        for number, at, places in found.places:
            arena = self._arenas[number]
            self._optimizer.update(
                arena.rows,
                arena.exp_avg,
                arena.exp_avg_sq,
                arena.steps,
                index=places,
                grad=grad if at is None else grad[at],
                lr=rate,
            )
        self._is_dirty[found.owners] = True

    def advance(self, lane: int, position: int, *, step: int) -> None:
        """Tells where a lane goes on: what lies before that is written and let go of.

        Args:
            lane: which.
            position: into its order of partitions.
            step: global steps done; what is written gets this as its step.
        """
        order, before = self._orders[lane], self._positions[lane]
        if position == before:
            return
        self._positions[lane] = position
        for index in order[before:position]:
            held = self._active.pop(index, None)
            self._places.drop(index)
            if held is not None and self._is_dirty[index]:
                self._is_dirty[index] = False
                self._leaving[index] = _Write(held, self._traffic.write(held.part, step))
            elif held is not None:
                held.release()
            else:  # it has no examples
                self._traffic.drop_loaded(index)
        self._load_ahead(lane)
        self._collect()
        while len(self._leaving) > self._max_writes:
            oldest = next(iter(self._leaving.values()))
            self._traffic.wait(oldest.future.exception)
            self._collect()

    def checkpoint(self, step: int) -> RowsWritten[S]:
        """Has everything written that changed since the last call; doesn't wait for it.

        What is being trained is copied first, so that it can be trained on.

        Args:
            step: global steps done.
        """
        for index in np.flatnonzero(self._is_dirty).tolist():
            self._traffic.write(copied(self._active[index].part), step)
        self._is_dirty[:] = False
        return self._traffic.take_written()

    def read(self, index: int) -> RowPartition:
        """Returns a partition's rows as they were written last, not kept in memory; for any thread.

        Only what is in files counts: call `checkpoint` and wait for it first.
        """
        return self._traffic.read(index)

    def take_waited(self) -> float:
        """Returns the seconds that training waited for files of rows since the last call."""
        return self._traffic.take_waited()

    def take_moved(self) -> tuple[int, int]:
        """Returns the bytes that came into memory and that went to files since the last call.

        Of what was loaded ahead, only partitions count that were then read.
        """
        return self._traffic.take_moved()

    def close(self) -> None:
        """Ends the threads; what is on its way to a file still gets there."""
        self._traffic.close()

    def _activate(self, index: int) -> None:
        """Waits until a partition is in memory, and takes it up."""
        self._load_soon(index)
        leaving = self._leaving.pop(index, None)
        if leaving is not None:
            self._traffic.wait(leaving.future.result)
            self._take_up(index, leaving.held)
        else:
            self._take_up(index, self._traffic.take_loaded(index))

    def _take_up(self, index: int, held: Held) -> None:
        self._active[index] = held
        self._places.put(index, held)

    def _place(self, part: RowPartition) -> Held:
        """Returns a partition's rows moved into an arena; called by the threads that load."""
        while True:
            for arena in list(self._arenas):
                held = arena.place(part)
                if held is not None:
                    return held
            with self._growing:
                if not self._arenas or self._arenas[-1].is_full:
                    self._arenas.append(
                        RowArena(
                            len(self._arenas),
                            slots=len(self._orders) * (1 + self._lookahead) + self._max_writes + 1,
                            size=self._largest,
                            like=part,
                        )
                    )

    def _load_ahead(self, lane: int) -> None:
        at = self._positions[lane]
        for index in self._orders[lane][at : at + 1 + self._lookahead]:
            self._load_soon(index)

    def _load_soon(self, index: int) -> None:
        """Has a partition loaded unless it is in memory, or still on its way out of it."""
        if index not in self._active and index not in self._leaving:
            self._traffic.load_soon(index)

    def _collect(self) -> None:
        """Lets go of what has been written, unless its lane wants it again soon."""
        for index, leaving in list(self._leaving.items()):
            if not leaving.future.done():
                continue
            del self._leaving[index]
            error = leaving.future.exception()
            if error is not None:
                self._failed.append(error)
                leaving.held.release()
                continue
            self._traffic.note_written(index, leaving.future)
            if self._is_next(index):
                self._take_up(index, leaving.held)
            else:
                leaving.held.release()

    def _is_next(self, index: int) -> bool:
        return any(
            index in order[self._positions[lane] : self._positions[lane] + 1 + self._lookahead]
            for lane, order in self._orders.items()
        )
