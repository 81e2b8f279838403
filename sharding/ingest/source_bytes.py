"""The bytes of a source file, decompressed, with the SHA-256 of the file in the same pass."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from typing import IO, Any

from sharding.files import open_url
from sharding.ingest.sources import SourceFile

_CHUNK = 1 << 20


class SourceBytes:
    """Iterates over chunks of a file's decompressed bytes.

    Attributes:
        num_read: Bytes of the file that were read so far.
        fault: Reason and detail where the compressed data ended too early or is damaged; what came
            before was given out.
        sha256: Of the file as it lies there, once all was read.
    """

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self.num_read = 0
        self.fault: tuple[str, str] | None = None
        self.sha256 = ""

    def __iter__(self) -> Iterator[bytes]:
        with open_url(self._file.url) as opened:
            hashed = _HashedFile(opened, self)
            yield from self._decompressed(hashed)
            while hashed.read(_CHUNK):  # what lies behind damaged data counts for the hash
                pass
            self.sha256 = hashed.digest.hexdigest()

    def _decompressed(self, hashed: "_HashedFile") -> Iterator[bytes]:
        if self._file.compression == "gz":
            read = gzip.GzipFile(fileobj=hashed).read1
        elif self._file.compression == "zst":
            read = _open_zstd(hashed)
        else:
            read = hashed.read
        try:
            while chunk := read(_CHUNK):
                yield chunk
        except EOFError:
            self.fault = ("truncated gzip", "the file ends in the middle of its data")
        except (gzip.BadGzipFile, zlib.error) as error:
            self.fault = ("damaged gzip", str(error))
        except _ZstdError as error:
            cut = "Truncated" in str(error)
            self.fault = ("truncated zstd" if cut else "damaged zstd", str(error))


class _HashedFile(io.RawIOBase):
    """Reads a file and hashes what is read."""

    def __init__(self, file: IO[bytes], owner: SourceBytes) -> None:
        self._file, self._owner = file, owner
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        self._owner.num_read += len(data)
        return data


class _ZstdError(Exception):
    """Arrow's decompressor met data that it can't read."""


def _open_zstd(file: _HashedFile) -> Any:
    # Arrow's stream rather than zstandard's: that one takes a truncated file for a whole one.
    import pyarrow

    stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")
    buffered = io.BufferedReader(_ArrowFile(stream), _CHUNK)
    return buffered.read1


class _ArrowFile(io.RawIOBase):
    """Arrow's decompressor as a raw file, in pieces small enough to lose little to damage."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(min(len(buffer), 1 << 16))
        except OSError as error:
            raise _ZstdError(str(error)) from error
        buffer[: len(data)] = data
        return len(data)
