"""Read the passages of Parquet and Arrow files: what tables and Hugging Face datasets lie in."""

import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from sharding.ingest.rows import BadRow, FieldMap, ParsedRows, all_filled
from sharding.ingest.sources import SourceFile
from sharding.storage.files import open_url

_BATCH_ROWS = 4096
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
            for batch in batches:
                held.append(batch)
                num_bytes += batch.nbytes
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
        batches = table.iter_batches(_BATCH_ROWS, row_groups=groups, columns=wanted)
        return table.schema_arrow.names, batches
    try:
        stream = pa.ipc.open_stream(opened)
        return stream.schema.names, _whole_stream(opened, stream, wanted)
    except pa.ArrowInvalid:  # not a stream, as `datasets` writes, but a file of Arrow's own format
        opened.seek(0)
        table = pa.ipc.open_file(opened)
        numbers = range(table.num_record_batches)
        return table.schema.names, (table.get_batch(number).select(wanted) for number in numbers)


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
    try:
        "".join(keys).encode(), "".join(titles).encode(), "".join(texts).encode()
    except UnicodeEncodeError:
        return None
    return ParsedRows(keys, titles, texts, list(range(1, num_rows + 1)), num_rows)


def _careful(columns: dict[str, list[Any]], fields: FieldMap, num_rows: int) -> ParsedRows:
    parsed = ParsedRows(num_lines=num_rows)
    for row in range(num_rows):
        values = {name: column[row] for name, column in columns.items()}
        parsed.add((row + 1, values), fields)
    return parsed
