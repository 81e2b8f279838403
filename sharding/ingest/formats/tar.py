"""Read the passages of WebDataset shards: tar files whose members of one key are one sample.

Samples are grouped by webdataset itself, so that keys are what they are to everybody. The members
are read here: webdataset's own loop reads members of any size, opens URLs that run commands, and
takes a shard whose headers are damaged, or that is cut between two members, for a whole one.
Nothing is unpacked, so a member's name is only a name, and nothing but text is decoded.
"""

import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.fields.layout import Layout, Unrecognised, recognise
from sharding.ingest.fields.names import IDS, known_as
from sharding.ingest.rows import BadRow, ParsedRows, bad_utf8
from sharding.ingest.source_bytes import SourceBytes
from sharding.ingest.source_file import SourceFile

MAX_SOURCE_MEMBER_BYTES = 16 << 20  # as of a line
_READ = ("json", "txt", "title")
_META = re.compile(r"__[^/]*__($|/)")  # what webdataset skips


@dataclass(frozen=True, slots=True)
class Sample:
    """The members of one key.

    Attributes:
        key: the members' name up to the first dot behind the last slash.
        members: the bytes of those that are read, by what follows the dot.
        fault: reason and detail of what makes the sample unusable.
    """

    key: str
    members: dict[str, bytes]
    fault: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Unusable:
    """A member that stands for its sample's fault; reason and detail."""

    reason: str
    detail: str


def sample_slices(file: SourceFile, *, slice_bytes: int) -> Iterator[list[Sample] | BadRow]:
    """Yields a shard's samples in lists of at least `slice_bytes` of members, the last excepted.

    Args:
        file: a tar file.
        slice_bytes: what a list is to have.

    Yields:
        Samples; a `BadRow`, whose line counts from the last list, ends them where the shard is cut
        or damaged.
    """
    held: list[Sample] = []
    num_bytes = 0
    try:
        for sample in _samples(file):
            held.append(sample)
            num_bytes += sum(map(len, sample.members.values())) + len(sample.key)
            if num_bytes >= slice_bytes:
                yield held
                held, num_bytes = [], 0
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, _DamagedError) as error:
        # Of these only the first and the last are meant, and the others what damage leads to.
        yield BadRow(len(held) + 1, "not readable", f"tar: {error}")
        return
    if held:
        yield held


def parse_samples(samples: list[Sample], fields: FieldMap) -> ParsedRows:
    """Returns the passages of a list of samples; `lines` are their numbers, from 1."""
    parsed = ParsedRows(num_lines=len(samples))
    for number, sample in enumerate(samples, start=1):
        row = _row(number, sample, fields)
        # A sample has its own names: nothing says that those of a shard are of one kind.
        layout = recognise([] if isinstance(row, BadRow) else [row[1]], fields)
        if isinstance(layout, Unrecognised) or layout.is_several:
            layout = Layout(fields.id, fields.title, fields.text)
        parsed.add(row, layout, where=f"sample {sample.key!r}")
    return parsed


def _row(number: int, sample: Sample, fields: FieldMap) -> tuple[int, dict[str, Any]] | BadRow:
    """Returns a sample's values by the names that `fields` has for them."""
    if sample.fault is not None:
        return BadRow(number, *sample.fault)
    if not {"json", "txt"} & sample.members.keys():
        return BadRow(number, "missing field", "it has neither a .json nor a .txt member")
    values: dict[str, Any] = {}
    texts = {}
    for suffix in ("txt", "title"):
        try:
            texts[suffix] = sample.members.get(suffix, b"").decode()
        except UnicodeDecodeError as error:
            return bad_utf8(number, error, f"its .{suffix} member")
    if "txt" in sample.members:
        values[fields.text] = texts["txt"]
    if fields.title is not None and ("title" in sample.members or "json" not in sample.members):
        values[fields.title] = texts["title"].strip()
    if "json" in sample.members:
        try:
            found = json.loads(sample.members["json"].decode())
        except UnicodeDecodeError as error:
            return bad_utf8(number, error, "its .json member")
        except (ValueError, RecursionError) as error:
            return BadRow(number, "bad JSON", f"its .json member: {error}")
        if not isinstance(found, dict):
            return BadRow(number, "bad JSON", "its .json member is not an object")
        values |= found
    if fields.id not in values and (fields.id != "id" or not known_as(IDS, values)):
        values[fields.id] = sample.key
    return number, values


