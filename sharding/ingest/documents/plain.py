"""Plain text: paragraphs are parted by blank lines."""

import re
from collections.abc import Iterator

from sharding.ingest.documents.blocks import Block, Heading

_ITEM = re.compile(r"\s*(?:[-*+\u2022\u2013\u25aa\u25cf]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s+\S")
_NUMBERED = re.compile(r"\d{1,3}(?:\.\d{1,2}){0,3}[.)]?\s+")  # as in 2. FINANCE
_LONG_LINE = 200  # characters; nobody wraps lines there, so it is a paragraph
_MAX_TITLE_WORDS = 12
_UNDERLINE = re.compile(r"\s*(?:={3,}|-{3,}|~{3,}|\*{3,}|_{3,})\s*")
_NO_TITLE = tuple(".,;:!?")


def plain_items(text: str) -> Iterator[Heading | Block]:
    """Yields a text's paragraphs and headings.

    A first line that stands alone, and is no sentence, is the highest heading; lines that stand
    alone in capitals, numbered or not, or are underlined, are those below. Lines that were broken
    to fit a page are joined. A line break stays where the line before is short, as in a verse or an
    address, or where the next is indented or begins an item.
    """
    paragraphs = list(_paragraphs(text))
    for at, (number, lines) in enumerate(paragraphs):
        num_lines = _heading_lines(lines, is_first=at == 0, is_last=at + 1 == len(paragraphs))
        if num_lines:
            yield Heading(2 if at else 1, lines[0].strip(), number)
        if lines := lines[num_lines:]:
            yield from _blocks(number + num_lines, lines)


def _heading_lines(lines: list[str], *, is_first: bool, is_last: bool) -> int:
    """Returns how many lines at a paragraph's begin are a heading: 2 where it is underlined."""
    if not _is_title(lines[0]):
        return 0
    if len(lines) > 1:
        return 2 if _UNDERLINE.fullmatch(lines[1]) else 0
    return 1 if not is_last and (is_first or lines[0].isupper()) else 0


def _paragraphs(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yields lines that no blank line parts, with the number of the first."""
    held: list[str] = []
    begin = 1
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.replace("\f", " ").rstrip()
        if line.strip():
            if not held:
                begin = number
            held.append(line)
        if held and (not line.strip() or len(line) > _LONG_LINE):
            yield begin, held
            held = []
    if held:
        yield begin, held


def _is_title(line: str) -> bool:
    return (
        len(line.split()) <= _MAX_TITLE_WORDS
        and not line.endswith(_NO_TITLE)
        and (not _ITEM.match(line) or bool(line.isupper() and _NUMBERED.match(line)))
        and any(map(str.isalnum, line))
    )


def _blocks(number: int, lines: list[str]) -> Iterator[Block]:
    """Yields a paragraph, or each item of a list."""
    short = 0.6 * max(map(len, lines))
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    kept, begin, is_item = lines[0].strip(), number, bool(_ITEM.match(lines[0]))
    for at in range(1, len(lines)):
        line, before = lines[at], lines[at - 1]
        if _ITEM.match(line):
            yield Block("item" if is_item else "text", kept, begin)
            kept, begin, is_item = line.strip(), number + at, True
            continue
        is_indented = len(line) - len(line.lstrip()) > margin
        breaks = not is_item and (is_indented or len(before) < short)
        kept += ("\n" if breaks else " ") + line.strip()
    yield Block("item" if is_item else "text", kept, begin)
