"""What came for passages and isn't in their shard yet: kept the moment it comes, one line each.

A reply costs time or money, and its partition is written when it is whole. Until then it lies in
RUN/augment/part-<index>/, in files that only ever grow by whole lines: on a disk each line is
there, and durable, before the next reply is waited for; to a storage that can't append, all that
came while the last file was on its way goes as one more file. Each line has a checksum, so that a
torn or damaged one is passed over, and its passage asked about again.
"""

import os
import secrets
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from types import TracebackType
from typing import Any, Self

import msgspec

from polyprag.augment.written import Dropped, Written
from polyprag.errors import FileError
from polyprag.run_dir import REPLIES
from sharding.corpus.passages import Augmentation, Passage
from sharding.storage.decoding import decode
from sharding.storage.files import (
    atomic_write,
    join,
    list_names,
    open_url,
    remove,
    remove_directory,
)
from sharding.storage.local import open_append, sync_directory
from sharding.storage.urls import local_path

_DIGITS = 32  # hex digits of a SHA-256
_SUFFIX = ".jsonl"


class _Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of one reply; digests, so that a removed passage's key isn't in it."""

    passage: str
    settings: str
    augmentation: Augmentation
    dropped: tuple[Dropped, ...]
    asked: int = 0  # of a passage that is open: requests that were answered


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str
    reply: msgspec.Raw


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Returns what stands for the settings that replies were asked for with."""
    return sha256(msgspec.json.encode(settings, order="sorted")).hexdigest()[:_DIGITS]


def passage_digest(passage: Passage) -> str:
    """Returns what stands for a passage as it is worded now."""
    worded = msgspec.json.encode([passage.key, passage.title, passage.text])
    return sha256(worded).hexdigest()[:_DIGITS]


def replies_dir(run_dir: str, index: int) -> str:
    """Returns where a partition's replies lie."""
    return join(run_dir, REPLIES, f"part-{index:05d}")


def read_replies(directory: str, settings: str) -> dict[str, Written]:
    """Returns what came with these settings, by `passage_digest`; `asked` where not all came.

    Args:
        directory: see `replies_dir`; it needn't be there.
        settings: see `settings_digest`.
    """
    found: dict[str, Written] = {}
    for name in _files(directory):
        for _, reply in _lines(join(directory, name)):
            if reply is None or reply.settings != settings:
                continue
            there = found.get(reply.passage)
            if there is None or not reply.asked or 0 < there.asked < reply.asked:
                found[reply.passage] = Written(reply.augmentation, reply.dropped, None, reply.asked)
    return found


def keep_replies_of(directory: str, passages: Iterable[Passage]) -> None:
    """Deletes what came for all passages but these, as they are worded now; damaged lines too."""
    there = {passage_digest(passage) for passage in passages}
    for name in _files(directory):
        url = join(directory, name)
        lines = _lines(url)
        kept = [line for line, reply in lines if reply is not None and reply.passage in there]
        if not kept:
            remove(url)
        elif len(kept) < len(lines):
            with atomic_write(url) as file:
                file.writelines(line + b"\n" for line in kept)


def drop_replies(run_dir: str, indices: Iterable[int]) -> None:
    """Deletes the replies of partitions."""
    for index in indices:
        remove_directory(replies_dir(run_dir, index))


def partitions_with_replies(run_dir: str) -> set[int]:
    """Returns the numbers of the partitions of which replies wait."""
    names = list_names(join(run_dir, REPLIES))
    return {int(name[5:]) for name in names if name.startswith("part-") and name[5:].isdigit()}


def _files(directory: str) -> list[str]:
    return [name for name in list_names(directory) if name.endswith(_SUFFIX)]


def _lines(url: str) -> list[tuple[bytes, _Reply | None]]:
    """Returns a file's lines and what they say: nothing where one is torn or damaged."""
    with open_url(url) as file:
        lines = file.read().split(b"\n")
    return [(line, _reply_in(line)) for line in lines if line]


def _reply_in(line: bytes) -> _Reply | None:
    try:
        read = decode(line, _Line)
        if sha256(read.reply).hexdigest() == read.sha256:
            return decode(bytes(read.reply), _Reply)
    except ValueError:
        pass
    return None


class ReplyWriter:
    """Writes down what comes for a partition's passages; several may be at it at once."""

    def __init__(self, directory: str, settings: str) -> None:
        """Writes nothing yet.

        Args:
            directory: see `replies_dir`.
            settings: see `settings_digest`.
        """
        self._directory, self._settings = directory, settings
        self._name = secrets.token_hex(6)  # a file of its own: no two writers share one
        self._sink: _Appended | _Uploaded | None = None

    def add(self, passage: Passage, written: Written) -> None:
        """Keeps what came for a passage; on a disk it is durable when this returns.

        Raises:
            FileError: it can't be written.
        """
        reply = msgspec.json.encode(
            _Reply(
                passage_digest(passage),
                self._settings,
                written.augmentation,
                written.dropped,
                written.asked,
            )
        )
        line = msgspec.json.encode(_Line(sha256(reply).hexdigest(), msgspec.Raw(reply))) + b"\n"
        if self._sink is None:
            path = local_path(self._directory)
            self._sink = (
                _Uploaded(join(self._directory, self._name))
                if path is None
                else _Appended(path, self._name + _SUFFIX)
            )
        self._sink.add(line)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Keeps what is still on its way, also where the block was left by an error."""
        if self._sink is not None:
            self._sink.close()


class _Appended:
    """A file on this machine's disk."""

    def __init__(self, directory: str, name: str) -> None:
        try:
            os.makedirs(directory, exist_ok=True)
            self._descriptor = open_append(os.path.join(directory, name))
            sync_directory(directory)
        except OSError as error:
            raise FileError(f"{directory}: can't be written: {error.strerror}") from error
        self._where = directory

    def add(self, line: bytes) -> None:
        try:
            left = memoryview(line)
            while left:
                left = left[os.write(self._descriptor, left) :]
            os.fsync(self._descriptor)
        except OSError as error:
            raise FileError(
                f"{self._where}: can't be written: {error.strerror}; make room and run the same "
                "command again: what came before is kept"
            ) from error

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._descriptor)


class _Uploaded:
    """Files in a storage that can't append: each has what came while the one before was sent."""

    def __init__(self, stem: str) -> None:
        self._stem, self._number = stem, 0
        self._waiting: list[bytes] = []
        self._error: BaseException | None = None
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._send_all, daemon=True)
        self._thread.start()

    def add(self, line: bytes) -> None:
        with self._changed:
            if self._error is not None:
                raise self._error
            self._waiting.append(line)
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _send_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                lines, self._waiting = self._waiting, []
            if not lines:
                return
            try:
                with atomic_write(f"{self._stem}-{self._number:05d}{_SUFFIX}") as file:
                    file.writelines(lines)
            except BaseException as error:
                with self._changed:
                    self._error = error
                return
            self._number += 1
