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

_IRREGULAR = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


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
        """See `Store`."""
        return os.path.exists(self._path)

    def list_sizes(self) -> dict[str, int]:
        """See `Store`."""
        if not os.path.isdir(self._path):
            return {}
        with os.scandir(self._path) as entries:
            return dict(sorted((entry.name, _size_of(entry)) for entry in entries))

    def list_names(self) -> list[str]:
        """See `Store`; asks for no file's size, which takes longer than the names."""
        return sorted(os.listdir(self._path)) if os.path.isdir(self._path) else []

    def newest_change(self) -> float | None:
        """See `Store`."""
        if not os.path.isdir(self._path):
            return 0.0
        with os.scandir(self._path) as entries:
            return max((entry.stat().st_mtime for entry in entries if entry.is_file()), default=0.0)

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
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temporary, self._path)
        except BaseException as error:
            with suppress(FileNotFoundError):
                os.remove(temporary)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._cannot_write(error) from error
            raise
        if durable:
            sync_directory(parent)

    def create(self, data: bytes) -> bool:
        """See `Store`: a whole temporary file is linked to the name, which fails if it is there."""
        parent, temporary = self._parent_and_temporary()
        try:
            with LocalStore(temporary, temporary).write("wb", durable=True) as file:
                file.write(data)
            os.link(temporary, self._path)
        except FileExistsError:
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
        with open(self._path, "rb") as file:
            try:
                os.fsync(file.fileno())
            except OSError as error:
                raise self._cannot_write(error) from error
        return os.path.dirname(os.path.abspath(self._path))

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


def _size_of(entry: os.DirEntry[str]) -> int:
    """Returns an entry's bytes; 0 of a link that leads nowhere."""
    try:
        return entry.stat().st_size
    except OSError:
        return 0


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
