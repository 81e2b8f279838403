"""Partitions' rows between files and memory: loaded ahead and written behind, by threads."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, TypeVar

from sharding.rows.arena import Held
from sharding.rows.part import RowPartition

S = TypeVar("S")  # what is known of a file of rows that was written
T = TypeVar("T")

THREADS = 4  # that load, and as many that write


@dataclass(slots=True)
class RowsWritten(Generic[S]):
    """The files that a checkpoint adds; some may still be on their way.

    Attributes:
        files: by partition; the newest where there were several.
        superseded: files that a newer one of the same partition has replaced since.
    """

    files: "dict[int, Future[S]]" = field(default_factory=dict)
    superseded: "list[Future[S]]" = field(default_factory=list)

    def result(self) -> tuple[dict[int, S], list[S]]:
        """Returns the files and the superseded ones, once they are written.

        Raises:
            FileError: one can't be written.
        """
        files = {index: future.result() for index, future in sorted(self.files.items())}
        return files, [future.result() for future in self.superseded]


class RowTraffic(Generic[S]):
    """What is loading, what was written where, and how long training waited for either."""

    def __init__(
        self,
        *,
        load: Callable[[int, S | None], RowPartition],
        save: Callable[[RowPartition, int], S],
        place: Callable[[RowPartition], Held],
    ) -> None:
        """Starts with nothing on its way.

        Args:
            load: see `RowTable`.
            save: see `RowTable`.
            place: moves a partition's rows to where they are trained; called by threads.
        """
        self._load, self._save, self._place = load, save, place
        self._loads = ThreadPoolExecutor(THREADS, thread_name_prefix="rows-load")
        self._writes = ThreadPoolExecutor(THREADS, thread_name_prefix="rows-write")
        self._loading: dict[int, Future[Held]] = {}
        self._latest: dict[int, Future[S] | S] = {}
        self._written: RowsWritten[S] = RowsWritten()
        self._waited = 0.0
        self._loaded_bytes = self._saved_bytes = 0

    def load_soon(self, index: int) -> None:
        """Has a partition loaded unless it is already on its way."""
        if index not in self._loading:
            self._loading[index] = self._loads.submit(
                lambda latest: self._place(self._read(index, latest)), self._latest.get(index)
            )

    def take_loaded(self, index: int) -> Held:
        """Waits for a partition that `load_soon` was called with, and returns it."""
        held = self.wait(self._loading.pop(index).result)
        self._loaded_bytes += held.part.num_bytes
        return held

    def drop_loaded(self, index: int) -> None:
        """Gives back the slot of a partition that was loaded ahead for nothing, if it was."""
        loading = self._loading.pop(index, None)
        if loading is not None:
            loading.add_done_callback(_release)

    def write(self, part: RowPartition, step: int) -> "Future[S]":
        """Has a partition written; nothing may change it until that is done."""
        future = self._writes.submit(self._save, part, step)
        self._saved_bytes += part.num_bytes
        self._latest[part.index] = future
        before = self._written.files.get(part.index)
        if before is not None:
            self._written.superseded.append(before)
        self._written.files[part.index] = future
        return future

    def note_written(self, index: int, future: "Future[S]") -> None:
        """Keeps what is known of a file that was written rather than its future, much larger."""
        if self._latest[index] is future:
            self._latest[index] = future.result()

    def take_written(self) -> RowsWritten[S]:
        """Returns what was written, or is on its way, since the last call."""
        written, self._written = self._written, RowsWritten()
        return written

    def read(self, index: int) -> RowPartition:
        """Returns a partition's rows as they were written last; for any thread."""
        return self._read(index, self._latest.get(index))

    def wait(self, wait: Callable[[], T]) -> T:
        """Returns what a call returns, whose time counts as waiting."""
        started = monotonic()
        try:
            return wait()
        finally:
            self._waited += monotonic() - started

    def take_waited(self) -> float:
        """Returns the seconds that training waited since the last call."""
        waited, self._waited = self._waited, 0.0
        return waited

    def take_moved(self) -> tuple[int, int]:
        """Returns the bytes that were taken up from files and written since the last call."""
        moved = self._loaded_bytes, self._saved_bytes
        self._loaded_bytes = self._saved_bytes = 0
        return moved

    def close(self) -> None:
        """Ends the threads; what is on its way to a file still gets there."""
        self._loads.shutdown(wait=True, cancel_futures=True)
        self._writes.shutdown(wait=True)

    def _read(self, index: int, latest: "Future[S] | S | None") -> RowPartition:
        return self._load(index, latest.result() if isinstance(latest, Future) else latest)


def _release(loaded: "Future[Held]") -> None:
    if not loaded.cancelled() and loaded.exception() is None:
        loaded.result().release()
