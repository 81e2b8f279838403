"""A split: the passages of a part of the input, parsed and not yet numbered, as a file in work/.

One line of JSON, then the columns as little-endian arrays, then the bodies: each passage's JSON
without its id, which is known only when all files are read. The first line has the SHA-256 of what
follows, so that a split that a killed run left is kept only if it is whole, and the key of what it
was made from, so that it is kept only if that is still the same.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from sharding.errors import FileError
from sharding.ingest.rows import BadRow
from sharding.storage.files import atomic_write, exists, read_bytes

Hashes: TypeAlias = NDArray[np.uint64]

_FORMAT = "polyprag-split-2"
_COLUMNS = {"lengths": "<u4", "lines": "<u4", "keys": "<u8", "sources": "<u8", "texts": "<u8"}


@dataclass(frozen=True, slots=True)
class Split:
    """Parsed passages of a part of the input, by column.

    Attributes:
        key: of the bytes and options that it was made from.
        num_lines: of the file that it spans.
        skipped: rows left out, by reason.
        open_at: see `ParsedRows.open_at`.
        has_made_ids: see `ParsedRows.has_made_ids`.
        unread: see `ParsedRows.unread`.
        columns: `lengths` of the bodies, `lines` (from 1 at the split's begin) and hashes of the
            `keys`; where texts were cut, hashes of the `sources`' own keys; where duplicates go,
            hashes of the `texts`.
        bodies: the passages' JSON objects, joined.
    """

    key: str
    num_lines: int
    skipped: dict[str, int]
    open_at: int | None
    has_made_ids: bool
    unread: tuple[tuple[int, str], ...]
    columns: dict[str, NDArray[np.generic]]
    bodies: bytes = field(repr=False)

    def body_offsets(self) -> NDArray[np.int64]:
        """Returns where each body begins, and the end of the last one."""
        offsets = np.zeros(len(self.columns["lengths"]) + 1, np.int64)
        np.cumsum(self.columns["lengths"], out=offsets[1:])
        return offsets

    def hashes(self, column: str) -> Hashes | None:
        """Returns one of the columns of hashes, if the split has it."""
        found = self.columns.get(column)
        return None if found is None else found.astype(np.uint64, copy=False)


@dataclass(frozen=True, slots=True)
class SplitInfo:
    """What the driver must know of a split; see `Split`.

    Attributes:
        url: the split's file; empty where a bad row stopped it.
        key: of what it was made from.
        num_passages: in it.
        num_lines: of the file that it spans.
        skipped: rows left out, by reason.
        stopped_at: the bad row that is the end of it all.
        open_at: see `ParsedRows.open_at`.
        keys: hashes of the passages' ids.
        sources: hashes of the ids of the rows that passages were cut from, if they were.
        rows: the row that a passage comes from, by its line, if texts were cut.
        texts: hashes of titles and texts, if duplicates go.
        has_made_ids: see `ParsedRows.has_made_ids`.
        unread: see `ParsedRows.unread`.
    """

    url: str
    key: str
    num_passages: int
    num_lines: int
    skipped: dict[str, int]
    stopped_at: BadRow | None
    open_at: int | None
    keys: Hashes
    sources: Hashes | None
    rows: NDArray[np.uint32] | None
    texts: Hashes | None
    has_made_ids: bool = False
    unread: tuple[tuple[int, str], ...] = ()


def save_split(url: str, split: Split) -> None:
    """Writes a split, atomically."""
    names = [name for name in _COLUMNS if name in split.columns]
    parts = [np.ascontiguousarray(split.columns[n], _COLUMNS[n]).tobytes() for n in names]
    parts.append(split.bodies)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    header = {
        "format": _FORMAT,
        "key": split.key,
        "num_passages": len(split.columns["lengths"]),
        "num_lines": split.num_lines,
        "skipped": split.skipped,
        "open_at": split.open_at,
        "has_made_ids": split.has_made_ids,
        "unread": split.unread,
        "columns": names,
        "sha256": digest.hexdigest(),
    }
    with atomic_write(url, durable=False) as file:
        file.write(json.dumps(header, allow_nan=False).encode() + b"\n")
        for part in parts:
            file.write(part)


def load_split(url: str, *, key: str) -> Split | None:
    """Returns a split that was made from what `key` says.

    None where there is none, or it is damaged.
    """
    if not exists(url):
        return None
    try:
        data = read_bytes(url)
        end = data.index(b"\n") + 1
        header = json.loads(data[:end])
        if (header["format"], header["key"]) != (_FORMAT, key):
            return None
        if hashlib.sha256(memoryview(data)[end:]).hexdigest() != header["sha256"]:
            return None
        columns: dict[str, NDArray[np.generic]] = {}
        for name in header["columns"]:
            columns[name] = np.frombuffer(
                data, _COLUMNS[name], count=header["num_passages"], offset=end
            )
            end += columns[name].nbytes
        return Split(
            key,
            header["num_lines"],
            header["skipped"],
            header["open_at"],
            header["has_made_ids"],
            tuple((int(at), str(why)) for at, why in header.get("unread", ())),
            columns,
            data[end:],
        )
    except (FileError, ValueError, KeyError, TypeError, AttributeError):
        return None


class _Body(msgspec.Struct, frozen=True, gc=False):
    """The fields of `passages.to_json` behind `id`, in its order."""

    key: str
    title: str
    text: str
    augmentation: None = None


_encode = msgspec.json.Encoder().encode


def bodies_of(keys: Iterable[str], titles: Iterable[str], texts: Iterable[str]) -> list[bytes]:
    """Passages as JSON objects without ids."""
    return [_encode(_Body(*row)) for row in zip(keys, titles, texts, strict=True)]


def with_id(passage_id: int, body: bytes) -> bytes:
    """Returns the record as `passages.to_json` writes it."""
    return b'{"id":%d,%b' % (passage_id, body[1:])


def hashes_of(values: Sequence[bytes]) -> Hashes:
    """64 bits of each value's BLAKE2b.

    Two different ones of n values have the same hash with probability n^2 / 2^65: 1 in 80,000 for
    Wikipedia's 21 M.
    """
    digests = [blake2b(value, digest_size=8).digest() for value in values]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64, copy=False)


def key_hashes(keys: Iterable[str]) -> Hashes:
    """Hashes of ids."""
    return hashes_of([key.encode() for key in keys])


def text_hashes(titles: Iterable[str], texts: Iterable[str]) -> Hashes:
    """Hashes of titles with texts; 0xff, which UTF-8 never has, parts them."""
    pairs = zip(titles, texts, strict=True)
    return hashes_of([title.encode() + b"\xff" + text.encode() for title, text in pairs])
