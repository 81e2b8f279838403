"""Read the passages of Parquet and Arrow files: what tables and Hugging Face datasets lie in."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sharding.ingest.rows import BadRow, FieldMap, ParsedRows, all_filled
from sharding.ingest.sources import SourceFile
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


def row_slices(
    file: SourceFile, fields: FieldMap, *, row_group: int | None, slice_bytes: int
) -> Iterator["pa.Table | BadRow"]:
    """Yields a file's rows in slices of at least `slice_bytes` of memory, the last one excepted.

    Args:
        file: a parquet or arrow file.
        fields: the columns to read.
        row_group: which of a Parquet file; None for all.
        slice_bytes: what a slice is to take.

    Yields:
        Tables; a `BadRow`, whose line counts from the last table, ends them where the file is
        damaged or lacks a column.
    """
    held: list[pa.RecordBatch] = []
    num_bytes = 0
    try:
        with open_url(file.url) as opened:
            names, batches = _open(opened, file, row_group, fields.names())
            missing = [name for name in fields.names() if names.count(name) != 1]
            if missing:
                what = f"{', '.join(missing)}; the file has {', '.join(names)}"
                yield BadRow(1, "missing column", what)
                return
            for batch, size in _with_sizes(batches, at_most=slice_bytes):
                held.append(batch)
                num_bytes += size
                if num_bytes >= slice_bytes:
                    yield pa.Table.from_batches(held)
                    held, num_bytes = [], 0
    except (pa.ArrowException, OSError) as error:
        num_rows = sum(part.num_rows for part in held)
        yield BadRow(num_rows + 1, "not readable", f"{file.kind}: {error}")
        return
    if held:
        yield pa.Table.from_batches(held)


def _open(
    opened: Any, file: SourceFile, row_group: int | None, wanted: list[str]
) -> tuple[list[str], Iterator[Any]]:
    """Returns the names of a file's columns, and batches of the wanted ones."""
    if file.kind == "parquet":
        import pyarrow.parquet as pq

        table = pq.ParquetFile(opened)
        groups = range(table.num_row_groups) if row_group is None else [row_group]
        return table.schema_arrow.names, _of_groups(opened, table, groups, wanted)
    try:
        stream = pa.ipc.open_stream(opened)
        return stream.schema.names, _whole_stream(opened, stream, wanted)
    except pa.ArrowInvalid:  # not a stream, as `datasets` writes, but a file of Arrow's own format
        opened.seek(0)
        table = pa.ipc.open_file(opened)
        numbers = range(table.num_record_batches)
        return table.schema.names, (table.get_batch(number).select(wanted) for number in numbers)


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
        if (column := found.column(number)).path_in_schema in wanted:
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


def _whole_stream(opened: Any, stream: Any, wanted: list[str]) -> Iterator[Any]:
    """Yields a stream's batches.

    Raises:
        pa.ArrowInvalid: the mark of its end is missing. Arrow itself takes a stream that was cut
            between two batches for a whole one.
    """
    yield from (batch.select(wanted) for batch in stream)
    opened.seek(-len(_STREAM_END), os.SEEK_END)
    if opened.read() != _STREAM_END:
        raise pa.ArrowInvalid("the stream's end is missing")


def parse_table(table: "pa.Table", fields: FieldMap) -> ParsedRows:
    """Returns the passages of a slice; `lines` are its rows, from 1."""
    columns = {name: _values(table.column(name)) for name in fields.names()}
    return _fast(columns, fields, table.num_rows) or _careful(columns, fields, table.num_rows)


def _values(column: "pa.ChunkedArray") -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        # A lone surrogate is what `checked` finds bad text by.
        raw = column.cast(pa.large_binary()).to_pylist()
        values = [None if v is None else v.decode("utf-8", "surrogateescape") for v in raw]
    return values


def _fast(columns: dict[str, list[Any]], fields: FieldMap, num_rows: int) -> ParsedRows | None:
    keys = columns[fields.id]
    if {*map(type, keys)} == {int}:
        keys = list(map(str, keys))
    texts = columns[fields.text]
    titles = [""] * num_rows if fields.title is None else columns[fields.title]
    if not all({*map(type, values)} <= {str} for values in (keys, titles, texts)):
        return None
    if not all_filled(keys, texts):
        return None
    if max(map(len, texts), default=0) > MAX_VALUE_BYTES // 4:
        return None
    try:
        "".join(keys).encode(), "".join(titles).encode(), "".join(texts).encode()
    except UnicodeEncodeError:
        return None
    return ParsedRows(keys, titles, texts, list(range(1, num_rows + 1)), num_rows)


def _careful(columns: dict[str, list[Any]], fields: FieldMap, num_rows: int) -> ParsedRows:
    parsed = ParsedRows(num_lines=num_rows)
    for row in range(num_rows):
        values = {name: column[row] for name, column in columns.items()}
        long = [n for n, v in values.items() if type(v) is str and len(v) > MAX_VALUE_BYTES // 4]
        if long and any(len(values[name].encode()) > MAX_VALUE_BYTES for name in long):
            what = f"{', '.join(long)} has more than {MAX_VALUE_BYTES} bytes"
            parsed.add(BadRow(row + 1, "value too long", what), fields)
            continue
        parsed.add((row + 1, values), fields)
    return parsed
