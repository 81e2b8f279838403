"""Read, write atomically, list and hash files that lie on disk or behind any fsspec URL.

Every file of a run is opened here, so that URLs that run commands are refused, requests to remote
storage are repeated, and nobody meets half of a file: in one place each.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from sharding.errors import FileError
from sharding.storage.decoding import decode, line_of
from sharding.storage.local import sync_directory
from sharding.storage.store import store_of
from sharding.storage.urls import EntryKind, local_path

MAX_JSON = 1 << 26  # bytes
TEMPORARY_NAME = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")  # what a killed `atomic_write` leaves


def join(url: str | Path, *parts: str) -> str:
    """Returns a URL or path with further parts appended by `/`."""
    return "/".join([(os.fspath(url) or ".").rstrip("/"), *parts])


def open_url(url: str | Path, mode: str = "rb") -> IO[Any]:
    """Opens a file for reading, seekable; of a remote one, blocks are fetched as they are read.

    Args:
        url: a path or any fsspec URL; `pipe:` and the like are refused.
        mode: "rb", or "r" for text in UTF-8.

    Returns:
        An open file.

    Raises:
        FileError: the file isn't there, can't be read, or its file system isn't installed.
    """
    if mode not in ("r", "rb"):
        raise ValueError(f"mode {mode!r}: files are read here and written by atomic_write")
    with _told(url):
        binary = store_of(url).open()
    return binary if mode == "rb" else io.TextIOWrapper(binary, encoding="utf-8")


def read_bytes(url: str | Path, *, offset: int = 0, length: int | None = None) -> bytes:
    """Returns the bytes of a file, or a range of them (one request where it is remote).

    Args:
        url: a path or any fsspec URL.
        offset: the first byte, from 0; nothing is there behind the file's end.
        length: how many at most; None for all that follow.

    Raises:
        FileError: as of `open_url`.
    """
    with _told(url):
        return store_of(url).read(offset=offset, length=length)


def size_of(url: str | Path) -> int:
    """Returns a file's bytes.

    Raises:
        FileError: as of `open_url`.
    """
    with _told(url):
        return store_of(url).size()


def exists(url: str | Path) -> bool:
    """Returns whether there is a file or directory of that name.

    Raises:
        FileError: there is no telling.
    """
    with _told(url):
        return store_of(url).exists()


def list_sizes(url: str | Path) -> dict[str, int]:
    """Returns the bytes of what lies in a directory by its name, sorted.

    Nothing when there is no directory.

    Raises:
        FileError: the storage refuses, or can't list, as http(s):// can't.
    """
    with _told(url):
        return store_of(url).list_sizes()


def list_kinds(url: str | Path) -> dict[str, EntryKind]:
    """Returns what each thing in a directory is (file, folder, link, other) by its name, sorted.

    Raises:
        FileError: as of `list_sizes`.
    """
    with _told(url):
        return store_of(url).list_kinds()


def list_names(url: str | Path) -> list[str]:
    """Returns the sorted names of what lies in a directory; none when there is no such directory.

    Raises:
        FileError: as of `list_sizes`.
    """
    with _told(url):
        return store_of(url).list_names()


def newest_change(url: str | Path) -> float | None:
    """When a file of a directory was last written, in seconds since 1970; 0 when there is none.

    Returns:
        None where the storage doesn't tell.

    Raises:
        FileError: as of `list_sizes`.
    """
    with _told(url):
        return store_of(url).newest_change()


def changed_at(url: str | Path) -> float | None:
    """When a file was last written, in seconds since 1970; None where nothing tells.

    Raises:
        FileError: the storage refuses.
    """
    with _told(url), suppress(FileNotFoundError):
        return store_of(url).changed_at()
    return None


def remove(url: str | Path) -> None:
    """Deletes a file; nothing happens when it isn't there.

    Raises:
        FileError: it can't be deleted.
    """
    with _told(url), suppress(FileNotFoundError):
        store_of(url).remove()


def remove_directory(url: str | Path) -> None:
    """Deletes the files in a directory, and it; nothing happens when it isn't there.

    Of a link to a directory only the link goes.
    """
    path = local_path(url)
    if path is None or not os.path.islink(path):
        for name in list_names(url):
            remove(join(url, name))
    with _told(url), suppress(FileNotFoundError):
        store_of(url).remove_empty_directory()


@contextmanager
def _told(url: str | Path) -> Iterator[None]:
    """Turns the operating system's errors of the block into those of the file or directory."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileError(f"{url}: no such file; check the path") from error
    except OSError as error:
        raise FileError(
            f"{url}: can't be opened: {error.strerror or error}; check the path and its permissions"
        ) from error


