"""A bounded cache on this machine's disk, shared by all its processes and by all that they cache.

It holds files (shards), named for their SHA-256, and directories (parts of an index), named for a
key of their contents. The least recently used go first, whatever they are; a directory stays while
somebody uses it. Files are checked whenever they are used, so a damaged one is fetched again and
nothing needs to be flushed to disk. A file that can't be kept costs a warning, never a run.
"""

import fcntl
import hashlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO

from sharding.errors import FileError
from sharding.storage.shared_count import Count, locked_count
from sharding.storage.urls import is_local
from sharding.storage.verified import read_verified

_LOG = logging.getLogger(__name__)

_KEEP = 0.9  # share of the bound that is kept when room is made, so that it is made seldom
_STALE_S = 3600.0  # a temporary file of this age belongs to a writer that was killed
_KEY = re.compile(r"[0-9a-f]{32}")


def default_cache_dir() -> str:
    """`$XDG_CACHE_HOME/polyprag`, which is `~/.cache/polyprag` where that isn't set."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "polyprag")


def cache_for(url: str | Path, *, directory: str | None, max_gb: float) -> "LocalCache | None":
    """Returns the cache to read files under a URL through.

    None where they are local or it is turned off.

    Args:
        url: of the corpus.
        directory: `data.cache_dir`; None for the default one.
        max_gb: `data.cache_gb`, in 10^9 bytes; 0 turns the cache off.
    """
    return None if is_local(url) or max_gb <= 0 else cache_in(directory, max_gb=max_gb)


def cache_in(directory: str | None, *, max_gb: float) -> "LocalCache":
    """Returns the cache in `data.cache_dir`, or the default one; see `cache_for`."""
    return LocalCache(directory or default_cache_dir(), max_bytes=int(max_gb * 1e9))


class LocalCache:
    """Files by their checksum and directories by their key; threads and processes may share it.

    The directories that an instance gave stay until it is garbage or the process ends.

    Attributes:
        directories: where they are, for what is to be added to lie on the same disk.
    """

    def __init__(self, root: str | Path, *, max_bytes: int) -> None:
        """Makes nothing yet.

        Args:
            root: a local directory.
            max_bytes: what all entries may take together, besides those being written. Directories
                in use stay even if they take more.
        """
        self._root, self._max_bytes = Path(root), max_bytes
        self._files, self.directories = self._root / "shards", self._root / "index"
        self._writes = True
        self._held: dict[str, IO[str]] = {}

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
            FileError: the file can't be read, or isn't the one that was promised.
        """
        path = self._files / sha256[:2] / sha256
        data = _read(path, sha256)
        if data is not None:
            with suppress(OSError):
                os.utime(path)
            return data
        data = read_verified(url, sha256=sha256, num_bytes=num_bytes, remedy=remedy)
        if self._writes and len(data) <= self._max_bytes:
            try:
                self._insert_file(path, data)
            except OSError as error:
                self._writes = False
                _LOG.warning(
                    "%s can't be written to (%s), so files are fetched whenever they are needed; "
                    "make room or set data.cache_dir",
                    self._files,
                    error.strerror or error,
                )
        return data

    def drop(self, prefix: str) -> None:
        """Deletes the files whose SHA-256 begins with these hex digits (two at least), if any.

        Raises:
            FileError: one can't be deleted.
        """
        directory = self._files / prefix[:2]
        found = [*directory.glob(f"{prefix}*"), *directory.glob(f".{prefix}*")]
        if not found:
            return
        try:
            with self._counted() as count:
                for path in found:
                    with suppress(FileNotFoundError):
                        count.value -= path.stat().st_size
                        path.unlink()
        except OSError as error:
            raise FileError(
                f"{directory}: can't delete a copy of a replaced shard "
                f"({error.strerror or error}); delete the directory"
            ) from error

    def use_directory(
        self, key: str, *, is_sound: Callable[[Path], bool], fill: Callable[[Path], None]
    ) -> Path:
        """Returns a directory, which is filled unless it is there and sound, and holds it.

        Args:
            key: 32 hex digits that stand for its contents.
            is_sound: whether the directory, which may not be there, holds what it must.
            fill: puts everything into an empty directory, and checks it.

        Raises:
            OSError: the disk is full, or can't be written to.
        """
        path = self.directories / key
        with self._lock(f"{key}.lock"):
            if not is_sound(path):
                temporary = path.with_suffix(".tmp")  # under the key's lock: nobody else's
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir()
                try:
                    fill(temporary)
                    self._move_in(temporary, path)
                except BaseException:
                    shutil.rmtree(temporary, ignore_errors=True)
                    raise
            os.utime(path)
            if key not in self._held:
                self._held[key] = self._lock(f"{key}.use", fcntl.LOCK_SH)
        with self._counted() as count:
            if count.value > self._max_bytes:  # what was in use then may not be any more
                count.value = self._make_room(0, replaced=None)
        return path

    def add_directory(self, key: str, built: Path) -> None:
        """Moves a directory in that was built on the same disk, as the one of a key."""
        with self._lock(f"{key}.lock"):
            self._move_in(built, self.directories / key)

    def drop_directory(self, key: str) -> None:
        """Deletes a directory unless somebody else uses it."""
        with suppress(OSError):
            if key in self._held:
                self._held.pop(key).close()
            with self._counted() as count:
                num_bytes = _size(self.directories / key)
                if self._remove_directory(key):
                    count.value -= num_bytes

    def _insert_file(self, path: Path, data: bytes) -> None:
        self._files.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            temporary.write_bytes(data)
            self._move_in(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _move_in(self, temporary: Path, path: Path) -> None:
        """Gives an entry its name; a file that finds no room beside what is in use gets none."""
        num_bytes, is_directory = _size(temporary), temporary.is_dir()
        with self._counted() as count:
            if _size(path) == num_bytes:
                count.value -= num_bytes  # another process was faster, or some bytes changed
            if count.value + num_bytes > self._max_bytes:
                count.value = self._make_room(num_bytes, replaced=path)
            if not is_directory and count.value + num_bytes > self._max_bytes:
                return
            # Before the entry is there: a process killed in between makes the count too high, which
            # the next `_make_room` mends, never too low.
            count.value += num_bytes
            count.save()
            if is_directory:
                shutil.rmtree(path, ignore_errors=True)
            os.replace(temporary, path)

    def _lock(self, name: str, operation: int = fcntl.LOCK_EX) -> IO[str]:
        """Locks a file until it is closed.

        KEY.lock is held while a directory is made or deleted. KEY.use is held, shared, by everyone
        who uses it, and only asked for with KEY.lock in hand. The count's lock comes last: with it
        in hand nobody waits for another.
        """
        self.directories.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = open(self.directories / name, "w")  # noqa: SIM115 - the caller's
        try:
            fcntl.flock(lock, operation)
        except BaseException:
            lock.close()
            raise
        return lock

    def _counted(self) -> AbstractContextManager[Count]:
        """The bytes of all entries; where that isn't known, so many that they are counted anew."""
        return locked_count(self._root / "size")

    def _make_room(self, num_bytes: int, *, replaced: Path | None) -> int:
        """Removes the least recently used entries; returns the bytes of those that stay.

        Args:
            num_bytes: of the entry that needs room.
            replaced: the entry whose place it takes, which isn't counted.
        """
        entries = [entry for entry in self._entries() if entry[1] != replaced]
        taken = sum(size for _, _, size in entries)
        for _, path, size in sorted(entries):
            if taken + num_bytes <= max(num_bytes, int(self._max_bytes * _KEEP)):
                break
            if path.parent != self.directories:
                path.unlink(missing_ok=True)
                taken -= size
            elif self._remove_directory(path.name):
                taken -= size
        return taken

    def _entries(self) -> Iterator[tuple[int, Path, int]]:
        """Yields when each entry was last used, its path, and its bytes."""
        for path in self.directories.glob("*"):
            if _KEY.fullmatch(path.name):
                with suppress(FileNotFoundError):
                    yield path.stat().st_mtime_ns, path, _size(path)
        for path in self._files.glob("*/*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                if not path.name.startswith("."):
                    yield status.st_mtime_ns, path, status.st_size
                elif status.st_mtime < time.time() - _STALE_S:
                    path.unlink()

    def _remove_directory(self, key: str) -> bool:
        """Deletes a directory; tells whether it is gone, which it isn't while it is in use."""
        at_once = fcntl.LOCK_EX | fcntl.LOCK_NB
        with (
            suppress(BlockingIOError),
            self._lock(f"{key}.lock", at_once),
            self._lock(f"{key}.use", at_once),
        ):
            shutil.rmtree(self.directories / key, ignore_errors=True)
            return True
        return False


def _size(path: Path) -> int:
    """Returns the bytes of a file, or of a directory's files; 0 where nothing is there."""
    try:
        if path.is_dir():
            return sum(entry.stat().st_size for entry in os.scandir(path))
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read(path: Path, sha256: str) -> bytes | None:
    """Returns an entry's bytes; None where it isn't there, can't be read or is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == sha256 else None
