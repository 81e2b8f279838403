"""A bounded cache of remote files on this machine's disk, shared by all its processes.

Entries are named for their SHA-256 and checked whenever they are used, so a damaged one is
fetched again and nothing needs to be flushed to disk. The least recently used go first. A cache
that can't be written to costs a warning, never a run.
"""

import fcntl
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sharding.errors import CorpusError
from sharding.storage.urls import is_local
from sharding.storage.verified import read_verified

_LOG = logging.getLogger(__name__)

_KEEP = 0.9  # share of the bound that is kept when room is made, so that it is made seldom
_STALE_S = 3600.0  # a temporary file of this age belongs to a writer that was killed


def default_cache_dir() -> str:
    """`$XDG_CACHE_HOME/polyprag`, which is `~/.cache/polyprag` where that isn't set."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "polyprag")


def cache_for(url: str | Path, *, directory: str | None, max_gb: float) -> "ShardCache | None":
    """Returns the cache to read files under a URL through.

    None where they are local or it is turned off.

    Args:
        url: of the corpus.
        directory: `data.cache_dir`; None for the default one.
        max_gb: `data.cache_gb`, in 10^9 bytes; 0 turns the cache off.
    """
    if is_local(url) or max_gb <= 0:
        return None
    return ShardCache(directory or default_cache_dir(), max_bytes=int(max_gb * 1e9))


class ShardCache:
    """Files by their checksum; threads and processes may share one directory."""

    def __init__(self, directory: str | Path, *, max_bytes: int) -> None:
        """Makes nothing yet.

        Args:
            directory: a local one; the cache uses `shards/` in it.
            max_bytes: what the entries may take together, besides those being written.
        """
        self._directory, self._max_bytes = Path(directory) / "shards", max_bytes
        self._writes = True

    def get(
        self, url: str | Path, *, sha256: str, num_bytes: int | None = None, remedy: str
    ) -> bytes:
        """Returns a file's bytes, from disk if they are there.

        Args:
            url: where the file is fetched from.
            sha256: what its SHA-256 is, in hex.
            num_bytes: and its size, if it is known.
            remedy: what to do where it is another; ends the error.

        Raises:
            CorpusError: the file can't be read, or isn't the one that the manifest names.
        """
        path = self._directory / sha256[:2] / sha256
        data = _read(path, sha256)
        if data is not None:
            with suppress(OSError):
                os.utime(path)
            return data
        data = read_verified(url, sha256=sha256, num_bytes=num_bytes, remedy=remedy)
        if self._writes and len(data) <= self._max_bytes:
            try:
                self._insert(path, data)
            except OSError as error:
                self._writes = False
                _LOG.warning(
                    "%s can't be written to (%s), so files are fetched whenever they are needed; "
                    "make room or set data.cache_dir",
                    self._directory,
                    error.strerror or error,
                )
        return data

    def drop(self, prefix: str) -> None:
        """Deletes the files whose SHA-256 begins with these hex digits (two at least), if any.

        Raises:
            CorpusError: one can't be deleted.
        """
        directory = self._directory / prefix[:2]
        found = [*directory.glob(f"{prefix}*"), *directory.glob(f".{prefix}*")]
        if not found:
            return
        try:
            with self._counted() as count:
                for path in found:
                    with suppress(FileNotFoundError):
                        count.taken -= path.stat().st_size
                        path.unlink()
                count.save()
        except OSError as error:
            raise CorpusError(
                f"{directory}: can't delete a copy of a replaced shard "
                f"({error.strerror or error}); delete the directory"
            ) from error

    def _insert(self, path: Path, data: bytes) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            temporary.write_bytes(data)
            with self._counted() as count:
                if path.exists() and path.stat().st_size == len(data):
                    count.taken -= len(data)  # another process was faster, or some bytes changed
                if count.taken + len(data) > self._max_bytes:
                    count.taken = self._make_room(len(data), keep=path)
                # Before the file is there: a process killed in between makes the count too high,
                # which the next `_make_room` mends, never too low.
                count.taken += len(data)
                count.save()
                os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise

    @contextmanager
    def _counted(self) -> Iterator["_Count"]:
        """The bytes of all entries, for this process alone to read and change."""
        descriptor = os.open(self._directory / "size", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield _Count(descriptor)
        finally:
            os.close(descriptor)

    def _make_room(self, num_bytes: int, *, keep: Path) -> int:
        """Removes the least recently used entries; returns the bytes of those that stay."""
        entries = []
        for directory in self._directory.iterdir():
            if not directory.is_dir():
                continue
            for entry in os.scandir(directory):
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    if entry.name.startswith("."):
                        if status.st_mtime < time.time() - _STALE_S:
                            os.unlink(entry.path)
                    elif entry.path != str(keep):
                        entries.append((status.st_mtime_ns, entry.path, status.st_size))
        taken = sum(size for _, _, size in entries)
        for _, name, size in sorted(entries):
            if taken + num_bytes <= max(num_bytes, int(self._max_bytes * _KEEP)):
                break
            with suppress(FileNotFoundError):
                os.unlink(name)
            taken -= size
        return taken


class _Count:
    """The number in the cache's `size` file, which its opener has locked."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        text = os.pread(descriptor, 32, 0)
        # Missing or damaged, it is taken for a great many, so that all entries are counted anew.
        self.taken = int(text) if text.isdigit() else 1 << 62

    def save(self) -> None:
        """Writes it back, in one piece and always as wide."""
        os.pwrite(self._descriptor, b"%020d" % max(0, self.taken), 0)


def _read(path: Path, sha256: str) -> bytes | None:
    """Returns an entry's bytes; None where it isn't there, can't be read or is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == sha256 else None
