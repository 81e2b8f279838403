"""Rows of a corpus file: what is wrong with one, and a block of them."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sharding.errors import CorpusError
from sharding.ingest.fields.heads import TO_UTF8
from sharding.ingest.fields.layout import Layout, Unrecognised
from sharding.ingest.fields.passages import RowFault, made_id, passages_of
from sharding.ingest.fields.values import without_title_line

OnError = Literal["stop", "skip"]

_COPY_AGAIN = "copy the file again, or write it again: nothing behind the damage can be read"
# Reasons that leave the file, or the rest of it, unread, and what to do about each.
_FATAL = {
    "wrong header": "name the file's own columns with --map",
    "missing column": "name the file's own columns with --map",
    "unknown fields": "name the file's own fields with --map",
    "bad JSON file": "mend the file, or write it as JSON lines, one object a line",
    "file too large": "",
    "not readable": _COPY_AGAIN,
    "truncated file": _COPY_AGAIN,
    "truncated gzip": _COPY_AGAIN,
    "damaged gzip": _COPY_AGAIN,
    "truncated zstd": _COPY_AGAIN,
    "damaged zstd": _COPY_AGAIN,
}
_SKIP_LINES = "leave such lines out with --on-error skip"
_LEAVE_OUT = f"mend the file, or {_SKIP_LINES}"
_LEAVE_OUT_FILE = "mend it, or leave such documents out with --on-error skip"
DOCUMENT_FAULTS = frozenset(("not UTF-8", "document not readable", "document too large"))
_REMEDIES = {
    "bad UTF-8": f"{_LEAVE_OUT}; {TO_UTF8}",
    "not UTF-8": "or leave such documents out with --on-error skip",
    "document not readable": _LEAVE_OUT_FILE,
    "document too large": "cut it into several files, or leave it out with --on-error skip",
    "bad CSV": f"{_LEAVE_OUT}; where quotes are plain characters, say --quoting none",
    "id in some rows only": "give all rows an id or none (of JSON lines: jq -c 'del(.NAME)'), name "
    f"a field that all have with --map id=NAME, or {_SKIP_LINES}",
    "open quote": f"{_LEAVE_OUT}; where quotes are plain characters, say --quoting none",
}


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be a passage.

    Attributes:
        line: from 1; of a Parquet or Arrow file the row, of a tar file the sample.
        reason: what it is counted by when it is left out.
        detail: what exactly is wrong.
        remedy: what to do; by default what helps with the reason.
        file: it is in, where that isn't the file that was being read.
    """

    line: int
    reason: str
    detail: str = ""
    remedy: str = ""
    file: str = ""

    @property
    def is_fatal(self) -> bool:
        """Whether the rest of the file can't be read, so that leaving rows out doesn't help."""
        return self.reason in _FATAL

    def error(self, file: str, *, lines_before: int = 0) -> CorpusError:
        """Returns the error for a row whose `line` counts from the line behind `lines_before`."""
        what = f"{self.reason}: {self.detail}" if self.detail else self.reason
        remedy = self.remedy or (_FATAL | _REMEDIES).get(self.reason, _LEAVE_OUT)
        return CorpusError(f"{self.file or file}:{lines_before + self.line}: {what}; {remedy}")


def bad_utf8(line: int, error: UnicodeError, where: str = "the line") -> BadRow:
    """Returns a row whose bytes or characters aren't valid text."""
    return BadRow(line, "bad UTF-8", f"{where} is not valid text ({error})")


def unrecognised(reason: str, found: Unrecognised) -> BadRow:
    """Returns the row that ends the reading of a file whose fields aren't known."""
    return BadRow(found.line, reason, found.detail, found.remedy)


@dataclass(slots=True)
class ParsedRows:
    """The good rows of a block, by column, and what was wrong with the others.

    Attributes:
        keys: each passage's own id.
        titles: each one's title.
        texts: each one's text.
        lines: the line of each one's row, from 1 at the block's begin.
        num_lines: that the block spans.
        skipped: rows left out, by reason.
        stopped_at: the bad row that ended the reading: the first.
        unread_from: the bad row behind which the file can't be read.
        open_at: byte at which a row begins whose quoted field goes on behind the block.
        has_made_ids: whether the keys follow from title and text, as the source has none.
        are_cut: whether long texts are cut already, as those of documents.
        unread: documents without a passage: each one's place in its group, from 0, and why.
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
    has_made_ids: bool = False
    are_cut: bool = False
    unread: list[tuple[int, str]] = field(default_factory=list)

    def add(
        self, row: "tuple[int, dict[str, Any]] | BadRow", layout: Layout, *, where: str = ""
    ) -> None:
        """Takes in a row's passages after checking it.

        Args:
            row: its line and values.
            layout: of the file.
            where: the row is, to be told where something is wrong with it.
        """
        if isinstance(row, BadRow):
            self._leave_out(row, where)
            return
        line, values = row
        found = passages_of(values, layout)
        if isinstance(found, RowFault):
            self._leave_out(BadRow(line, found.reason, found.detail), where)
        else:
            self.lines += [line] * len(found)
            self.keys += [passage.key for passage in found]
            self.titles += [passage.title for passage in found]
            self.texts += [passage.text for passage in found]

    def _leave_out(self, row: BadRow, where: str) -> None:
        if where:
            row = replace(row, detail=f"{where}: {row.detail}" if row.detail else where)
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


def by_column(
    keys: list[str] | None,
    titles: list[str] | None,
    texts: list[str],
    layout: Layout,
    lines: list[int],
    num_lines: int,
) -> ParsedRows | None:
    """Returns what `ParsedRows.add` makes of rows of strings; None where one isn't good.

    Args:
        keys: of each row; None where ids are made.
        titles: of each row; None where there are none.
        texts: of each row.
        layout: of the file.
        lines: where each row begins.
        num_lines: of the block.
    """
    if layout.is_titled:
        pairs = list(map(without_title_line, texts))
        titles, texts = [title for title, _ in pairs], [text for _, text in pairs]
    if titles is None:
        titles = [""] * len(texts)
    if layout.id is None:
        keys = list(map(made_id, titles, texts))
    if keys is None or not (all(map(str.strip, keys)) and all(map(str.strip, texts))):
        return None
    return ParsedRows(keys, titles, texts, lines, num_lines, has_made_ids=layout.id is None)
