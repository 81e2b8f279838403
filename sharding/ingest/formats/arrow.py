"""Read the passages of Parquet and Arrow files: what tables and Hugging Face datasets lie in."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.fields.layout import Layout
from sharding.ingest.formats.arrow_columns import (
    column_values,
    layout_of_columns,
    sampled_columns,
)
from sharding.ingest.rows import BadRow, ParsedRows, by_column
from sharding.ingest.source_file import SourceFile
from sharding.storage.files import open_url

_BATCH_ROWS = 4096
_BATCH_BYTES = 128 << 20  # of one column; a file of kilobytes may stand for terabytes
MAX_VALUE_BYTES = 16 << 20  # as of a line
_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"  # of all that Arrow has written since 2019


def num_row_groups(file: SourceFile) -> int:
    """Returns how many parts of a Parquet file can be read by themselves.

    1 where it can't be read.
    """
    import pyarrow.parquet as pq

    try:
        with open_url(file.url) as opened:
            return max(1, int(pq.ParquetFile(opened).num_row_groups))
    except (pa.ArrowException, OSError):
        return 1


@dataclass(frozen=True, slots=True)
class TableSlice:
    """Some of a file's rows.

    Attributes:
        table: the columns that are read of them.
        layout: which column is what; of the whole file.
    """

    table: "pa.Table"
    layout: Layout


def row_slices(
    file: SourceFile, fields: FieldMap, *, row_group: int | None, slice_bytes: int
) -> Iterator["TableSlice | BadRow"]:
    """Yields a file's rows in slices of at least `slice_bytes` of memory, the last one excepted.

    Args:
        file: a parquet or arrow file.
        fields: the names that are given.
        row_group: which of a Parquet file; None for all.
        slice_bytes: what a slice is to take.

    Yields:
        Slices; a `BadRow`, whose line counts from the last one, ends them where the file is damaged
        or lacks a column.
    """
    held: list[pa.RecordBatch] = []
    num_bytes = 0
    try:
        with open_url(file.url) as opened:
            layout, batches = _open(opened, file, row_group, fields)
            if isinstance(layout, BadRow):
                yield layout
                return
            for batch, size in _with_sizes(batches, at_most=slice_bytes):
                held.append(batch)
                num_bytes += size
                if num_bytes >= slice_bytes:
                    yield TableSlice(pa.Table.from_batches(held), layout)
                    held, num_bytes = [], 0
    except (pa.ArrowException, OSError) as error:
        num_rows = sum(part.num_rows for part in held)
        yield BadRow(num_rows + 1, "not readable", f"{file.kind}: {error}")
        return
    if held:
        yield TableSlice(pa.Table.from_batches(held), layout)


def _open(
    opened: Any, file: SourceFile, row_group: int | None, fields: FieldMap
) -> tuple[Layout | BadRow, Iterator[Any]]:
    """Returns which column is what, and batches of those to read."""
    if file.kind == "parquet":
        import pyarrow.parquet as pq

        table = pq.ParquetFile(opened)
        sample = sampled_columns(table.schema_arrow, fields)
        first = range(min(1, table.num_row_groups))
        layout = layout_of_columns(
            table.schema_arrow, _of_groups(opened, table, first, sample), fields
        )
        groups = range(table.num_row_groups) if row_group is None else [row_group]
        wanted = [] if isinstance(layout, BadRow) else layout.names()
        return layout, _of_groups(opened, table, groups, wanted)
    try:
        stream = pa.ipc.open_stream(opened)
        schema, batches = stream.schema, _whole_stream(opened, stream)
    except pa.ArrowInvalid:  # not a stream, as `datasets` writes, but a file of Arrow's own format
        opened.seek(0)
        table = pa.ipc.open_file(opened)
        numbers = range(table.num_record_batches)
        schema, batches = table.schema, (table.get_batch(number) for number in numbers)
    held = list(islice(batches, 1))
    sample = sampled_columns(schema, fields)
    layout = layout_of_columns(schema, (batch.select(sample) for batch in held), fields)
    wanted = [] if isinstance(layout, BadRow) else layout.names()
    return layout, (batch.select(wanted) for batch in chain(held, batches))


def _of_groups(
    opened: Any, table: Any, groups: Sequence[int], wanted: list[str]
) -> Iterator[pa.RecordBatch]:
    """Yields a Parquet file's batches, of fewer rows where their values may be large."""
    for group in groups:
        rows = min(
            (_rows_at_once(opened, column) for column in _chunks(table.metadata, group, wanted)),
            default=_BATCH_ROWS,
        )
        yield from table.iter_batches(rows, row_groups=[group], columns=wanted)


def _chunks(metadata: Any, group: int, wanted: list[str]) -> Iterator[Any]:
    found = metadata.row_group(group)
    for number in range(found.num_columns):
        if (column := found.column(number)).path_in_schema.split(".")[0] in wanted:
            yield column


