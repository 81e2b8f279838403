"""Rows of a corpus file: which fields are what, what is wrong with one, and a block of them."""

from dataclasses import dataclass, field
from typing import Any, Literal

from sharding.errors import CorpusError

OnError = Literal["stop", "skip"]
Quoting = Literal["csv", "none"]

_COPY_AGAIN = "copy the file again, or write it again: nothing behind the damage can be read"
# Reasons that leave the file, or the rest of it, unread, and what to do about each.
_FATAL = {
    "wrong header": "give a file in DPR's format, name its columns with --map, or use JSON lines",
    "missing column": "name the file's own columns with --map",
    "not readable": _COPY_AGAIN,
    "truncated file": _COPY_AGAIN,
    "truncated gzip": _COPY_AGAIN,
    "damaged gzip": _COPY_AGAIN,
    "truncated zstd": _COPY_AGAIN,
    "damaged zstd": _COPY_AGAIN,
}
_LEAVE_OUT = "mend the file, or leave such lines out with --on-error skip"
_LEAVE_OUT_FILE = "mend it, or leave such documents out with --on-error skip"
_REMEDIES = {
    "not UTF-8": "or leave such documents out with --on-error skip",
    "document not readable": _LEAVE_OUT_FILE,
    "document too large": "cut it into several files, or leave it out with --on-error skip",
    "bad CSV": f"{_LEAVE_OUT}; where quotes are plain characters, say --quoting none",
    "open quote": f"{_LEAVE_OUT}; where quotes are plain characters, say --quoting none",
}


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be a passage.

    Attributes:
        line: from 1; of a Parquet or Arrow file the row, of a tar file the sample.
        reason: what it is counted by when it is left out.
        detail: what exactly is wrong.
        file: it is in, where that isn't the file that was being read.
    """

    line: int
    reason: str
    detail: str = ""
    file: str = ""

    @property
    def is_fatal(self) -> bool:
        """Whether the rest of the file can't be read, so that leaving rows out doesn't help."""
        return self.reason in _FATAL

    def error(self, file: str, *, lines_before: int = 0) -> CorpusError:
        """Returns the error for a row whose `line` counts from the line behind `lines_before`."""
        what = f"{self.reason}: {self.detail}" if self.detail else self.reason
        remedy = (_FATAL | _REMEDIES).get(self.reason, _LEAVE_OUT)
        return CorpusError(f"{self.file or file}:{lines_before + self.line}: {what}; {remedy}")


def bad_utf8(line: int, error: UnicodeError, where: str = "the line") -> BadRow:
    """Returns a row whose bytes or characters aren't valid text."""
    return BadRow(line, "bad UTF-8", f"{where} is not valid text ({error})")


_ALLOWED = "--map takes id=NAME, title=NAME and text=NAME, such as id=_id,text=contents"


@dataclass(frozen=True, slots=True)
class FieldMap:
    """The names that a source has for a passage's fields; no `title` makes every title empty."""

    id: str = "id"
    title: str | None = "title"
    text: str = "text"

    def names(self) -> list[str]:
        """Returns the source's names, in the order id, title (where there is one), text."""
        return [name for name in (self.id, self.title, self.text) if name is not None]


def parse_field_map(text: str) -> FieldMap:
    """Returns the map that `id=_id,text=contents` means; `title=` says that there are no titles.

    Raises:
        CorpusError: another field is named, one twice, or id or text has no name.
    """
    found: dict[str, str | None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        field, equals, name = (piece.strip() for piece in part.partition("="))
        if not equals or field not in ("id", "title", "text"):
            raise CorpusError(f"--map {text}: {part!r} names no field of a passage; {_ALLOWED}")
        if field in found:
            raise CorpusError(f"--map {text}: {field} is named twice; name it once")
        if not name and field != "title":
            raise CorpusError(f"--map {text}: {field} needs a name; only title may have none")
        found[field] = name or None
    fields = FieldMap(**found)  # type: ignore[arg-type] # only title may be None, checked above
    if len(set(fields.names())) != len(fields.names()):
        raise CorpusError(f"--map {text}: two fields have the same name; {_ALLOWED}")
    return fields


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
        stopped_at: the bad row that ended the reading: the first.
        unread_from: the bad row behind which the file can't be read.
        open_at: byte at which a row begins whose quoted field goes on behind the block.
        are_cut: whether long texts are cut already, as those of documents.
    """

    keys: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    num_lines: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    stopped_at: BadRow | None = None
    unread_from: BadRow | None = None
    open_at: int | None = None
    are_cut: bool = False

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
        if row.is_fatal:
            self.unread_from = row
        self.skipped[row.reason] = self.skipped.get(row.reason, 0) + 1

    def settle(self, on_error: OnError) -> "ParsedRows":
        """Forgets what stopped the reading where bad rows are only counted.

        What makes the rest of a file unreadable stops it all the same: nobody knows how many rows
        are lost behind it.
        """
        if on_error == "skip":
            self.stopped_at = self.unread_from
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
