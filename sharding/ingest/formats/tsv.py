"""Parse a block of a table in lines: DPR's tab-separated psgs_w100, MS MARCO's collection, CSV.

Python's csv takes some 11 us for a passage of 100 words, ten times what splitting at tabs takes.
So a block is split where that is sure to mean the same, read by csv where it isn't, and read row
by row where something is wrong with it.
"""

import csv
import io
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

from sharding.ingest.fields.heads import Columns, dialect_of
from sharding.ingest.fields.layout import Layout, Unrecognised
from sharding.ingest.formats import line_blocks
from sharding.ingest.formats.jsonl import numbered_lines
from sharding.ingest.formats.line_blocks import LineBlock
from sharding.ingest.rows import BadRow, ParsedRows, bad_utf8, by_column, unrecognised

# That a quoted field may span; past it a quote was left open. In a CSV file it may be an article.
MAX_ROW_LINES = 256
MAX_CSV_ROW_LINES = 4096

_Lines = Iterator[tuple[int, bytes] | BadRow]


def parse_tsv(block: LineBlock) -> ParsedRows:
    """Returns the passages of a block of a TSV or CSV file."""
    layout, columns = block.layout, block.columns
    if isinstance(layout, Unrecognised):
        bad = unrecognised("wrong header", layout)
        return ParsedRows(num_lines=block.lines_before, stopped_at=bad, unread_from=bad)
    assert columns is not None  # a table has some
    csv.field_size_limit(line_blocks.MAX_LINE_BYTES)
    return _fast(block, columns, layout) or _careful(block, columns, layout)


def _fast(block: LineBlock, columns: Columns, layout: Layout) -> ParsedRows | None:
    """Returns what `_careful` finds, or None where something is odd."""
    if block.fault or layout.is_several:
        return None
    try:
        text = block.data.decode()
    except UnicodeDecodeError:
        return None
    num_lines = text.count("\n") + (not text.endswith("\n") and bool(text))
    if max(map(len, text.split("\n"))) >= csv.field_size_limit():
        return None
    found = _split(text, columns)
    if found is None and columns.quoting == "csv":
        found = _read(text, columns)
    if found is None:
        return None
    rows, lines = found
    names = columns.names
    try:
        values = list(zip(*rows, strict=True)) or [()] * len(names)
    except ValueError:  # of different lengths
        return None
    if len(values) != len(names):
        return None
    if block.lines_before:
        lines = [line + block.lines_before for line in lines]
    return by_column(
        None if layout.id is None else list(values[names.index(layout.id)]),
        None if layout.title is None else list(values[names.index(layout.title)]),
        list(values[names.index(layout.text)]),
        layout,
        lines,
        num_lines + block.lines_before,
    )


def _split(text: str, columns: Columns) -> tuple[list[list[str]], list[int]] | None:
    """Rows of blocks where each line is a row, and no quoted field holds a delimiter; else None.

    A field is quoted when it begins with a quote. A line whose fields all are either not quoted,
    or quoted from end to end with every inner quote doubled, is a row to csv too.
    """
    if "\r" in text:  # an error to csv, but at a line's end
        return None
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    rows = [line.split(columns.delimiter) for line in lines]
    for row in rows:
        if len(row) != len(columns.names):
            return None
        if columns.quoting == "none":
            continue
        for at, value in enumerate(row):
            if value[:1] == '"':
                inner = value[1:-1]
                if len(value) < 2 or value[-1] != '"':
                    return None
                if '"' in inner:
                    if inner.count('"') != 2 * inner.count('""'):
                        return None
                    inner = inner.replace('""', '"')
                row[at] = inner
    return rows, list(range(1, len(rows) + 1))


def _read(text: str, columns: Columns) -> tuple[list[list[str]], list[int]] | None:
    """Rows as csv finds them, with the line that each begins at; None where one is odd."""
    rows, ends = [], [0]
    reader = csv.reader(io.StringIO(text, newline="\n"), dialect_of(columns))
    try:
        for row in reader:
            if _holds_rows(row, columns):
                return None
            if row:
                rows.append(row)
                ends.append(reader.line_num)
            else:
                ends[-1] = reader.line_num
    except csv.Error:
        return None
    if any(b - a > _max_row_lines(columns) for a, b in pairwise(ends)):
        return None
    return rows, [end + 1 for end in ends[:-1]]


