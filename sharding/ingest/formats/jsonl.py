"""Parse a block of JSON lines: a fast road for blocks without a fault, a careful one for others."""

import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec

from sharding.ingest.fields.layout import Layout, Unrecognised
from sharding.ingest.fields.names import IDS, TITLES
from sharding.ingest.formats import line_blocks
from sharding.ingest.formats.line_blocks import LineBlock
from sharding.ingest.rows import BadRow, ParsedRows, bad_utf8, by_column, unrecognised


def _named(names: Iterable[str]) -> re.Pattern[bytes]:
    """Returns a pattern of a field with one of the names, as `known_as` compares them."""
    spelled = "|".join(name.replace("_", "[ _-]") for name in names)
    return re.compile(rf'"\s*(?:{spelled})\s*"\s*:'.encode(), re.IGNORECASE)


_TITLE, _ID = _named(TITLES), _named(IDS)


def parse_jsonl(block: LineBlock) -> ParsedRows:
    """Returns the passages of a block, one JSON object a line; blank lines are nothing."""
    if isinstance(block.layout, Unrecognised):
        bad = unrecognised("unknown fields", block.layout)
        return ParsedRows(stopped_at=bad, unread_from=bad)
    return _fast(block, block.layout) or _careful(block, block.layout)


@lru_cache
def _decoder(layout: Layout) -> Any:
    """Returns a decoder of objects that have the named fields and any others."""
    types: list[Any] = [("text", str)]
    names = {"text": layout.text}
    if layout.id is not None:
        types.append(("id", str | int))
        names["id"] = layout.id
    if layout.title is not None:
        types.append(("title", str | None, None))
        names["title"] = layout.title
    row = msgspec.defstruct("Row", types, rename=names, gc=False)
    return msgspec.json.Decoder(row)


def _fast(block: LineBlock, layout: Layout) -> ParsedRows | None:
    """Returns what `_careful` finds, reading no more than msgspec does; None at anything odd."""
    if block.fault or layout.is_several:
        return None
    lines = block.data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    if max(map(len, lines), default=0) >= line_blocks.MAX_LINE_BYTES:
        return None
    if _may_have_more(block.data, layout):
        return None
    try:
        block.data.decode()  # msgspec skips over unknown fields without a look at their bytes
        rows = list(map(_decoder(layout).decode, lines))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    keys = None
    if layout.id is not None:
        keys = [row.id if type(row.id) is str else str(row.id) for row in rows]
    titles = None if layout.title is None else [row.title or "" for row in rows]
    texts = [row.text for row in rows]
    return by_column(keys, titles, texts, layout, list(range(1, len(rows) + 1)), len(lines))


def _may_have_more(data: bytes, layout: Layout) -> bool:
    """Tells whether rows may have a title or an id although the file's first ones have none."""
    return (layout.may_have_title and _TITLE.search(data) is not None) or (
        layout.id is None and _ID.search(data) is not None
    )


def _careful(block: LineBlock, layout: Layout) -> ParsedRows:
    parsed = ParsedRows(has_made_ids=layout.id is None)
    for row in _rows(block, layout):
        parsed.add(row, layout)
    parsed.num_lines = block.data.count(b"\n")
    return parsed


def _rows(block: LineBlock, layout: Layout) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    for item in numbered_lines(block):
        if isinstance(item, BadRow):
            yield item
            continue
        number, line = item
        if not line.strip():
            continue
        try:
            values = json.loads(line.decode())
        except UnicodeDecodeError as error:
            yield bad_utf8(number, error)
        except (ValueError, RecursionError) as error:
            reason = "truncated file" if block.is_cut(line) else "bad JSON"
            yield BadRow(number, reason, str(error))
        else:
            if isinstance(values, dict):
                yield number, values
            else:
                names = ", ".join(layout.names())
                yield BadRow(number, "bad JSON", f"not an object with {names}")


def numbered_lines(block: LineBlock) -> Iterator[tuple[int, bytes] | BadRow]:
    """Yields a block's lines with their ends, numbered from 1 at its begin.

    Damage behind them last.
    """
    number = block.lines_before
    at = 0
    while at < len(block.data):
        number += 1
        end = block.data.find(b"\n", at) + 1 or len(block.data)
        if end - at > line_blocks.MAX_LINE_BYTES:
            yield BadRow(number, "line too long", f"more than {line_blocks.MAX_LINE_BYTES} bytes")
        else:
            yield number, block.data[at:end]
        at = end
    if block.fault:
        yield BadRow(number + 1, *block.fault)
