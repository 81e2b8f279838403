"""A file or directory on this machine's own file system."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from sharding.errors import FileError
from sharding.storage.urls import EntryKind

_IRREGULAR = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_NO_SUCH_NAME = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


class LocalStore:
    """See `sharding.storage.store.Store`."""

    def __init__(self, url: str | Path, path: str) -> None:
        """Touches nothing.

        Args:
            url: how errors name the file.
            path: where it is.
        """
        self._url, self._path = url, path

    def open(self) -> IO[bytes]:
        """See `Store`."""
        return open_regular(self._path)

    def read(self, *, offset: int, length: int | None) -> bytes:
        """See `Store`."""
        with open_regular(self._path) as file:
            file.seek(offset)
            if length is None:
                return file.read()
            # Python reserves what is asked for, which a damaged manifest may say.
            return file.read(min(length, max(0, os.fstat(file.fileno()).st_size - offset)))

    def size(self) -> int:
        """See `Store`."""
        status = os.stat(self._path)
        _refuse_irregular(status, self._path)
        return status.st_size

    def exists(self) -> bool:
        """See `Store`; unlike Python's `exists`, it doesn't take a failure for a no."""
        try:
            os.stat(self._path)
        except ValueError:  # no file has a name with a zero byte
            return False
        except OSError as error:
            if error.errno in _NO_SUCH_NAME:
                return False
            raise
        return True

    def list_sizes(self) -> dict[str, int]:
        """See `Store`."""
        return {name: found.st_size for name, found in self._stats()}

    def list_kinds(self) -> dict[str, EntryKind]:
        """See `Store`; a link is a link, wherever it leads."""
        with self._entries() as entries:
            return dict(sorted((entry.name, _kind_of(entry)) for entry in entries))

    def list_names(self) -> list[str]:
        """See `Store`; asks for no file's size, which takes longer than the names."""
        with self._entries() as entries:
            return sorted(entry.name for entry in entries)

    def newest_change(self) -> float | None:
        """See `Store`."""
        written = (found.st_mtime for _, found in self._stats() if stat.S_ISREG(found.st_mode))
        return max(written, default=0.0)

    def changed_at(self) -> float | None:
        """See `Store`."""
        return os.stat(self._path).st_mtime

    def remove(self) -> None:
        """See `Store`."""
        os.remove(self._path)

    def remove_empty_directory(self) -> None:
        """See `Store`."""
        if os.path.islink(self._path):
            os.unlink(self._path)
        else:
            os.rmdir(self._path)

    @contextmanager
    def write(self, mode: str, *, durable: bool) -> Iterator[IO[Any]]:
        """See `Store`: to a hidden temporary name beside the file, which is renamed at the end."""
        parent, temporary = self._parent_and_temporary()
        encoding = None if "b" in mode else "utf-8"
        try:
            try:
                file = open(temporary, mode, encoding=encoding)  # noqa: SIM115 - closed further down
            except FileNotFoundError:
                os.makedirs(parent, exist_ok=True)
                file = open(temporary, mode, encoding=encoding)  # noqa: SIM115
        except OSError as error:
            raise self._cannot_write(error) from error
        try:
            with file:
                yield file
                with self._writing():
                    file.flush()
                    if durable:
                        os.fsync(file.fileno())
            with self._writing():
                os.replace(temporary, self._path)
        except BaseException as error:
            with suppress(OSError):
                os.remove(temporary)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._cannot_write(error) from error
            raise
        if durable:
            with self._writing():
                sync_directory(parent)

    def create(self, data: bytes) -> bool:
        """See `Store`: a whole temporary file is linked to the name, which fails if it is there."""
        parent, temporary = self._parent_and_temporary()
        try:
            with LocalStore(temporary, temporary).write("wb", durable=True) as file:
                file.write(data)
            os.link(temporary, self._path)
        except FileExistsError:
            # A server of NFS that made the link and whose answer was lost says so, too.
            if os.stat(temporary).st_nlink != 2:
                return False
        except OSError as error:
            raise self._cannot_write(error) from error
        finally:
            with suppress(FileNotFoundError):
                os.remove(temporary)
        sync_directory(parent)
        return True

    def upload(self, path: str) -> None:
        """See `Store`."""
        with open_regular(path) as source, self.write("wb", durable=True) as target:
            shutil.copyfileobj(source, target)

    def sync(self) -> str | None:
        """See `Store`."""
        with open(self._path, "rb") as file, self._writing():
            os.fsync(file.fileno())
        return os.path.dirname(os.path.abspath(self._path))

    @contextmanager
    def _entries(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        """Yields what lies in the directory; nothing where there is none."""
        try:
            entries = os.scandir(self._path)
        except OSError as error:
            if error.errno not in _NO_SUCH_NAME:
                raise
            yield iter(())
            return
        with entries:
            yield entries

    def _stats(self) -> list[tuple[str, os.stat_result]]:
        """Returns what lies in the directory, sorted by name, but what has gone meanwhile."""
        found = []
        with self._entries() as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    found.append((entry.name, _status_of(entry)))
        return sorted(found)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns the block's errors into those of a file that can't be written."""
        try:
            yield
        except OSError as error:
            raise self._cannot_write(error) from error

    def _parent_and_temporary(self) -> tuple[str, str]:
        """Returns the file's directory, and a temporary name in it that nobody else has."""
        parent, name = os.path.split(os.path.abspath(self._path))
        return parent, os.path.join(parent, f".{name}.{secrets.token_hex(4)}.tmp")

    def _cannot_write(self, error: OSError) -> FileError:
        return FileError(
            f"{self._url}: can't be written: {error.strerror}; make room, mend the permissions or "
            "choose another directory"
        )


def open_regular(path: str | Path) -> IO[bytes]:
    """Opens a file for reading, and never waits: a pipe, socket or device is refused.

    Raises:
        OSError: it can't be opened, or is no file.
    """
    _refuse_irregular(os.stat(path), path)  # a device may act when it is opened
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_irregular(os.fstat(descriptor), path)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def open_append(path: str | Path) -> int:
    """Opens a file to be written at its end, or to be locked, and makes it if need be.

    A link isn't followed, which may lead out of a run that comes from elsewhere.

    Returns:
        A descriptor.

    Raises:
        OSError: it can't be opened, or is no file.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        _refuse_irregular(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _kind_of(entry: os.DirEntry[str]) -> EntryKind:
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def _status_of(entry: os.DirEntry[str]) -> os.stat_result:
    """Returns an entry's status; a link's own where it leads nowhere."""
    try:
        return entry.stat()
    except OSError as error:
        if error.errno not in _NO_SUCH_NAME:
            raise
        return entry.stat(follow_symlinks=False)


def _refuse_irregular(status: os.stat_result, path: str | Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        kind = _IRREGULAR.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", os.fspath(path))


def sync_directory(path: str) -> None:
    """Makes a rename in a directory durable (a rename is only as durable as its directory)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
