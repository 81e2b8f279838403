"""What `sharding.storage.files` does with files that don't lie on this machine."""

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

from sharding.errors import FileError
from sharding.storage.ranged import buffered
from sharding.storage.retry import ShortReadError, ask, is_already_there
from sharding.storage.urls import HTTP, OBJECT_STORES, filesystem_of, is_chained, scheme_of

_WRITTEN = ("LastModified", "mtime", "updated", "created")  # as the file systems call it


def info(url: str | Path) -> dict[str, Any]:
    """Returns what the storage says of a name.

    Unlike fsspec's `exists`, a failure isn't taken for a no.

    Raises:
        FileError: the storage refused, or failed in every try; so do all functions here.
        FileNotFoundError: there is no such name.
    """
    fs, remote = filesystem_of(url)
    found: dict[str, Any] = ask(url, lambda: fs.info(remote))
    return found


def open_remote(url: str | Path) -> IO[bytes]:
    """Returns a seekable file whose blocks are fetched as they are read."""
    fs, remote = filesystem_of(url)
    found = info(url)
    if found.get("type") == "directory":
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    size = found.get("size")
    if size is None or (scheme_of(url) in HTTP and not found.get("partial")):
        # A server that doesn't answer ranged requests: all of it, to disk.
        with tempfile.NamedTemporaryFile(prefix="polyprag-") as file:
            ask(url, lambda: fs.get_file(remote, file.name))
            return open(file.name, "rb")
    return buffered(partial(_fetch, url, fs, remote), size=int(size))


def _fetch(url: str | Path, fs: Any, remote: str, offset: int, length: int) -> bytes:
    """Returns exactly these bytes, which lie inside the file."""
    headers = {"headers": {"Accept-Encoding": "identity"}} if scheme_of(url) in HTTP else {}

    def once() -> bytes:
        data: bytes = fs.cat_file(remote, start=offset, end=offset + length, **headers)
        if len(data) > length:  # the server answered with the whole file
            data = data[offset : offset + length]
        if len(data) != length:
            raise ShortReadError(f"{len(data)} bytes came of {length} at {offset}")
        return data

    return ask(url, once)


def read_remote(url: str | Path, *, offset: int, length: int | None) -> bytes:
    """Returns a file's bytes, or a range of them."""
    fs, remote = filesystem_of(url)
    if scheme_of(url) in HTTP:
        if offset or length is not None:
            size = remote_size(url)  # tells a short answer from a whole one
            wanted = max(0, size - offset) if length is None else min(length, max(0, size - offset))
            return _fetch(url, fs, remote, offset, wanted) if wanted else b""
        data: bytes = ask(url, lambda: fs.cat_file(remote))
        return data
    if length == 0:
        return b""
    end = None if length is None else offset + length

    def once() -> bytes:
        try:
            # With a start s3fs asks once; without, it asks for the size first.
            return bytes(fs.cat_file(remote, start=offset, end=end))
        except OSError as error:
            if _is_behind_the_end(error):
                return b""
            raise

    return ask(url, once)


def _is_behind_the_end(error: OSError) -> bool:
    response = getattr(error.__cause__ or error.__context__, "response", None)
    return isinstance(response, dict) and response.get("Error", {}).get("Code") in (
        "InvalidRange",
        "416",
    )


def remote_size(url: str | Path) -> int:
    """Returns a file's bytes."""
    size = info(url).get("size")
    if size is None:
        raise FileError(f"{url}: the server doesn't tell the file's size; copy it to disk first")
    return int(size)


def list_remote(url: str | Path) -> dict[str, int]:
    """Returns the bytes of a directory's files by their names, sorted; none when it isn't there."""
    if scheme_of(url) in HTTP:
        raise FileError(f"{url}: a directory can't be listed over http; copy it to disk first")
    _, remote = filesystem_of(url)
    found = {
        entry["name"].rstrip("/").rsplit("/", 1)[-1]: int(entry.get("size") or 0)
        for entry in _entries(url)
        if entry["name"].strip("/") != remote.strip("/")  # the mark that some tools leave
    }
    return dict(sorted(found.items()))


def _entries(url: str | Path) -> list[dict[str, Any]]:
    """Returns what lies in a directory, as fsspec describes it; nothing when it isn't there."""
    fs, remote = filesystem_of(url)
    try:
        entries: list[dict[str, Any]] = ask(url, lambda: fs.ls(remote, detail=True))
    except FileNotFoundError:
        return []
    return entries


