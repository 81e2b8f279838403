"""Slices of a file that isn't read by lines, and what parses one, by the file's kind."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.rows import ParsedRows
from sharding.ingest.source_file import SourceFile


def slices_of(
    file: SourceFile, fields: FieldMap, *, row_group: int | None, slice_bytes: int
) -> tuple[Iterator[Any], Callable[[Any], ParsedRows]]:
    """Returns a file's slices, or a `BadRow` in the place of one, and what parses a slice.

    Args:
        file: a json, tar, parquet or arrow file.
        fields: the names that are given.
        row_group: which of a Parquet file; None for all.
        slice_bytes: what a slice is to have at least, the last one excepted.
    """
    if file.kind == "tar":
        from sharding.ingest.formats import tar

        return tar.sample_slices(file, slice_bytes=slice_bytes), partial(
            tar.parse_samples, fields=fields
        )
    if file.kind == "json":
        from sharding.ingest.formats import json_file

        return json_file.item_slices(file, fields, slice_bytes=slice_bytes), json_file.parse_items
    from sharding.ingest.formats import arrow

    slices = arrow.row_slices(file, fields, row_group=row_group, slice_bytes=slice_bytes)
    return slices, arrow.parse_table
