"""A file or directory behind an fsspec URL; each request to the storage is repeated if it fails."""

import errno
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from hashlib import file_digest
from pathlib import Path
from typing import IO, Any, TypeVar

from sharding.errors import FileError
from sharding.storage.ranged import buffered
from sharding.storage.retry import (
    ShortReadError,
    is_already_there,
    is_behind_the_end,
    repeatable,
    with_retries,
)
from sharding.storage.urls import (
    HTTP,
    OBJECT_STORES,
    EntryKind,
    filesystem_of,
    is_chained,
    scheme_of,
    written_at,
)

T = TypeVar("T")


class RemoteStore:
    """See `sharding.storage.store.Store`."""

    def __init__(self, url: str | Path) -> None:
        """Asks the storage nothing yet.

        Args:
            url: an fsspec URL that isn't local. One whose file system isn't known or isn't
                installed raises `FileError` when it is used.
        """
        self._url, self._scheme = url, scheme_of(url)

    @cached_property
    def _place(self) -> tuple[Any, str]:
        return filesystem_of(self._url)  # late: of a chained URL it reads, which writing refuses

    @property
    def _fs(self) -> Any:
        return self._place[0]

    @property
    def _path(self) -> str:
        return self._place[1]

    def open(self) -> IO[bytes]:
        """See `Store`; blocks are fetched as they are read."""
        found = self._info()
        if found.get("type") == "directory":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        size = found.get("size")
        if size is None or (self._scheme in HTTP and not found.get("partial")):
            # A server that doesn't answer ranged requests: all of it, to disk.
            with tempfile.NamedTemporaryFile(prefix="polyprag-") as file:
                self._request(lambda: self._fs.get_file(self._path, file.name))
                return open(file.name, "rb")
        return buffered(self._fetch, size=int(size))

    def read(self, *, offset: int, length: int | None) -> bytes:
        """See `Store`."""
        if self._scheme in HTTP:
            if offset or length is not None:
                left = max(0, self.size() - offset)  # tells a short answer from a whole one
                wanted = left if length is None else min(length, left)
                return self._fetch(offset, wanted) if wanted else b""
            data: bytes = self._request(lambda: self._fs.cat_file(self._path))
            return data
        if length == 0:
            return b""
        end = None if length is None else offset + length

        def once() -> bytes:
            try:
                # With a start s3fs asks once; without, it asks for the size first.
                return bytes(self._fs.cat_file(self._path, start=offset, end=end))
            except OSError as error:
                if is_behind_the_end(error):
                    return b""
                raise

        return self._request(once)

    def size(self) -> int:
        """See `Store`."""
        size = self._info().get("size")
        if size is None:
            raise FileError(
                f"{self._url}: the server doesn't tell the file's size; copy it to disk first"
            )
        return int(size)

    def exists(self) -> bool:
        """See `Store`; unlike fsspec's `exists`, it doesn't take a failure for a no."""
        try:
            self._info()
        except FileNotFoundError:
            return False
        return True

    def list_sizes(self) -> dict[str, int]:
        """See `Store`."""
        return {name: int(entry.get("size") or 0) for name, entry in self._named_entries()}

    def list_kinds(self) -> dict[str, EntryKind]:
        """See `Store`; a storage that has links shows what they lead to."""
        is_folder = {n: entry.get("type") == "directory" for n, entry in self._named_entries()}
        return {name: "folder" if is_folder[name] else "file" for name in is_folder}

    def list_names(self) -> list[str]:
        """See `Store`."""
        return list(self.list_sizes())

    def newest_change(self) -> float | None:
        """See `Store`."""
        newest = 0.0
        for entry in self._entries():
            if entry.get("type") == "directory":
                continue
            written = written_at(entry)
            if written is None:
                return None
            newest = max(newest, written)
        return newest

    def changed_at(self) -> float | None:
        """See `Store`."""
        return written_at(self._info())

    def remove(self) -> None:
        """See `Store`."""
        self._refuse_to_write()
        self._request(lambda: self._fs.rm_file(self._path))

    def remove_empty_directory(self) -> None:
        """See `Store`; there are no directories but in the names of files."""

    @contextmanager
    def write(self, mode: str, *, durable: bool) -> Iterator[IO[Any]]:
        """See `Store`: a file on this machine's disk that is uploaded when the block ends."""
        self._refuse_to_write()  # before anything is computed for it
        with tempfile.TemporaryDirectory(prefix="polyprag-") as directory:
            local = os.path.join(directory, "upload")
            try:
                with open(local, mode, encoding=None if "b" in mode else "utf-8") as file:
                    yield file
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise FileError(
                    f"{directory}: no room for what is to be uploaded to {self._url}; make some, "
                    "or set TMPDIR to a larger disk"
                ) from error
            self.upload(local)

    def create(self, data: bytes) -> bool:
        """See `Store`.

        On S3 and Google Cloud the storage decides between two that try at once; elsewhere nobody
        does.
        """
        self._refuse_to_write()

        def once() -> bool:
            try:
                if self._scheme not in OBJECT_STORES:
                    self._fs.makedirs(self._path.rpartition("/")[0], exist_ok=True)
                self._fs.pipe_file(self._path, data, mode="create")
            except Exception as error:
                if is_already_there(error):
                    return False
                raise
            return True

        # What is there may come from a try of ours whose answer was lost.
        return self._request(once) or self.read(offset=0, length=None) == data

    def upload(self, path: str) -> None:
        """See `Store`."""
        self._refuse_to_write()
        try:
            if self._scheme == "memory":  # its put_file shows half a file
                self._request(lambda: self._fs.pipe_file(self._path, Path(path).read_bytes()))
            elif self._scheme in OBJECT_STORES:
                self._request(lambda: self._fs.put_file(path, self._path))
            else:
                self._put_and_rename(path)
        except FileNotFoundError as error:
            raise FileError(
                f"{self._url}: no such bucket or directory; make it, or check the URL and the "
                "endpoint"
            ) from error
        except (OSError, NotImplementedError) as error:
            raise FileError(f"{self._url}: can't be written: {error}") from error

    def sync(self) -> str | None:
        """See `Store`; a remote file is durable once it is written."""
        return None

    def _put_and_rename(self, path: str) -> None:
        """For file systems that can rename, where an upload shows while it is under way."""
        parent, _, name = self._path.rpartition("/")
        temporary = f"{parent}/.{name}.{secrets.token_hex(4)}.tmp"
        try:
            self._request(lambda: self._fs.makedirs(parent, exist_ok=True))
            self._request(lambda: self._fs.put_file(path, temporary))
            move = repeatable(
                lambda: self._fs.mv(temporary, self._path), is_done=lambda: self._holds(path)
            )
            self._request(move)
        except BaseException:
            with suppress(Exception):
                self._fs.rm_file(temporary)
            raise

    def _holds(self, path: str) -> bool:
        """Returns whether the file has the bytes of one on this machine, as far as it can tell."""
        with suppress(Exception), open(path, "rb") as ours, self._fs.open(self._path, "rb") as file:
            return file_digest(ours, "sha256").digest() == file_digest(file, "sha256").digest()
        return False

    def _refuse_to_write(self) -> None:
        """Raises `FileError` where the URL is for reading only."""
        if self._scheme in HTTP:
            raise FileError(
                f"{self._url}: http(s):// is for reading only; write to a local path, s3:// or "
                "gs://"
            )
        if is_chained(self._url):
            raise FileError(
                f"{self._url}: a chained URL is for reading only; name the storage itself"
            )

    def _request(self, call: Callable[[], T]) -> T:
        return with_retries(self._url, call)

    def _info(self) -> dict[str, Any]:
        """Returns what the storage says of the name.

        Raises:
            FileNotFoundError: there is no such name.
        """
        found: dict[str, Any] = self._request(lambda: self._fs.info(self._path))
        return found

    def _entries(self) -> list[dict[str, Any]]:
        """Returns what lies in the directory, as fsspec describes it; nothing without one."""
        try:
            entries: list[dict[str, Any]] = self._request(
                lambda: self._fs.ls(self._path, detail=True)
            )
        except FileNotFoundError:
            return []
        return entries

    def _named_entries(self) -> list[tuple[str, dict[str, Any]]]:
        """Returns what lies in the directory by its names, sorted."""
        if self._scheme in HTTP:
            raise FileError(
                f"{self._url}: a directory can't be listed over http; copy it to disk first"
            )
        found = {
            entry["name"].rstrip("/").rsplit("/", 1)[-1]: entry
            for entry in self._entries()
            if entry["name"].strip("/") != self._path.strip("/")  # the mark that some tools leave
        }
        return sorted(found.items())

    def _fetch(self, offset: int, length: int) -> bytes:
        """Returns exactly these bytes, which lie inside the file."""
        is_http = self._scheme in HTTP
        headers = {"headers": {"Accept-Encoding": "identity"}} if is_http else {}

        def once() -> bytes:
            data: bytes = self._fs.cat_file(
                self._path, start=offset, end=offset + length, **headers
            )
            if len(data) > length:  # the server answered with the whole file
                data = data[offset : offset + length]
            if len(data) != length:
                raise ShortReadError(f"{len(data)} bytes came of {length} at {offset}")
            return data

        return self._request(once)
