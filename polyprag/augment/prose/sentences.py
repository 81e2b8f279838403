"""A passage's lines and sentences, each on one line and word for word as the passage has it."""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from collections.abc import Iterator
from typing import NamedTuple

_ABBREVIATION = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|No|vs|etc|approx|c|ca|e\.g|i\.e|Inc|Ltd|Co|Mt)\.$|(?:^|[\s.])[A-Z]\.$"
)
_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9À-Þ])")
_BULLET = re.compile(r"^\s*(?:[-*+•‣◦]|\d{1,3}[.)]|[a-z][.)])\s+")
_MARKS = re.compile(r"\*\*|__|`|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)|^#{1,6}\s+")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")


class Line(NamedTuple):
    """One line of a passage.

    Attributes:
        text: without a bullet and without Markdown's marks.
        is_item: it had a bullet or a number.
    """

    text: str
    is_item: bool


def lines_of(text: str) -> Iterator[Line]:
    """Yields the lines that have something in them."""
    for raw in text.splitlines():
        bullet = _BULLET.match(raw)
        line = raw[bullet.end() :] if bullet else raw
        line = " ".join(_MARKS.sub("", _LINK.sub(r"\1", line)).split())
        if any(map(str.isalnum, line)):
            yield Line(line, bullet is not None)


def sentences_in(line: str) -> list[str]:
    """Returns a line's sentences with their full stops."""
    found, start = [], 0
    for match in _END.finditer(line):
        if _ABBREVIATION.search(line[start : match.start()]):
            continue
        found.append(line[start : match.end()].strip())
        start = match.end()
    found.append(line[start:].strip())
    return [sentence for sentence in found if any(map(str.isalnum, sentence))]