def _samples(file: SourceFile) -> Iterator[Sample]:
    from webdataset.tariterators import base_plus_ext, group_by_keys

    double: dict[str, str] = {}  # a member that is there twice, by its key
    last_name = ""

    def note_double(error: Exception) -> bool:
        if not isinstance(error, ValueError):
            raise error
        key, suffix = base_plus_ext(last_name)
        double[key] = suffix
        return True

    def members() -> Iterator[dict[str, Any]]:
        nonlocal last_name
        for last_name, data in _members(file):
            yield {"fname": last_name, "data": data, "__url__": file.url}

    for group in group_by_keys(members(), handler=note_double):
        key = group["__key__"]
        if key in double:
            what = f"its .{double.pop(key)} member is there twice"
            yield Sample(key, {}, ("duplicate member", what))
            continue
        faults = [value for value in group.values() if isinstance(value, _Unusable)]
        read = {name: group[name] for name in _READ if name in group}
        if faults:
            yield Sample(key, {}, (faults[0].reason, faults[0].detail))
        else:
            yield Sample(key, read)


def _members(file: SourceFile) -> Iterator[tuple[str, bytes | _Unusable]]:
    """Yields the names of members that belong to samples, with the bytes of those to read.

    Raises:
        tarfile.TarError: the archive is cut or damaged.
        _DamagedError: its compressed data is, or its end is missing.
    """
    stream = _ForwardStream(SourceBytes(file))
    with tarfile.TarFile(fileobj=stream, mode="r", encoding="utf-8") as archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined] # it would keep them all
            name = info.name
            _, dot, suffix = name.rpartition("/")[2].partition(".")
            if info.isdir() or not dot or suffix.startswith("__") or _META.match(name):
                continue
            if suffix.lower() not in _READ:
                yield name, b""
            elif not info.isreg() or info.issparse():
                yield name, _Unusable("not a plain file", f"its .{suffix} member is a link or so")
            elif not 0 <= info.size <= MAX_SOURCE_MEMBER_BYTES:
                what = f"its .{suffix} member has more than {MAX_SOURCE_MEMBER_BYTES} bytes"
                yield name, _Unusable("member too large", what)
            else:
                opened = archive.extractfile(info)
                assert opened is not None  # a plain file has bytes
                yield name, opened.read()
    # A header that can't be is the end to `tarfile`, as is no more data.
    if len(stream.last) != tarfile.BLOCKSIZE or any(stream.last):
        raise _DamagedError("the archive's end is missing, or a header is damaged")
    stream.finish()


class _DamagedError(Exception):
    """A shard that can't be read to its end."""


class _ForwardStream(io.RawIOBase):
    """Decompressed bytes as `tarfile` wants them: read in order, sought only forwards.

    Attributes:
        last: what the last call of `read` has given.
    """

    def __init__(self, source: SourceBytes) -> None:
        self._source, self._chunks = source, iter(source)
        self._rest = memoryview(b"")
        self._at = 0
        self.last = b""

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._at:
            raise _DamagedError("a header leads backwards")
        while self._at < offset and (taken := self._take(offset - self._at)):
            self._at += len(taken)
        return self._at

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= 2 * MAX_SOURCE_MEMBER_BYTES:  # of a header that goes on in its data
            raise _DamagedError(f"a header of {size} bytes")
        parts = []
        while size and (taken := self._take(size)):
            parts.append(taken)
            size -= len(taken)
        self.last = b"".join(parts)
        self._at += len(self.last)
        return self.last

    def finish(self) -> None:
        """Reads what is left, and raises if it is damaged."""
        while self._take(1 << 20):
            pass

    def _take(self, size: int) -> memoryview:
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
            if not self._rest and self._source.fault:
                raise _DamagedError(": ".join(self._source.fault))
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken
