"""The bytes of a source file, decompressed, with the SHA-256 of the file in the same pass."""

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import IO, Any

from isal import isal_zlib

from sharding.ingest.source_file import SourceFile
from sharding.storage.files import open_url

_CHUNK = 1 << 20
_GZIP_CHUNK = 1 << 13  # what is lost before damage
_GZIP_WBITS = 31  # a gzip header and trailer around the data


class SourceBytes:
    """Iterates over chunks of a file's decompressed bytes.

    Attributes:
        num_read: bytes of the file that were read so far.
        fault: reason and detail where the compressed data ended too early or is damaged; what came
            before was given out.
        sha256: of the file as it lies there, once all was read.
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
            chunks = _gunzipped(hashed)
        elif self._file.compression == "zst":
            chunks = _chunks(_open_zstd(hashed))
        else:
            chunks = _chunks(hashed.read)
        try:
            yield from chunks
        except EOFError:
            self.fault = ("truncated gzip", "the file ends in the middle of its data")
        except _GzipError as error:
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


def _chunks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while chunk := read(_CHUNK):
        yield chunk


class _GzipError(Exception):
    """Compressed data that can't be read."""


def _gunzipped(file: _HashedFile) -> Iterator[bytes]:
    """Yields the data of a gzip file of one or more members.

    Isal reads it three times as fast as zlib.

    Raises:
        EOFError: it ends in the middle of a member, after what came before.
        _GzipError: it is damaged; what came before, up to a few kilobytes, was given out.
    """
    member = None
    while data := file.read(_GZIP_CHUNK):
        while data:
            if member is None:
                data = data.lstrip(b"\0")  # padding behind a member, as of tapes
                if not data:
                    break
                member = isal_zlib.decompressobj(wbits=_GZIP_WBITS)
            try:
                whole = member.decompress(data)
            except isal_zlib.error as error:  # type: ignore[misc] # an exception, for all its stubs
                raise _GzipError(str(error)) from error
            if whole:
                yield whole
            data = member.unused_data
            if not member.eof:
                break
            member = None
    if member is not None:
        raise EOFError


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
