"""A number in a file that processes and threads share."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Count:
    """The number in a file that its opener has locked.

    Attributes:
        value: what it is; a great many where the file is new or damaged.
    """

    def __init__(self, descriptor: int) -> None:
        """Reads it."""
        self._descriptor = descriptor
        text = os.pread(descriptor, 32, 0)
        self.value = int(text) if text.isdigit() else 1 << 62

    def save(self) -> None:
        """Writes it back, in one piece and always as wide."""
        os.pwrite(self._descriptor, b"%020d" % max(0, self.value), 0)


@contextmanager
def locked_count(path: Path) -> Iterator[Count]:
    """Yields the number, for this thread alone to read and change.

    It is saved when the block ends, but not when it raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        count = Count(descriptor)
        yield count
        count.save()
    finally:
        os.close(descriptor)
