"""Rows of a corpus file as columns, and the check of a single one."""

from dataclasses import dataclass, field
from typing import Any

from sharding.ingest.bad_row import BadRow, OnError, bad_utf8
from sharding.ingest.field_map import FieldMap


@dataclass(slots=True)
class ParsedRows:
    """The good rows of a block, by column, and what was wrong with the others.

    Attributes:
        keys: each row's own id.
        titles: each row's title.
        texts: each row's text.
        lines: each row's line, from 1 at the block's begin.
        num_lines: that the block spans.
        skipped: rows left out, by reason.
        stopped_at: the bad row that ended the reading.
        open_at: byte at which a row begins whose quoted field goes on behind the block.
    """

    keys: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    num_lines: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    stopped_at: BadRow | None = None
    open_at: int | None = None

    def add(self, row: "tuple[int, dict[str, Any]] | BadRow", fields: FieldMap) -> None:
        """Takes in a row after checking it."""
        passage = row if isinstance(row, BadRow) else checked(*row, fields)
        if isinstance(passage, BadRow):
            self._bad(passage)
            return
        line, key, title, text = passage
        self.lines.append(line)
        self.keys.append(key)
        self.titles.append(title)
        self.texts.append(text)

    def _bad(self, row: BadRow) -> None:
        if self.stopped_at is None:
            self.stopped_at = row
        self.skipped[row.reason] = self.skipped.get(row.reason, 0) + 1

    def settle(self, on_error: OnError) -> "ParsedRows":
        """Forgets what stopped the reading where bad rows are only counted."""
        if on_error == "skip" and self.stopped_at and not self.stopped_at.is_fatal:
            self.stopped_at = None
        return self


def all_filled(keys: list[str], texts: list[str]) -> bool:
    """Returns whether no id and no text is empty or blank."""
    return all(map(str.strip, keys)) and all(map(str.strip, texts))


def checked(
    line: int, values: dict[str, Any], fields: FieldMap
) -> tuple[int, str, str, str] | BadRow:
    """Returns line, key, title and text of a row, or what is wrong with it."""
    for given in fields.names():
        if given not in values:
            return BadRow(line, "missing field", f"{given} is not there")
    key, text = values[fields.id], values[fields.text]
    title = "" if fields.title is None else values[fields.title]
    if type(key) is int:
        key = str(key)
    # An error names the source's field; it is counted by what the field is to us.
    for what, name, value in (
        ("id", fields.id, key),
        ("title", fields.title or "title", title),
        ("text", fields.text, text),
    ):
        if not isinstance(value, str):
            return BadRow(line, "wrong type", f"{name} is not a string")
        if what != "title" and not value.strip():
            return BadRow(line, f"empty {what}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return bad_utf8(line, error, name)
    return line, key, title, text