def sha256_of(url: str | Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hex."""
    with open_url(url) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


@contextmanager
def atomic_write(url: str | Path, mode: str = "wb", *, durable: bool = True) -> Iterator[IO[Any]]:
    """Writes a file that appears under its name whole or not at all.

    The bytes go to a hidden temporary name beside it, are flushed to disk, and are renamed when
    the block ends; when the block raises, the temporary file goes and the old file stays. For a
    remote file they go to this machine's temporary directory and are uploaded when the block ends.

    Args:
        url: a path or fsspec URL; missing parent directories are made.
        mode: "wb" or "w" (UTF-8).
        durable: whether the file must survive a power cut right after. One that is checked and can
            be made again, or that `sync` gets later, needn't, and waits for no disk.

    Yields:
        The open temporary file.

    Raises:
        FileError: the place can't be written to, or only read, as http(s)://.
    """
    with store_of(url).write(mode, durable=durable) as file:
        yield file


def create(url: str | Path, data: bytes) -> bool:
    """Writes a small file, whole, unless there is one of that name: of several that try, one can.

    Returns:
        Whether this call wrote it.

    Raises:
        FileError: the place can't be written to.
    """
    return store_of(url).create(data)


def upload(path: str | Path, url: str | Path) -> None:
    """Copies a file of this machine to another name, where it appears whole or not at all.

    Raises:
        FileError: the storage refused, or failed in every try.
    """
    store_of(url).upload(os.fspath(path))


def sync(urls: Iterable[str | Path]) -> None:
    """Has files survive a power cut from now on; remote ones do so once they are written.

    Raises:
        FileError: one isn't there, or the disk has failed or is full.
    """
    directories = set()
    for url in sorted({os.fspath(url) for url in urls}):
        with _told(url):
            directories.add(store_of(url).sync())
    for directory in sorted(filter(None, directories)):
        sync_directory(directory)


def download(url: str | Path, path: str | Path) -> None:
    """Copies a file to a local path, which mustn't be in use: half of it shows meanwhile.

    Raises:
        FileError: as of `open_url`.
    """
    with open_url(url) as source, open(path, "wb") as target:
        while block := source.read(1 << 20):
            target.write(block)


def write_json(url: str | Path, value: Any) -> None:
    """Writes a value as JSON, atomically; NaN and infinity are refused by `json`."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    with atomic_write(url) as file:
        file.write(text.encode() + b"\n")


def read_small(url: str | Path, *, at_most: int) -> bytes:
    """Returns the bytes of a file that is no longer than any file of its kind can be.

    Raises:
        FileError: as of `open_url`, or it is longer.
    """
    data = read_bytes(url, length=at_most + 1)
    if len(data) > at_most:
        raise FileError(f"{url}: holds more than {at_most:,} bytes; it is damaged or no such file")
    return data


def read_json(url: str | Path, *, at_most: int = MAX_JSON) -> Any:
    """Reads a JSON file.

    Args:
        url: of the file.
        at_most: bytes that it may have.

    Raises:
        FileError: the file isn't there, is too long or isn't JSON; names the file and line.
    """
    data = read_small(url, at_most=at_most)
    try:
        return decode(data, object)
    except ValueError as error:
        line = line_of(error, data)
        where = f"{url}:{line}" if line else str(url)
        raise FileError(
            f"{where}: not valid JSON ({error}); the file is damaged: run the stage that wrote it "
            "again"
        ) from error
