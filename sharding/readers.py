"""Read passages from corpus files: JSON lines, and DPR's tab-separated files, gzipped or not.

One line is in memory at a time. Whatever is wrong with a line is an error that names the file and
the line, or, with `on_error="skip"`, is counted by its reason.
"""

import csv
import gzip
import json
import os
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any, Literal

from sharding.errors import CorpusError
from sharding.files import open_url
from sharding.key_set import KeySet

OnError = Literal["stop", "skip"]
MAX_LINE_BYTES = 16 << 20
MAX_ROW_LINES = 256  # that a quoted field may span; past it a quote was left open

_TSV_HEADER = ["id", "text", "title"]


@dataclass(frozen=True, slots=True)
class _BadLine:
    """A line that can't be a passage: the reason to count it by, and what exactly is wrong."""

    line: int
    reason: str
    detail: str = ""


# Parsers pass bad lines on as values, so that they can go on behind them.
_Lines = Iterator[tuple[int, bytes] | _BadLine]
_Rows = Iterator[tuple[int, dict[str, Any]] | _BadLine]


def read_passages(
    path: str | os.PathLike[str],
    *,
    on_error: OnError,
    skipped: Counter[str],
    seen: KeySet | None = None,
) -> Iterator[tuple[str, str, str]]:
    """Reads a corpus file, in its order.

    Args:
        path: `.jsonl` (objects with id, title, text) or `.tsv` (DPR's psgs_w100: the header
            `id text title`, quoted as CSV), or either with `.gz`; a path or fsspec URL.
        on_error: Whether a bad line is an error or is left out.
        skipped: Counts what was left out, by reason.
        seen: Ids of the files read before, when several make one corpus; it grows.

    Yields:
        Key (the file's own id), title and text of each passage.

    Raises:
        CorpusError: A bad line (names file, line and what is wrong), or the file can't be read.
    """
    name = os.fspath(path)
    parse = _parser_of(name)
    seen = KeySet() if seen is None else seen
    with ExitStack() as stack:
        file: IO[bytes] | gzip.GzipFile = stack.enter_context(open_url(name))
        if name.endswith(".gz"):
            file = stack.enter_context(gzip.GzipFile(fileobj=file))
        for row in parse(_lines(file)):
            passage = row if isinstance(row, _BadLine) else _passage(*row, seen)
            if not isinstance(passage, _BadLine):
                yield passage
            elif on_error == "skip" and passage.reason != "wrong header":
                skipped[passage.reason] += 1
            else:
                raise _error(name, passage)


def check_readable(path: str | os.PathLike[str]) -> None:
    """Raises `CorpusError` when a file's name is of no kind that `read_passages` reads."""
    _parser_of(os.fspath(path))


def _error(name: str, bad: _BadLine) -> CorpusError:
    what = f"{bad.reason}: {bad.detail}" if bad.detail else bad.reason
    remedy = "mend the file, or leave such lines out with --on-error skip"
    if bad.reason == "wrong header":
        remedy = "give a file in DPR's format, or JSON lines"
    return CorpusError(f"{name}:{bad.line}: {what}; {remedy}")


def _parser_of(name: str) -> Callable[[_Lines], _Rows]:
    base = name.removesuffix(".gz")
    if base.endswith(".jsonl"):
        return _parse_jsonl
    if base.endswith(".tsv"):
        return _parse_tsv
    raise CorpusError(
        f"{name}: not a known kind of corpus file; its name must end in .jsonl, .jsonl.gz, .tsv "
        "or .tsv.gz"
    )


