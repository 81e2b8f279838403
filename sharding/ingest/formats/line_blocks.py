"""Cut a file that is read by lines into blocks of whole rows, in bounded memory.

A block ends behind a line that is a whole row by itself. That a line inside a quoted field looks
like one is possible, so whoever parses a block says whether its last row was left open.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.fields.heads import (
    BYTE_ORDER_MARK,
    Columns,
    Quoting,
    dialect_of,
    layout_of_objects,
    layout_of_table,
)
from sharding.ingest.fields.layout import Layout, Unrecognised
from sharding.ingest.source_bytes import SourceBytes
from sharding.ingest.source_file import SourceFile

MAX_LINE_BYTES = 16 << 20
_LINES_TRIED = 100
_HEAD_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class LineBlock:
    """Whole lines of a file.

    Attributes:
        data: them, with their ends; a line over the limit is cut short behind it.
        layout: which fields are what, or why that can't be said; of the whole file.
        columns: of a table.
        lines_before: that belong to the block and aren't in `data`: the header, in the first.
        is_last: whether nothing follows.
        fault: reason and detail of damage that ended the file behind the block.
        num_read: bytes of the file that were read for it.
    """

    data: bytes
    layout: Layout | Unrecognised = field(default_factory=Layout)
    columns: Columns | None = None
    lines_before: int = 0
    is_last: bool = False
    fault: tuple[str, str] | None = None
    num_read: int = 0

    def is_cut(self, line: bytes) -> bool:
        """Returns whether a bad line is the file's last, and its end is missing.

        So ends a copy that was broken off, and nobody knows how many rows it lacks.
        """
        return self.is_last and self.fault is None and not line.endswith(b"\n")


def line_blocks(
    file: SourceFile,
    source: SourceBytes,
    *,
    fields: FieldMap,
    quoting: Quoting,
    block_bytes: int,
) -> Iterator[LineBlock]:
    """Cuts a file into blocks; at least one comes, if only to say that the file is empty.

    Args:
        file: a jsonl, tsv or csv file.
        source: its bytes.
        fields: the names that are given.
        quoting: what a quote is in a table; see `Columns`.
        block_bytes: what a block is to have at least, the last one excepted.
    """
    chunks = iter(source)
    held = _first_lines(chunks)
    head = b"".join(held)
    columns: Columns | None = None
    layout: Layout | Unrecognised
    if file.kind == "jsonl":
        layout = layout_of_objects(head, fields)
    else:
        columns, layout = layout_of_table(head, kind=file.kind, fields=fields, quoting=quoting)
    del head
    cut = _cut(chain(held, chunks), source, block_bytes=block_bytes, columns=columns)
    num_read = 0
    waiting: LineBlock | None = None
    for data in cut:
        lines_before = 0
        if waiting is None:
            data = data.removeprefix(BYTE_ORDER_MARK)
            if columns is not None and columns.has_header:
                data, lines_before = data.partition(b"\n")[2], 1
        else:
            yield waiting
        waiting = LineBlock(
            data, layout, columns, lines_before, num_read=source.num_read - num_read
        )
        num_read = source.num_read
    if waiting is None:
        waiting = LineBlock(b"", layout, columns, num_read=source.num_read)
    yield replace(waiting, is_last=True, fault=source.fault)


def _first_lines(chunks: Iterator[bytes]) -> list[bytes]:
    """Returns the chunks with a file's first lines, one of them whole if it isn't too long."""
    held: list[bytes] = []
    size, has_line = 0, False
    while size < _HEAD_BYTES or not (has_line or size > MAX_LINE_BYTES):
        if (chunk := next(chunks, None)) is None:
            break
        held.append(chunk)
        size += len(chunk)
        has_line = has_line or b"\n" in chunk
    return held


def _cut(
    chunks: Iterable[bytes], source: SourceBytes, *, block_bytes: int, columns: Columns | None
) -> Iterator[bytes]:
    pending = bytearray()
    end = 0  # behind the last line end in `pending`
    too_long = False
    for chunk in _pieces(chunks, block_bytes):
        if too_long:
            at = chunk.find(b"\n")
            if at < 0:
                continue
            chunk, too_long = chunk[at:], False
        pending += chunk
        end = max(end, pending.rfind(b"\n", end) + 1)
        if len(pending) - end > MAX_LINE_BYTES:
            del pending[end + MAX_LINE_BYTES + 1 :]
            too_long = True
        if end >= block_bytes:
            at = end if columns is None else _row_end(pending, end, columns)
            yield bytes(memoryview(pending)[:at])
            del pending[:at]
            end -= at
    if source.fault:
        del pending[end:]  # a line that damage cut in two
    if pending:
        yield bytes(pending)


def _pieces(source: Iterable[bytes], num_bytes: int) -> Iterator[bytes]:
    for chunk in source:
        if len(chunk) <= num_bytes:
            yield chunk
            continue
        for begin in range(0, len(chunk), num_bytes):
            yield chunk[begin : begin + num_bytes]


def _row_end(data: bytearray, end: int, columns: Columns) -> int:
    """Returns the end of the last line that is a row by itself.

    The last line's where there is none.
    """
    at = end
    for _ in range(_LINES_TRIED):
        begin = data.rfind(b"\n", 0, at - 1) + 1
        if begin == 0:
            break
        if _is_row(bytes(data[begin:at]), columns):
            return at
        at = begin
    return end


def _is_row(line: bytes, columns: Columns) -> bool:
    try:
        rows = list(csv.reader([line.decode()], dialect_of(columns)))
    except (UnicodeDecodeError, csv.Error):
        return False
    return len(rows) == 1 and len(rows[0]) == len(columns.names)
