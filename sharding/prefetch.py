"""Run an iterator ahead of its consumer in one background thread with a bounded buffer."""

import threading
import weakref
from collections import deque
from collections.abc import Generator, Iterator
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class _Buffer(Generic[T]):
    """What the thread and the consumer share; the thread holds this and never the `Prefetch`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.items: deque[T] = deque()
        self.changed = threading.Condition()
        self.closed = False
        self.finished = False
        self.error: BaseException | None = None

    def fill(self, source: Iterator[T]) -> None:
        """The thread's work: ends at the source's end, at its error, or when closed."""
        error: BaseException | None = None
        try:
            while self._has_room():
                try:
                    item = next(source)
                except StopIteration:
                    break
                with self.changed:
                    self.items.append(item)
                    self.changed.notify_all()
        except BaseException as raised:  # travels to the consumer, whatever it is
            error = raised
        finally:
            if isinstance(source, Generator):
                source.close()
        with self.changed:
            self.finished, self.error = True, error
            self.changed.notify_all()

    def _has_room(self) -> bool:
        with self.changed:
            self.changed.wait_for(lambda: self.closed or len(self.items) < self.size)
            return not self.closed

    def take(self) -> T:
        with self.changed:
            self.changed.wait_for(lambda: self.closed or self.finished or bool(self.items))
            if self.items and not self.closed:
                self.changed.notify_all()
                return self.items.popleft()
            if self.error is not None and not self.closed:
                raise self.error
            raise StopIteration

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.items.clear()
            self.changed.notify_all()


class Prefetch(Iterator[T]):
    """An iterator over another one's items, which a thread reads up to `size` ahead.

    An error in the source is raised here after the items before it, and again on every further
    call. The thread ends with the source, on `close`, or when this object is no longer used.
    """

    def __init__(self, source: Iterator[T], *, size: int, name: str) -> None:
        """Starts reading.

        Args:
            source: Only touched by the thread from now on.
            size: Items kept ready, at least 1.
            name: The thread's, for whoever looks at a stack dump.
        """
        self._buffer: _Buffer[T] = _Buffer(size)
        self._thread = threading.Thread(
            target=self._buffer.fill, args=(source,), name=name, daemon=True
        )
        self._finalizer = weakref.finalize(self, self._buffer.close)
        self._thread.start()

    def __next__(self) -> T:
        """The next item of the source."""
        return self._buffer.take()

    def close(self) -> None:
        """Stops and joins the thread, waiting for the item it is working on at most."""
        self._finalizer()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        """Nothing to do: the thread runs since it was made."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Closes."""
        self.close()