def _lines(file: IO[bytes] | gzip.GzipFile) -> _Lines:
    """Numbered lines from 1, without their line ends; a damaged gzip ends them."""
    number = 0
    while True:
        number += 1
        try:
            line = file.readline(MAX_LINE_BYTES + 1)
            too_long = len(line) > MAX_LINE_BYTES
            rest = line
            while too_long and rest and not rest.endswith(b"\n"):
                rest = file.readline(MAX_LINE_BYTES)
        except EOFError:
            yield _BadLine(number, "truncated gzip", "the file ends in the middle of its data")
            return
        except (gzip.BadGzipFile, zlib.error) as error:
            yield _BadLine(number, "damaged gzip", str(error))
            return
        if not line:
            return
        if too_long:
            yield _BadLine(number, "line too long", f"more than {MAX_LINE_BYTES} bytes")
        else:
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _parse_jsonl(lines: _Lines) -> _Rows:
    for item in lines:
        if isinstance(item, _BadLine):
            yield item
            continue
        number, line = item
        if not line.strip():
            continue
        try:
            fields = json.loads(line.decode())
        except UnicodeDecodeError as error:
            yield _bad_utf8(number, error)
        except (ValueError, RecursionError) as error:
            yield _BadLine(number, "bad JSON", str(error))
        else:
            if isinstance(fields, dict):
                yield number, fields
            else:
                yield _BadLine(number, "bad JSON", "not an object with id, title and text")


def _parse_tsv(lines: _Lines) -> _Rows:
    waiting: deque[tuple[int, bytes] | _BadLine] = deque()
    header = _next_csv_row(lines, waiting)
    if header is None or isinstance(header, _BadLine) or header[1] != _TSV_HEADER:
        yield _BadLine(1, "wrong header", "expected the tab-separated columns id, text, title")
        return
    while (row := _next_csv_row(lines, waiting)) is not None:
        if isinstance(row, _BadLine):
            yield row
            continue
        number, columns = row
        if len(columns) == len(_TSV_HEADER):
            yield number, dict(zip(_TSV_HEADER, columns, strict=True))
        elif columns:
            detail = f"{len(columns)} where the header has {len(_TSV_HEADER)}"
            yield _BadLine(number, "wrong column count", detail)


def _next_csv_row(
    lines: _Lines, waiting: deque[tuple[int, bytes] | _BadLine]
) -> tuple[int, list[str]] | _BadLine | None:
    """The next row, with the number of its first line; None at the end.

    A row takes in further lines only while a quote is open. When that leads nowhere they go to
    `waiting` and are read as rows of their own, so that a stray quote costs its own line only.
    """
    first = waiting.popleft() if waiting else next(lines, None)
    if first is None or isinstance(first, _BadLine):
        return first
    number, data = first
    taken: list[tuple[int, bytes] | _BadLine] = []

    def texts() -> Iterator[str]:
        yield data.decode()
        while len(taken) < MAX_ROW_LINES:
            item = waiting.popleft() if waiting else next(lines, None)
            if item is None:
                return
            taken.append(item)
            if isinstance(item, _BadLine):
                return
            yield item[1].decode()

    try:
        return number, next(csv.reader(texts(), delimiter="\t", strict=True))
    except UnicodeDecodeError as error:
        bad = _bad_utf8(number, error)
    except csv.Error as error:
        bad = _BadLine(number, "bad CSV", str(error))
    waiting.extendleft(reversed(taken))
    return bad


def _passage(line: int, fields: dict[str, Any], seen: KeySet) -> tuple[str, str, str] | _BadLine:
    """Key, title and text, checked; a good passage's key is seen from now on."""
    for name in ("id", "title", "text"):
        if name not in fields:
            return _BadLine(line, "missing field", f"{name} is not there")
    key, title, text = fields["id"], fields["title"], fields["text"]
    if type(key) is int:
        key = str(key)
    for name, value in (("id", key), ("title", title), ("text", text)):
        if not isinstance(value, str):
            return _BadLine(line, "wrong type", f"{name} is not a string")
        if name != "title" and not value.strip():
            return _BadLine(line, f"empty {name}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return _bad_utf8(line, error, name)
    if not seen.add(key):
        return _BadLine(line, "duplicate id", repr(key))
    return key, title, text


def _bad_utf8(line: int, error: UnicodeError, where: str = "the line") -> _BadLine:
    return _BadLine(line, "bad UTF-8", f"{where} is not valid text ({error})")