def newest_remote(url: str | Path) -> float | None:
    """When a file of a directory was last written; None where the storage doesn't tell."""
    newest = 0.0
    for entry in _entries(url):
        if entry.get("type") == "directory":
            continue
        written = _written_at(entry)
        if written is None:
            return None
        newest = max(newest, written)
    return newest


def changed_remote(url: str | Path) -> float | None:
    """When a file was last written; None where the storage doesn't tell."""
    return _written_at(info(url))


def _written_at(entry: dict[str, Any]) -> float | None:
    """When a file was last written, as its file system describes it."""
    written = next((entry[name] for name in _WRITTEN if entry.get(name)), None)
    if isinstance(written, str):
        with suppress(ValueError):
            written = datetime.fromisoformat(written)
    if isinstance(written, datetime):
        written = written.timestamp()
    return float(written) if isinstance(written, float | int) else None


def remove_remote(url: str | Path) -> None:
    """Deletes a file; `FileNotFoundError` where the storage says that it isn't there."""
    fs, remote = writable(url)
    ask(url, lambda: fs.rm_file(remote))


def writable(url: str | Path) -> tuple[Any, str]:
    """Returns the file system and path of a URL that may be written to."""
    if scheme_of(url) in HTTP:
        raise FileError(
            f"{url}: http(s):// is for reading only; write to a local path, s3:// or gs://"
        )
    if is_chained(url):
        raise FileError(f"{url}: a chained URL is for reading only; name the storage itself")
    return filesystem_of(url)


@contextmanager
def write_remote(url: str | Path, mode: str) -> Iterator[IO[Any]]:
    """A file on this machine's disk that is uploaded when the block ends, if it doesn't raise."""
    writable(url)  # refused before anything is computed for it
    with tempfile.TemporaryDirectory(prefix="polyprag-") as directory:
        local = os.path.join(directory, "upload")
        try:
            with open(local, mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise FileError(
                f"{directory}: no room for what is to be uploaded to {url}; make some, or set "
                "TMPDIR to a larger disk"
            ) from error
        upload(local, url)


def upload(path: str | Path, url: str | Path) -> None:
    """Copies a local file to a remote name, where it appears whole or not at all.

    Raises:
        FileError: the storage refused, or failed in every try.
    """
    fs, remote = writable(url)
    local = os.fspath(path)
    try:
        if scheme_of(url) == "memory":  # its put_file shows half a file
            ask(url, lambda: fs.pipe_file(remote, Path(local).read_bytes()))
        elif scheme_of(url) in OBJECT_STORES:
            ask(url, lambda: fs.put_file(local, remote))
        else:
            _put_and_rename(url, fs, local, remote)
    except FileNotFoundError as error:
        raise FileError(
            f"{url}: no such bucket or directory; make it, or check the URL and the endpoint"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise FileError(f"{url}: can't be written: {error}") from error


def create_remote(url: str | Path, data: bytes) -> bool:
    """Writes a small file unless there is one of that name.

    On S3 and Google Cloud the storage decides between two that try at once; elsewhere nobody does.

    Returns:
        Whether it is this call's bytes that are there.
    """
    fs, remote = writable(url)

    def once() -> bool:
        try:
            if scheme_of(url) not in OBJECT_STORES:
                fs.makedirs(remote.rpartition("/")[0], exist_ok=True)
            fs.pipe_file(remote, data, mode="create")
        except Exception as error:
            if is_already_there(error):
                return False
            raise
        return True

    # What is there may come from a try of ours whose answer was lost.
    return ask(url, once) or read_remote(url, offset=0, length=None) == data


def _put_and_rename(url: str | Path, fs: Any, local: str, remote: str) -> None:
    """For file systems that can rename, where an upload shows while it is under way."""
    parent, _, name = remote.rpartition("/")
    temporary = f"{parent}/.{name}.{secrets.token_hex(4)}.tmp"
    try:
        ask(url, lambda: fs.makedirs(parent, exist_ok=True))
        ask(url, lambda: fs.put_file(local, temporary))
        ask(url, lambda: fs.mv(temporary, remote))
    except BaseException:
        with suppress(Exception):
            fs.rm_file(temporary)
        raise
