"""Parse a block of DPR's tab-separated format (psgs_w100), quoted as CSV.

Python's csv takes some 11 us for a passage of 100 words, ten times what splitting at tabs takes.
So a block is split where that is sure to mean the same, read by csv where it isn't, and read row
by row where something is wrong with it.
"""

import csv
import io
from collections import deque
from collections.abc import Iterator
from itertools import pairwise

from sharding.ingest.formats.jsonl import numbered_lines
from sharding.ingest.formats.line_blocks import LineBlock
from sharding.ingest.rows import BadRow, FieldMap, ParsedRows, all_filled, bad_utf8

MAX_ROW_LINES = 256  # that a quoted field may span; past it a quote was left open

_Lines = Iterator[tuple[int, bytes] | BadRow]


def parse_tsv(block: LineBlock, fields: FieldMap) -> ParsedRows:
    """Returns the passages of a block; the file's header says which column is which."""
    columns = _columns(block.header, fields)
    if isinstance(columns, BadRow):
        return ParsedRows(num_lines=block.lines_before, stopped_at=columns)
    return _fast(block, columns, fields) or _careful(block, columns, fields)


def _columns(header: bytes, fields: FieldMap) -> list[str] | BadRow:
    try:
        (columns,) = csv.reader([header.decode()], delimiter="\t", strict=True)
    except (UnicodeDecodeError, csv.Error, ValueError):
        columns = []
    missing = [name for name in fields.names() if columns.count(name) != 1]
    if missing or len(set(columns)) != len(columns):
        expected = ", ".join(filter(None, (fields.id, fields.text, fields.title)))
        return BadRow(1, "wrong header", f"expected the tab-separated columns {expected}")
    return columns


def _fast(block: LineBlock, columns: list[str], fields: FieldMap) -> ParsedRows | None:
    """Returns what `_careful` finds, or None where something is odd."""
    if block.fault:
        return None
    try:
        text = block.data.decode()
    except UnicodeDecodeError:
        return None
    num_lines = text.count("\n") + (not text.endswith("\n") and bool(text))
    if max(map(len, text.split("\n"))) >= csv.field_size_limit():
        return None
    found = _split(text, len(columns)) or _read(text)
    if found is None:
        return None
    rows, lines = found
    try:
        by_column = list(zip(*rows, strict=True)) or [()] * len(columns)
    except ValueError:  # of different lengths
        return None
    if len(by_column) != len(columns):
        return None
    keys = list(by_column[columns.index(fields.id)])
    texts = list(by_column[columns.index(fields.text)])
    if not all_filled(keys, texts):
        return None
    titles = [""] * len(rows)
    if fields.title is not None:
        titles = list(by_column[columns.index(fields.title)])
    if block.lines_before:
        lines = [line + block.lines_before for line in lines]
    return ParsedRows(keys, titles, texts, lines, num_lines + block.lines_before)


def _split(text: str, num_columns: int) -> tuple[list[list[str]], list[int]] | None:
    """Rows of blocks where each line is a row, and no quoted field holds a tab; else None.

    A field is quoted when it begins with a quote. A line whose fields all are either not quoted,
    or quoted from end to end with every inner quote doubled, is a row to csv too.
    """
    if "\r" in text:  # an error to csv, but at a line's end
        return None
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    rows = [line.split("\t") for line in lines]
    for row in rows:
        if len(row) != num_columns:
            return None
        for column, value in enumerate(row):
            if value[:1] == '"':
                inner = value[1:-1]
                if len(value) < 2 or value[-1] != '"':
                    return None
                if '"' in inner:
                    if inner.count('"') != 2 * inner.count('""'):
                        return None
                    inner = inner.replace('""', '"')
                row[column] = inner
    return rows, list(range(1, len(rows) + 1))


def _read(text: str) -> tuple[list[list[str]], list[int]] | None:
    """Rows as csv finds them, with the line that each begins at; None where one is odd."""
    rows, ends = [], [0]
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter="\t", strict=True)
    try:
        for row in reader:
            if row:
                rows.append(row)
                ends.append(reader.line_num)
            else:
                ends[-1] = reader.line_num
    except csv.Error:
        return None
    if any(b - a > MAX_ROW_LINES for a, b in pairwise(ends)):
        return None
    return rows, [end + 1 for end in ends[:-1]]


def _careful(block: LineBlock, columns: list[str], fields: FieldMap) -> ParsedRows:
    parsed = ParsedRows(num_lines=block.data.count(b"\n") + block.lines_before)
    lines = numbered_lines(block)
    waiting: deque[tuple[int, bytes] | BadRow] = deque()
    while (row := _next_row(lines, waiting, is_last=block.is_last)) is not None:
        if isinstance(row, _OpenRow):
            parsed.num_lines = row.line - 1
            parsed.open_at = _offset_of_line(block.data, row.line - 1 - block.lines_before)
            break
        if isinstance(row, BadRow):
            parsed.add(row, fields)
        elif len(row[1]) == len(columns):
            parsed.add((row[0], dict(zip(columns, row[1], strict=True))), fields)
        elif row[1]:
            detail = f"{len(row[1])} where the header has {len(columns)}"
            parsed.add(BadRow(row[0], "wrong column count", detail), fields)
    return parsed


class _OpenRow:
    """A row that may go on behind the block."""

    def __init__(self, line: int) -> None:
        self.line = line


def _next_row(
    lines: _Lines, waiting: deque[tuple[int, bytes] | BadRow], *, is_last: bool
) -> tuple[int, list[str]] | BadRow | _OpenRow | None:
    """Yields the next row, with the number of its first line; None at the end.

    A row takes in further lines only while a quote is open. When that leads nowhere they go to
    `waiting` and are read as rows of their own, so that a stray quote costs its own line only.
    """
    first = waiting.popleft() if waiting else next(lines, None)
    if first is None or isinstance(first, BadRow):
        return first
    number, data = first
    taken: list[tuple[int, bytes] | BadRow] = []
    at_end = False

    def texts() -> Iterator[str]:
        nonlocal at_end
        yield data.decode()
        while len(taken) < MAX_ROW_LINES:
            item = waiting.popleft() if waiting else next(lines, None)
            if item is None:
                at_end = True
                return
            taken.append(item)
            if isinstance(item, BadRow):
                return
            yield item[1].decode()

    try:
        return number, next(csv.reader(texts(), delimiter="\t", strict=True))
    except UnicodeDecodeError as error:
        bad = bad_utf8(number, error)
    except csv.Error as error:
        if at_end and not is_last:
            return _OpenRow(number)
        bad = BadRow(number, "bad CSV", str(error))
    waiting.extendleft(reversed(taken))
    return bad


def _offset_of_line(data: bytes, index: int) -> int:
    at = 0
    for _ in range(index):
        at = data.index(b"\n", at) + 1
    return at
