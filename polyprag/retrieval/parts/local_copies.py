"""Copies of a remote index's parts on this machine's disk, shared by its processes.

A copy is named for the checksums of its files, verified when it is made, and kept while somebody
searches it; of those that nobody uses the oldest go when all take more than a bound.
"""

import fcntl
import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from polyprag.errors import FileError, RunError
from polyprag.retrieval.parts.components import REMEDY, Component
from sharding.storage.files import download, join


class PartCopies:
    """A directory of copies. The parts that it gave stay until it is garbage or the process ends.

    Attributes:
        root: the directory.
    """

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        """Makes nothing yet.

        Args:
            root: a local directory.
            max_bytes: what copies that nobody uses may take, together with those in use.
        """
        self.root, self._max_bytes = root, max_bytes
        self._held: dict[str, IO[str]] = {}

    def get(self, url: str, component: Component, *, whole: bool = False) -> Path:
        """Returns a part's local directory; it is downloaded unless a sound copy is there.

        Args:
            url: of the part's directory.
            component: its files.
            whole: whether the checksums of large files are verified even if the copy was there.

        Raises:
            RunError: a file of the part is missing or isn't what the manifest says, or the disk
                can't hold it.
        """
        key = _key(component)
        directory = self.root / key
        try:
            with self._lock(f"{key}.lock"):
                if not _is_sound(directory, component, whole=whole):
                    self._download(url, component, directory)
                os.utime(directory)
                if key not in self._held:
                    self._held[key] = self._lock(f"{key}.use", fcntl.LOCK_SH)
            self._make_room()
        except OSError as error:
            raise RunError(
                f"{self.root}: can't hold a copy of {url} ({error.strerror or error}); make room "
                "or set data.cache_dir"
            ) from error
        return directory

    def add(self, built: Path, component: Component) -> None:
        """Makes a copy of a directory on the same disk that is no longer needed."""
        key = _key(component)
        with self._lock(f"{key}.lock"):
            target = self.root / key
            if target.exists():
                shutil.rmtree(target)
            built.rename(target)

    def forget(self, component: Component) -> None:
        """Deletes the copy of a part that the index no longer has, unless somebody else uses it."""
        key = _key(component)
        with suppress(OSError):
            if key in self._held:
                self._held.pop(key).close()
            self._remove(key)

    def _remove(self, key: str) -> bool:
        """Deletes a copy; tells whether it is gone, which it isn't while it is in use."""
        at_once = fcntl.LOCK_EX | fcntl.LOCK_NB
        with (
            suppress(BlockingIOError),
            self._lock(f"{key}.lock", at_once),
            self._lock(f"{key}.use", at_once),
        ):
            shutil.rmtree(self.root / key, ignore_errors=True)
            return True
        return False

    def _download(self, url: str, component: Component, directory: Path) -> None:
        temporary = directory.with_suffix(".tmp")  # under the part's lock: nobody else's
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            for name in component.files:
                try:
                    download(join(url, name), temporary / name)
                except FileError as error:
                    raise RunError(f"{error}; or {REMEDY}") from error
            component.verify(temporary, whole=True, shown=url)
            if directory.exists():
                shutil.rmtree(directory)
            temporary.rename(directory)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _lock(self, name: str, operation: int = fcntl.LOCK_EX) -> IO[str]:
        """Locks a file until it is closed.

        KEY.lock is held while a copy is made or deleted. KEY.use is held, shared, by everyone who
        uses the copy; it is only asked for with KEY.lock in hand.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = open(self.root / name, "w")  # noqa: SIM115 - the caller's
        try:
            fcntl.flock(lock, operation)
        except BaseException:
            lock.close()
            raise
        return lock

    def _make_room(self) -> None:
        copies = []
        for entry in os.scandir(self.root):
            if entry.is_dir() and len(entry.name) == _KEY_LENGTH:
                size = sum(file.stat().st_size for file in os.scandir(entry.path))
                copies.append((entry.stat().st_mtime_ns, entry.name, size))
        taken = sum(size for _, _, size in copies)
        for _, key, size in sorted(copies):
            if taken <= self._max_bytes:
                return
            if self._remove(key):
                taken -= size


_KEY_LENGTH = 32


def _key(component: Component) -> str:
    files = json.dumps(msgspec.to_builtins(component.files), sort_keys=True)
    return hashlib.sha256(files.encode()).hexdigest()[:_KEY_LENGTH]


def _is_sound(directory: Path, component: Component, *, whole: bool) -> bool:
    try:
        component.verify(directory, whole=whole)
    except RunError:
        return False
    return True