def _max_row_lines(columns: Columns) -> int:
    return MAX_ROW_LINES if columns.delimiter == "\t" else MAX_CSV_ROW_LINES


def _holds_rows(row: list[str], columns: Columns) -> bool:
    """Returns whether each line that a row spans would be a row by itself.

    That is what a row looks like that begins with a stray quote and takes in its neighbours, up to
    one with a stray quote in the same column. A field that holds a table, its first and last lines
    as many cells short as the row has fields beside it, would be taken for one. Prose with commas
    would be, too, so that this goes for tabs only.
    """
    num_columns = len(columns.names)
    if columns.delimiter != "\t":
        return False
    for at, value in enumerate(row):
        lines = value.split("\n")
        if len(lines) > 1:
            cells = [line.count("\t") for line in lines]
            cells[0] += at
            cells[-1] += len(row) - 1 - at
            if len(row) == num_columns and all(count == num_columns - 1 for count in cells):
                return num_columns > 1
    return False


def _careful(block: LineBlock, columns: Columns, layout: Layout) -> ParsedRows:
    parsed = ParsedRows(
        num_lines=block.data.count(b"\n") + block.lines_before, has_made_ids=layout.id is None
    )
    lines = numbered_lines(block)
    waiting: deque[tuple[int, bytes] | BadRow] = deque()
    read = partial(_next_row, lines, waiting, block, columns)
    while (row := read()) is not None:
        if isinstance(row, _OpenRow):
            parsed.num_lines = row.line - 1
            parsed.open_at = _offset_of_line(block.data, row.line - 1 - block.lines_before)
            break
        if isinstance(row, BadRow):
            parsed.add(row, layout)
        elif row[1]:
            parsed.add((row[0], dict(zip(columns.names, row[1], strict=True))), layout)
    return parsed


class _OpenRow:
    """A row that may go on behind the block."""

    def __init__(self, line: int) -> None:
        self.line = line


def _next_row(
    lines: _Lines,
    waiting: deque[tuple[int, bytes] | BadRow],
    block: LineBlock,
    columns: Columns,
) -> tuple[int, list[str]] | BadRow | _OpenRow | None:
    """Returns the next row, with the number of its first line; None at the end.

    A row takes in further lines only while a quote is open. When that leads nowhere they go to
    `waiting` and are read as rows of their own, so that a stray quote costs its own line only.
    """
    first = waiting.popleft() if waiting else next(lines, None)
    if first is None or isinstance(first, BadRow):
        return first
    number, data = first
    num_columns = len(columns.names)
    taken: list[tuple[int, bytes] | BadRow] = []
    at_end = False

    def texts() -> Iterator[str]:
        nonlocal at_end
        yield data.decode()
        while len(taken) < _max_row_lines(columns):
            item = waiting.popleft() if waiting else next(lines, None)
            if item is None:
                at_end = True
                return
            taken.append(item)
            if isinstance(item, BadRow):
                return
            yield item[1].decode()

    try:
        row = next(csv.reader(texts(), dialect_of(columns)))
    except UnicodeDecodeError as error:
        bad = bad_utf8(number, error)
    except csv.Error as error:
        if at_end and not block.is_last:
            return _OpenRow(number)
        bad = BadRow(number, "truncated file" if block.is_cut(data) else "bad CSV", str(error))
    else:
        if not row or (len(row) == num_columns and not _holds_rows(row, columns)):
            return number, row
        further = [item[1] for item in taken if not isinstance(item, BadRow)]
        if any(line.count(columns.delimiter.encode()) == num_columns - 1 for line in further):
            end = number + len(taken)
            detail = f"it closes on line {end}, and the lines between look like rows of their own"
            bad = BadRow(number, "open quote", detail)
        else:
            detail = f"{len(row)} where the header has {num_columns}"
            reason = "truncated file" if block.is_cut(data) else "wrong column count"
            return BadRow(number, reason, detail)
    waiting.extendleft(reversed(taken))
    return bad


def _offset_of_line(data: bytes, index: int) -> int:
    at = 0
    for _ in range(index):
        at = data.index(b"\n", at) + 1
    return at
