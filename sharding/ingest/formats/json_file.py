"""Read the passages of a .json file: an array of objects, an object with a list of them, or one.

The file is held in memory as it is, and its items are cut out of it and decoded one by one, so that
what it takes is its size and little more. That is why there is a largest size.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.fields.heads import BYTE_ORDER_MARK
from sharding.ingest.fields.layout import SAMPLE_ROWS, Layout, Unrecognised, recognise
from sharding.ingest.formats import line_blocks
from sharding.ingest.rows import BadRow, ParsedRows, bad_utf8, unrecognised
from sharding.ingest.source_bytes import SourceBytes
from sharding.ingest.source_file import SourceFile

MAX_JSON_BYTES = 1 << 30
_HEAD_BYTES = 1 << 20
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BYTE = re.compile(r"\(byte (\d+)\)")
_AS_LINES = "write it as JSON lines, one object a line, such as by `jq -c '.[]' FILE > FILE.jsonl`"


@dataclass(frozen=True, slots=True)
class Items:
    """Some of a file's items, in their order.

    Attributes:
        layout: which fields are what; of the whole file.
        first: the number of the first one, from 1.
        lines: where each begins, from 1 where the file does, or these items behind others do.
        num_lines: line ends from there to where the next items begin, or the file ends.
        values: the JSON of each.
    """

    layout: Layout
    first: int
    lines: list[int]
    num_lines: int
    values: list[bytes]


def as_lines(file: SourceFile) -> SourceFile:
    """Returns a .json file as one of JSON lines, where it is that: two objects a line each."""
    if file.kind != "json":
        return file
    head = b""
    for chunk in SourceBytes(file):
        head += chunk
        if len(head) >= _HEAD_BYTES:
            break
    first, _, rest = head.removeprefix(BYTE_ORDER_MARK).lstrip().partition(b"\n")
    try:
        is_object = isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return file
    return replace(file, kind="jsonl") if is_object and rest.lstrip().startswith(b"{") else file


def item_slices(
    file: SourceFile, fields: FieldMap, *, slice_bytes: int
) -> Iterator["Items | BadRow"]:
    """Yields a file's items in lists of at least `slice_bytes`, the last one excepted.

    Args:
        file: a json file.
        fields: the names that are given.
        slice_bytes: what a list is to have.

    Yields:
        Items; or a `BadRow`, and nothing else, where the file can't be read.
    """
    data = _read(file)
    if isinstance(data, BadRow):
        yield data
        return
    found = _items(data, fields)
    if isinstance(found, BadRow):
        yield found
        return
    layout = _layout(data, found, fields)
    if isinstance(layout, BadRow):
        yield layout
        return
    yield from _sliced(data, found, layout, slice_bytes=slice_bytes)


def _read(file: SourceFile) -> bytes | BadRow:
    source = SourceBytes(file)
    data = bytearray()
    for chunk in source:
        data += chunk
        if len(data) > MAX_JSON_BYTES:
            return BadRow(1, "file too large", f"more than {MAX_JSON_BYTES:,} bytes", _AS_LINES)
    if source.fault:
        return BadRow(data.count(b"\n") + 1, *source.fault)
    return bytes(data.removeprefix(BYTE_ORDER_MARK))


def _items(data: bytes, fields: FieldMap) -> list[Any] | BadRow:
    """Returns the items of a file, each as its JSON (`msgspec.Raw`)."""
    if not data.strip():
        return []
    try:
        if data.lstrip().startswith(b"["):
            return _ARRAY.decode(data)
        return _of_object(data, _OBJECT.decode(data), fields)
    except RecursionError:
        return BadRow(1, "bad JSON file", "it is nested too deeply", _AS_LINES)
    except ValueError as error:
        if "truncated" in str(error):
            return BadRow(data.count(b"\n") + 1, "truncated file", str(error))
        at = _BYTE.search(str(error))
        line = data[: int(at[1])].count(b"\n") + 1 if at else 1
        return BadRow(line, "bad JSON file", str(error))


def _of_object(data: bytes, values: dict[str, Any], fields: FieldMap) -> list[Any] | BadRow:
    """Returns the items of the one list of objects, or the object itself where it is a passage."""
    whole = [msgspec.Raw(data.strip())]
    lists = {name: items for name, raw in values.items() if (items := _objects_in(raw))}
    others = {
        name: json.loads(bytes(raw))
        for name, raw in values.items()
        if name not in lists and len(bytes(raw)) <= line_blocks.MAX_LINE_BYTES
    }
    itself = recognise([others], fields)
    if not lists or (isinstance(itself, Layout) and itself.id is not None):
        return whole
    if list(lists) == ["paragraphs"] and isinstance(others.get("title"), str):
        return whole  # an article of SQuAD's
    if len(lists) == 1:
        return next(iter(lists.values()))
    remedy = f"write the one that is meant as JSON lines: jq -c '.{next(iter(lists))}[]' FILE"
    return BadRow(1, "unknown fields", f"it has several lists: {', '.join(lists)}", remedy)


def _objects_in(raw: Any) -> list[Any]:
    data = bytes(raw)
    if not data.startswith(b"["):
        return []
    items = _ARRAY.decode(data)
    return items if items and bytes(items[0]).startswith(b"{") else []


def _layout(data: bytes, items: list[Any], fields: FieldMap) -> Layout | BadRow:
    rows = []
    for raw in items[:SAMPLE_ROWS]:
        try:
            row = json.loads(bytes(raw))
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    if not rows:
        return Layout(fields.id, fields.title, fields.text)
    found = recognise(rows, fields)
    if isinstance(found, Unrecognised):
        line = data[: data.index(bytes(items[0]))].count(b"\n") + 1
        return unrecognised("unknown fields", replace(found, line=line))
    return found


def _sliced(data: bytes, items: list[Any], layout: Layout, *, slice_bytes: int) -> Iterator[Items]:
    at = counted = 0  # `line` is that of the byte up to which lines were counted
    line = begin = 1
    lines: list[int] = []
    values: list[bytes] = []
    num_bytes = 0
    for number, raw in enumerate(items, start=1):
        value = bytes(raw)
        at = data.index(value, at)
        line += data.count(b"\n", counted, at)
        counted = at
        if num_bytes >= slice_bytes:
            yield Items(layout, number - len(values), lines, line - begin, values)
            lines, values, num_bytes, begin = [], [], 0, line
        lines.append(line - begin + 1)
        values.append(value)
        num_bytes += len(value)
        at += len(value)
    if values:
        first = len(items) - len(values) + 1
        yield Items(layout, first, lines, line - begin + data.count(b"\n", counted), values)


def parse_items(items: Items) -> ParsedRows:
    """Returns the passages of some items; `lines` are those on which they begin."""
    parsed = ParsedRows(num_lines=items.num_lines, has_made_ids=items.layout.id is None)
    numbered = enumerate(zip(items.lines, items.values, strict=True), start=items.first)
    for number, (line, value) in numbered:
        parsed.add(_row(line, value), items.layout, where=f"item {number}")
    return parsed


def _row(line: int, value: bytes) -> tuple[int, dict[str, Any]] | BadRow:
    if len(value) > line_blocks.MAX_LINE_BYTES:
        return BadRow(line, "item too long", f"more than {line_blocks.MAX_LINE_BYTES} bytes")
    try:
        row = json.loads(value.decode())
    except UnicodeDecodeError as error:
        return bad_utf8(line, error, "it")
    except (ValueError, RecursionError) as error:
        return BadRow(line, "bad JSON", str(error))
    return (line, row) if isinstance(row, dict) else BadRow(line, "bad JSON", "not an object")
