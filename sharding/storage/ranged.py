"""A remote file read in blocks by ranged requests, each of which is repeated where it fails."""

import io
from collections.abc import Callable
from typing import Any

BLOCK_BYTES = 8 << 20


class RangedFile(io.RawIOBase):
    """A seekable read-only file whose bytes come from a function; wrap it in `BufferedReader`."""

    def __init__(self, fetch: Callable[[int, int], bytes], *, size: int) -> None:
        """Reads nothing yet.

        Args:
            fetch: (offset, length) -> exactly those bytes of the file.
            size: of the file in bytes.
        """
        super().__init__()
        self._fetch, self._size = fetch, size
        self._position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Returns the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the position; nothing is fetched."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer as far as the file goes."""
        view = memoryview(buffer).cast("B")
        length = min(len(view), max(0, self._size - self._position))
        if length:
            view[:length] = self._fetch(self._position, length)
            self._position += length
        return length

    def readall(self) -> bytes:
        """Returns the rest of the file, in blocks rather than in `io`'s 8 KiB steps."""
        out = bytearray()
        while block := self.read(BLOCK_BYTES):
            out += block
        return bytes(out)


def buffered(fetch: Callable[[int, int], bytes], *, size: int) -> io.BufferedReader:
    """Returns the same with a read-ahead of one block."""
    return io.BufferedReader(RangedFile(fetch, size=size), BLOCK_BYTES)
