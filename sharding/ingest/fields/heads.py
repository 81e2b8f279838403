"""What the start of a file says of all of it: its kind, its columns, which fields are what."""

import csv
import io
import json
import re
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Any, Literal

from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.fields.layout import SAMPLE_ROWS, Layout, Unrecognised, recognise
from sharding.storage.files import read_bytes

Quoting = Literal["csv", "none"]

TO_UTF8 = "a file in another encoding becomes UTF-8 by `iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW`"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_START_BYTES = 1 << 16
_JSON_START = re.compile(rb"\s*(\{|\[\s*\{)")
_DELIMITERS = {"tsv": "\t", "csv": ",;\t|"}  # the likeliest first
_MS_MARCO_ID = re.compile(r"D?\d+")


@dataclass(frozen=True, slots=True)
class Columns:
    """A table's columns, and how its lines are cut into them.

    Attributes:
        names: in their order.
        delimiter: what parts them.
        quoting: `csv` where a field that begins with a quote ends at the next single one; `none`
            where quotes are characters like any other.
        has_header: whether the first line has the names.
    """

    names: tuple[str, ...]
    delimiter: str = "\t"
    quoting: Quoting = "csv"
    has_header: bool = True


def layout_of_objects(head: bytes, fields: FieldMap) -> Layout | Unrecognised:
    """Returns what is what in JSON lines.

    Args:
        head: a file's first lines, the last one perhaps not whole.
        fields: the names that are given.
    """
    rows: dict[int, dict[str, Any]] = {}
    lines = head.removeprefix(BYTE_ORDER_MARK).split(b"\n")
    for number, line in enumerate(lines[: 10 * SAMPLE_ROWS], start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows[number] = row
        if len(rows) == SAMPLE_ROWS:
            break
    if not rows:  # nothing, or bad lines, as whoever reads them will say
        return Layout(fields.id, fields.title, fields.text)
    found = recognise(rows.values(), fields)
    if isinstance(found, Unrecognised):
        return replace(found, line=min(rows))
    return found


def layout_of_table(
    head: bytes, *, kind: str, fields: FieldMap, quoting: Quoting
) -> tuple[Columns, Layout | Unrecognised]:
    """Returns a table's columns, and which of them is what.

    Args:
        head: a file's first lines, the last one perhaps not whole.
        kind: tsv or csv.
        fields: the names that are given.
        quoting: what a quote is, where the table has a header.
    """
    first, _, rest = head.removeprefix(BYTE_ORDER_MARK).partition(b"\n")
    try:
        first.decode()
    except UnicodeDecodeError as error:
        return Columns(()), Unrecognised(f"it is not UTF-8 ({error})", TO_UTF8)
    without_header = _ms_marco(first) if kind == "tsv" and not fields.given() else None
    if without_header is not None:
        has_title = fields.title is not None and "title" in without_header.names
        return without_header, Layout("id", "title" if has_title else None, "text")
    tried = []
    for delimiter in _DELIMITERS[kind]:
        columns = Columns(_cells(first, delimiter), delimiter, quoting)
        found = _recognised(columns, rest, fields)
        if isinstance(found, Layout):
            return columns, found
        tried.append((columns, found))
    return max(tried, key=lambda one: len(one[0].names))


def _recognised(columns: Columns, rest: bytes, fields: FieldMap) -> Layout | Unrecognised:
    names = columns.names
    if not names or (not fields.given() and any(name.strip().isdecimal() for name in names)):
        what = "the first line has no names of columns"
        remedy = f"give it one such as {columns.delimiter.join(('id', 'title', 'text'))!r}"
        return Unrecognised(what, remedy)
    rows = _sampled(columns, rest) or [dict.fromkeys(names, "")]
    found = recognise(rows, fields)
    if isinstance(found, Unrecognised):
        return found
    double = [name for name in found.names() if names.count(name) > 1]
    if double:
        what = f"the column {double[0]} is there more than once"
        return Unrecognised(what, "give its columns names of their own")
    return found


def _sampled(columns: Columns, rest: bytes) -> list[dict[str, str]]:
    """Returns some of a table's first rows, as far as they are sound."""
    text = io.StringIO(rest.decode("utf-8", "replace"), newline="\n")
    rows: list[dict[str, str]] = []
    try:
        for row in islice(csv.reader(text, dialect_of(columns)), SAMPLE_ROWS):
            if len(row) == len(columns.names):
                rows.append(dict(zip(columns.names, row, strict=True)))
    except csv.Error:
        pass
    return rows


@lru_cache
def dialect_of(columns: Columns) -> type[csv.Dialect]:
    """Returns how Python's csv is to read the lines of a table."""

    class Dialect(csv.excel):
        strict = True
        delimiter = columns.delimiter
        quoting = csv.QUOTE_NONE if columns.quoting == "none" else csv.QUOTE_MINIMAL

    return Dialect


def _cells(line: bytes, delimiter: str) -> tuple[str, ...]:
    try:
        (cells,) = csv.reader([line.decode()], delimiter=delimiter, strict=True)
    except (csv.Error, ValueError):
        return ()
    return tuple(cells)


def _ms_marco(first: bytes) -> Columns | None:
    """Returns the columns of MS MARCO's tables, which have no header and quote nothing."""
    cells = first.decode().rstrip("\r").split("\t")
    if not _MS_MARCO_ID.fullmatch(cells[0]):
        return None
    if len(cells) == 2:
        return Columns(("id", "text"), quoting="none", has_header=False)
    if len(cells) == 4 and cells[1].startswith(("http://", "https://")):
        return Columns(("id", "url", "title", "text"), quoting="none", has_header=False)
    return None


def kind_by_content(url: str) -> tuple[str, str | None] | None:
    """Returns the kind and compression of a file whose name doesn't say; None where none is seen.

    Raises:
        FileError: it can't be read.
    """
    start = read_bytes(url, length=_START_BYTES)
    if start.startswith(b"PAR1"):
        return "parquet", None
    if start.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow", None
    compression = None
    if start.startswith(b"\x1f\x8b"):
        start, compression = _gunzipped(start), "gz"
    elif start.startswith(b"\x28\xb5\x2f\xfd"):
        start, compression = _unzstd(start), "zst"
    kind = _kind_of(start)
    return None if kind is None else (kind, compression)


def _kind_of(start: bytes) -> str | None:
    if start[257:262] == b"ustar":
        return "tar"
    start = start.removeprefix(BYTE_ORDER_MARK)
    if _JSON_START.match(start):
        return "json"
    for kind in _DELIMITERS:
        columns, found = layout_of_table(start, kind=kind, fields=FieldMap(), quoting="csv")
        if isinstance(found, Layout) and len(columns.names) > 1:
            return kind
    return None


def _gunzipped(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(data, _START_BYTES)
    except zlib.error:
        return b""


def _unzstd(data: bytes) -> bytes:
    import pyarrow

    try:
        with pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd") as stream:
            return bytes(stream.read(_START_BYTES))
    except OSError:
        return b""
