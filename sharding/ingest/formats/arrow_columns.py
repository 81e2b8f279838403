"""What the columns of a Parquet or Arrow file hold, and which of them is what."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.fields.layout import SAMPLE_ROWS, Layout, Unrecognised, recognise
from sharding.ingest.fields.names import (
    IDS,
    QUESTIONS,
    SEVERAL,
    TEXTS,
    TITLED,
    TITLES,
    known_as,
    plain,
)
from sharding.ingest.rows import BadRow, unrecognised

_SAMPLED_COLUMNS = 16


def sampled_columns(schema: Any, fields: FieldMap) -> list[str]:
    """Returns the columns that may be of a passage: those with names of such, and of texts."""
    wanted = {*known_as((*IDS, *TITLES, *TEXTS, *SEVERAL, *QUESTIONS), schema.names)}
    wanted |= {*fields.given().values()}
    wanted |= {*[field.name for field in schema if _is_string(field.type)][:_SAMPLED_COLUMNS]}
    return [name for name in schema.names if name in wanted and schema.names.count(name) == 1]


def layout_of_columns(schema: Any, batches: Iterator[Any], fields: FieldMap) -> Layout | BadRow:
    """Returns which column is what: by their types, and by the first rows where these are needed.

    Args:
        schema: of the file.
        batches: its rows, of which the columns are there that may be something.
        fields: the names that are given.
    """
    typed = {field.name: _example(field.type) for field in schema}
    typed = {name: value for name, value in typed.items() if schema.names.count(name) == 1}
    found = recognise([typed], fields)
    if isinstance(found, Layout) and plain(found.text) not in (TITLED, *SEVERAL):
        return found
    batch = next(batches, None)
    if batch is not None:
        sample = batch.slice(0, SAMPLE_ROWS)
        columns = {name: column_values(sample.column(name)) for name in sample.schema.names}
        rows = [
            dict.fromkeys(typed) | {name: values[row] for name, values in columns.items()}
            for row in range(sample.num_rows)
        ]
        found = recognise(rows or [typed], fields)
    if isinstance(found, Unrecognised):
        return unrecognised("missing column", found)
    return found


def _example(kind: Any) -> Any:
    """Returns a value of a type, where texts or ids may be of it."""
    if _is_string(kind):
        return ""
    if pa.types.is_integer(kind):
        return 0
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [_example(kind.value_type)]
    return None


def _is_string(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def column_values(column: Any) -> list[Any]:
    """Returns a column's values; one with bytes that aren't UTF-8 has a lone surrogate."""
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        # A lone surrogate is what a row's check finds bad text by.
        if not _is_string(column.type):
            return [_value(value) for value in column]
        raw = column.cast(pa.large_binary()).to_pylist()
        values = [None if v is None else v.decode("utf-8", "surrogateescape") for v in raw]
    return values


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return "\udcff"