def _rows_at_once(opened: Any, column: Any) -> int:
    """Returns how many rows of a column are read at once, so that they fit into `_BATCH_BYTES`."""
    a_row: int = column.total_uncompressed_size // max(1, column.num_values)
    if column.has_dictionary_page:  # each row may be the whole of it
        a_row = max(a_row, _page_bytes(opened, column.dictionary_page_offset))
    return min(max(1, _BATCH_BYTES // max(1, a_row)), _BATCH_ROWS)


def _page_bytes(opened: Any, offset: int) -> int:
    """Returns the bytes of a page when it is decompressed, from its header at an offset.

    The header is Thrift's compact protocol: a page's type and this size are its first fields, each
    a byte for the field and a zigzag number in groups of seven bits.
    """
    before = opened.tell()
    try:
        opened.seek(offset)
        header = iter(opened.read(16))
        opened.seek(before)
        size = 0
        for _ in range(2):
            next(header)
            parts = [next(header)]
            while parts[-1] >= 128:
                parts.append(next(header))
            size = sum((part & 127) << 7 * place for place, part in enumerate(parts)) >> 1
    except (StopIteration, ValueError) as error:
        raise pa.ArrowInvalid(f"the header of the page at byte {offset} is damaged") from error
    return size


def _with_sizes(
    batches: Iterator[pa.RecordBatch], *, at_most: int
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yields batches with the bytes of their values, cut where rows share values of a dictionary.

    Args:
        batches: as read.
        at_most: bytes of a piece, but for its last row.
    """
    for batch in batches:
        shared = [c for c in batch.columns if pa.types.is_dictionary(c.type)]
        if not shared:
            yield batch, batch.nbytes
            continue
        sizes = np.zeros(batch.num_rows, np.int64)
        for column in shared:
            lengths = pc.binary_length(column.dictionary).take(column.indices)
            sizes += lengths.fill_null(0).to_numpy(zero_copy_only=False)
        pieces = np.cumsum(sizes) // at_most
        begins = np.flatnonzero(np.diff(pieces, prepend=-1))
        for begin, end in zip(begins, [*begins[1:], batch.num_rows], strict=True):
            yield batch.slice(begin, end - begin), int(sizes[begin:end].sum())


def _whole_stream(opened: Any, stream: Any) -> Iterator[Any]:
    """Yields a stream's batches.

    Raises:
        pa.ArrowInvalid: the mark of its end is missing. Arrow itself takes a stream that was cut
            between two batches for a whole one.
    """
    yield from stream
    opened.seek(-len(_STREAM_END), os.SEEK_END)
    if opened.read() != _STREAM_END:
        raise pa.ArrowInvalid("the stream's end is missing")


def parse_table(rows: TableSlice) -> ParsedRows:
    """Returns the passages of a slice; `lines` are its rows, from 1."""
    columns = {name: column_values(rows.table.column(name)) for name in rows.layout.names()}
    num_rows = rows.table.num_rows
    return _fast(columns, rows.layout, num_rows) or _careful(columns, rows.layout, num_rows)


def _fast(columns: dict[str, list[Any]], layout: Layout, num_rows: int) -> ParsedRows | None:
    keys = None if layout.id is None else columns[layout.id]
    if keys is not None and {*map(type, keys)} == {int}:
        keys = list(map(str, keys))
    texts = columns[layout.text]
    titles = None
    if layout.title is not None:
        titles = ["" if title is None else title for title in columns[layout.title]]
    if layout.is_several:
        return None
    for values in (keys or [], titles or [], texts):
        if not {*map(type, values)} <= {str}:
            return None
    if max(map(len, texts), default=0) > MAX_VALUE_BYTES // 4:
        return None
    try:
        for values in (keys or [], titles or [], texts):
            "".join(values).encode()
    except UnicodeEncodeError:
        return None
    return by_column(keys, titles, texts, layout, list(range(1, num_rows + 1)), num_rows)


def _careful(columns: dict[str, list[Any]], layout: Layout, num_rows: int) -> ParsedRows:
    parsed = ParsedRows(num_lines=num_rows, has_made_ids=layout.id is None)
    for row in range(num_rows):
        values = {name: column[row] for name, column in columns.items()}
        long = [n for n, v in values.items() if type(v) is str and len(v) > MAX_VALUE_BYTES // 4]
        if long and any(len(values[name].encode()) > MAX_VALUE_BYTES for name in long):
            what = f"{', '.join(long)} has more than {MAX_VALUE_BYTES} bytes"
            parsed.add(BadRow(row + 1, "value too long", what), layout)
            continue
        parsed.add((row + 1, values), layout)
    return parsed
