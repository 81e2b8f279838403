"""Open, write atomically and hash files that may lie on disk or behind any fsspec URL.

Every file of a run is opened here, so that `pipe:` and shell URLs are refused in one place, and
every file is written to a temporary name first, so that a reader never meets half of one.
"""

import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import fsspec

from sharding.errors import CorpusError

TEMPORARY_NAME = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")  # what a killed `atomic_write` leaves

_REFUSED = ("pipe", "shell", "exec")


def _local_path(url: str | Path) -> str | None:
    """The path that a URL without a protocol (or with `file://`) means, else None."""
    text = os.fspath(url)
    if isinstance(url, Path):
        return text
    scheme = text.strip().split(":", 1)[0].lower()
    if ":" in text and scheme in _REFUSED:
        raise CorpusError(
            f"{text}: {scheme}: URLs run commands and are refused; give a file or URL"
        )
    if text.startswith("file://"):
        return text.removeprefix("file://")
    return None if "://" in text or "::" in text else text


def _remote(url: str | Path) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path in it."""
    try:
        fs, path = fsspec.core.url_to_fs(os.fspath(url))
    except (ImportError, ValueError) as error:
        raise CorpusError(
            f"{url}: can't be opened: {error}; install the file system's package "
            "(for s3:// that is `pip install polyprag[s3]`) or check the URL"
        ) from error
    return fs, str(path)


def join(url: str | Path, *parts: str) -> str:
    """A URL or path with further parts appended by `/`."""
    return "/".join([(os.fspath(url) or ".").rstrip("/"), *parts])


def open_url(url: str | Path, mode: str = "rb") -> IO[Any]:
    """Opens a path or fsspec URL.

    Args:
        url: A path or any fsspec URL; `pipe:` and the like are refused.
        mode: As of `open`; text modes are UTF-8.

    Returns:
        An open file.

    Raises:
        CorpusError: The file isn't there, can't be read, or its file system isn't installed.
    """
    encoding = None if "b" in mode else "utf-8"
    path = _local_path(url)
    try:
        if path is not None:
            return open(path, mode, encoding=encoding)
        fs, remote = _remote(url)
        opened: IO[Any] = fs.open(remote, mode, **({"encoding": encoding} if encoding else {}))
        return opened
    except FileNotFoundError as error:
        raise CorpusError(f"{url}: no such file; check the path") from error
    except OSError as error:
        raise CorpusError(
            f"{url}: can't be opened: {error.strerror or error}; check the path and its permissions"
        ) from error


def exists(url: str | Path) -> bool:
    """Whether there is a file or directory of that name."""
    path = _local_path(url)
    if path is not None:
        return os.path.exists(path)
    fs, remote = _remote(url)
    return bool(fs.exists(remote))


def list_names(url: str | Path) -> list[str]:
    """The sorted names of what lies in a directory; none when there is no such directory."""
    path = _local_path(url)
    if path is not None:
        return sorted(os.listdir(path)) if os.path.isdir(path) else []
    fs, remote = _remote(url)
    if not fs.exists(remote):
        return []
    return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in fs.ls(remote, detail=False))


def remove(url: str | Path) -> None:
    """Deletes a file; nothing happens when it isn't there."""
    path = _local_path(url)
    with suppress(FileNotFoundError):
        if path is not None:
            os.remove(path)
        else:
            fs, remote = _remote(url)
            fs.rm_file(remote)


def sha256_of(url: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with open_url(url) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


@contextmanager
def atomic_write(url: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Writes a file that appears under its name whole or not at all.

    The bytes go to a hidden temporary name beside it, are flushed to disk, and are renamed when
    the block ends; when the block raises, the temporary file goes and the old file stays.

    Args:
        url: A path or fsspec URL; missing parent directories are made.
        mode: "wb" or "w" (UTF-8).

    Yields:
        The open temporary file.
    """
    path = _local_path(url)
    if path is None:
        with _atomic_remote(url, mode) as file:
            yield file
        return
    parent, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(parent, _temporary_name(name))
    try:
        os.makedirs(parent, exist_ok=True)
        encoding = None if "b" in mode else "utf-8"
        file = open(temporary, mode, encoding=encoding)  # noqa: SIM115 - closed by the `with` below
    except OSError as error:
        raise _cannot_write(url, error) from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.remove(temporary)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _cannot_write(url, error) from error
        raise
    _sync_directory(parent)


def _cannot_write(url: str | Path, error: OSError) -> CorpusError:
    return CorpusError(
        f"{url}: can't be written: {error.strerror}; make room, mend the permissions or choose "
        "another directory"
    )


def _temporary_name(name: str) -> str:
    return f".{name}.{secrets.token_hex(4)}.tmp"


def _sync_directory(path: str) -> None:
    """Makes a rename in a directory durable (a rename is only as durable as its directory)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _atomic_remote(url: str | Path, mode: str) -> Iterator[IO[Any]]:
    fs, path = _remote(url)
    parent, _, name = path.rpartition("/")
    fs.makedirs(parent, exist_ok=True)
    temporary = f"{parent}/{_temporary_name(name)}"
    try:
        with fs.open(temporary, mode, **({} if "b" in mode else {"encoding": "utf-8"})) as file:
            yield file
        fs.mv(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            fs.rm_file(temporary)
        raise


def write_json(url: str | Path, value: Any) -> None:
    """Writes a value as JSON, atomically; NaN and infinity are refused by `json`."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    with atomic_write(url) as file:
        file.write(text.encode() + b"\n")


def read_json(url: str | Path) -> Any:
    """Reads a JSON file.

    Raises:
        CorpusError: The file isn't there or isn't JSON; names the file and line.
    """
    with open_url(url) as file:
        data = file.read()
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise CorpusError(
            f"{url}:{error.lineno}: not valid JSON ({error.msg}); the file is damaged: "
            "run the stage that wrote it again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise CorpusError(
            f"{url}: not valid JSON ({error}); run the stage that wrote it"
        ) from error
