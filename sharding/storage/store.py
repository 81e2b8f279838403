"""Where a file or directory lies, and what can be done with it there; asked once for each URL."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Protocol

from sharding.storage.local import LocalStore
from sharding.storage.remote import RemoteStore
from sharding.storage.urls import EntryKind, local_path


class Store(Protocol):
    """A file or directory, there or not, on this machine or behind a URL.

    `FileNotFoundError` and other errors of the operating system go through where a method doesn't
    say otherwise: `sharding.storage.files` words them. A remote storage that refuses raises
    `FileError`, one that fails in every try `StorageError`.
    """

    def open(self) -> IO[bytes]:
        """Returns the file, open for reading and seekable."""

    def read(self, *, offset: int, length: int | None) -> bytes:
        """Returns a range of its bytes; all that follow where no length is given."""

    def size(self) -> int:
        """Returns its bytes."""

    def exists(self) -> bool:
        """Returns whether there is a file or directory of that name."""

    def list_sizes(self) -> dict[str, int]:
        """Returns what lies in the directory, by name, sorted; nothing where there is none."""

    def list_kinds(self) -> dict[str, EntryKind]:
        """Returns what each thing in the directory is, by name, sorted; nothing without one."""

    def list_names(self) -> list[str]:
        """Returns the sorted names in the directory; none where there is none."""

    def newest_change(self) -> float | None:
        """Returns when one of its files was last written; None where the storage doesn't tell."""

    def changed_at(self) -> float | None:
        """Returns when the file was last written; None where the storage doesn't tell."""

    def remove(self) -> None:
        """Deletes the file."""

    def remove_empty_directory(self) -> None:
        """Deletes the directory, which holds nothing; most storages have no such thing."""

    def write(self, mode: str, *, durable: bool) -> AbstractContextManager[IO[Any]]:
        """Yields a file that appears under the name when the block ends, whole or not at all.

        Raises:
            FileError: it can't be written.
        """

    def create(self, data: bytes) -> bool:
        """Writes the file unless it is there; returns whether this call did.

        Raises:
            FileError: it can't be written.
        """

    def upload(self, path: str) -> None:
        """Copies a file of this machine to the name, where it appears whole or not at all.

        Raises:
            FileError: it can't be written.
        """

    def sync(self) -> str | None:
        """Has the file survive a power cut; returns the directory that must be synced, if any.

        Raises:
            FileError: the disk has failed or is full.
        """


def store_of(url: str | Path) -> Store:
    """Returns what a path or URL names.

    Raises:
        FileError: it is a URL that runs a command.
    """
    path = local_path(url)
    return RemoteStore(url) if path is None else LocalStore(url, path)
