"""An iterator whose threads end with it, however it ends."""

import weakref
from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sharding.storage.closing import Closing

T = TypeVar("T")


class PooledIterator(Closing, Iterator[T]):
    """An iterator that owns a pool of threads.

    The threads end at the last item, at an error, on `close`, and when this object is no longer
    used. An error is raised again by every call after it: what was read for the item that failed
    is lost, so that going on would skip it silently.

    Tasks in the pool must not refer to this object, or they would keep it in use.
    """

    def __init__(self, *, threads: int, name: str) -> None:
        """Makes the pool; its threads start with their first tasks.

        Args:
            threads: the most that run at once.
            name: what their names begin with, for whoever looks at a stack dump.
        """
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._end_pool = weakref.finalize(self, _end, self._pool)
        self._error: BaseException | None = None
        self._closed = False

    @abstractmethod
    def _take(self) -> T | None:
        """Returns the next item, or None at the end."""

    def __next__(self) -> T:
        """Returns the next item."""
        if self._error is not None and not self._closed:
            raise self._error
        item = None
        if self._end_pool.alive:
            try:
                item = self._take()
            except BaseException as raised:
                self._end_pool()
                if not self._closed:  # else another thread closed it, and this is what came of it
                    self._error = _not_an_end(raised)
                    raise self._error from raised.__cause__
        if item is None or self._closed:
            self._end_pool()
            raise StopIteration
        return item

    def close(self) -> None:
        """Ends the iteration, and waits for the threads: for what they are in the midst of."""
        self._closed = True
        self._end_pool()
        self._pool.shutdown(wait=True)


def _not_an_end(error: BaseException) -> BaseException:
    """Returns the error, or another where it would pass for the end of the data."""
    if not isinstance(error, StopIteration):
        return error
    stray = RuntimeError("StopIteration was raised in the midst of the data")
    stray.__cause__ = error
    return stray


def _end(pool: ThreadPoolExecutor) -> None:
    pool.shutdown(wait=False, cancel_futures=True)
