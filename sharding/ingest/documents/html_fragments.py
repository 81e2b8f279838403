"""Pieces of HTML, in Markdown or as small pages: what a reader sees of them."""

import re
from collections.abc import Iterator, Set
from typing import Any

from sharding.ingest.documents.blocks import Block, Heading
from sharding.ingest.documents.rows_of_tables import row_text

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_APART = re.compile(  # elements that begin and end a paragraph
    "address|article|aside|blockquote|body|center|dd|details|div|dl|dt|figcaption|figure|footer"
    "|form|header|hr|html|li|main|nav|ol|p|pre|section|summary|table|tbody|thead|tfoot|tr|ul"
)
_SPACE = re.compile(r"\s+")
_UNSEEN = frozenset(("script", "style", "template", "head", "title", "noscript", "svg"))


def fragment_items(
    html: str, *, line: int, without: Set[str] = frozenset()
) -> Iterator[Heading | Block]:
    """Yields the headings, paragraphs, items and rows of a piece of HTML, all at one line.

    Args:
        html: as it stands in the document; its tags may be closed further down, or not at all.
        line: of the document.
        without: elements that are left out with all that is in them.
    """
    from lxml import etree

    # Left alone, the parser ends at 256 elements in one another.
    parser = etree.HTMLParser(
        remove_comments=True, remove_pis=True, no_network=True, huge_tree=True, encoding="utf-8"
    )
    try:
        root = etree.fromstring(f"<div>{html}</div>".encode(), parser)
    except (etree.LxmlError, ValueError):
        return
    if root is not None:
        walk = _Walk(line, _UNSEEN | without)
        for event, element in etree.iterwalk(root, events=("start", "end")):
            yield from walk.step(element, is_start=event == "start")
        yield from walk.ended()


class _Walk:
    """What is open while elements begin and end."""

    def __init__(self, line: int, unseen: Set[str]) -> None:
        self._line, self._unseen = line, unseen
        self._depth = 0  # of elements that aren't seen
        self._text: list[str] = []
        self._tag = ""  # of the element whose own text is being read
        self._header: list[str] = []
        self._cells: list[str] = []
        self._is_header = True
        self._is_in_cell = False
        self._around: list[tuple[list[str], list[str], list[str], bool]] = []  # open tables

    def step(self, element: Any, *, is_start: bool) -> Iterator[Heading | Block]:
        """Takes in an element's beginning with the text behind it, or its end with that."""
        tag = element.tag
        if tag in self._unseen:
            self._depth += 1 if is_start else -1
        elif not self._depth:
            yield from self._element(element, tag, is_start)
        if not self._depth:
            text = (element.text if is_start else element.tail) or ""
            self._text.append(text if self._tag == "pre" else _SPACE.sub(" ", text))

    def ended(self) -> Iterator[Heading | Block]:
        """Yields the text that was open."""
        text = "".join(self._text)
        self._text.clear()
        if self._tag == "pre":
            yield Block("code", text.strip("\n"), self._line)
        elif (text := " ".join(text.split())) and self._tag in _HEADINGS:
            yield Heading(_HEADINGS[self._tag], text, self._line)
        elif text:
            yield (
                Block("item", f"- {text}", self._line)
                if self._tag == "li"
                else Block("text", text, self._line)
            )

    def _element(self, element: Any, tag: str, is_start: bool) -> Iterator[Heading | Block]:
        if tag in ("td", "th"):
            if not is_start:
                self._cells.append("".join(self._text))
                self._is_header = self._is_header and tag == "th"
            self._is_in_cell = is_start
            self._text.clear()
        elif tag == "table" and (self._is_in_cell if is_start else self._around):
            if is_start:  # a table in a cell; its rows come before the one that it is in
                self._around.append((self._text, self._cells, self._header, self._is_header))
                self._text, self._cells, self._header, self._is_header = [], [], [], True
            else:
                self._text, self._cells, self._header, self._is_header = self._around.pop()
                self._text.append(" ")
            self._is_in_cell = not is_start
        elif tag == "tr" and not is_start:
            if self._is_header and not self._header:
                self._header = self._cells
            elif text := row_text(self._header, self._cells):
                yield Block("row", text, self._line)
            self._cells, self._is_header = [], True
            self._text.clear()
        elif self._is_in_cell and (_APART.fullmatch(tag) or tag in _HEADINGS):
            self._text.append(" ")  # paragraphs of a cell are parts of its text
        elif _APART.fullmatch(tag) or tag in _HEADINGS:
            if not self._cells:
                yield from self.ended()
            self._tag = tag if is_start else ""
            if tag == "table":
                self._header = []
        elif is_start and tag == "img":
            self._text.append(element.get("alt") or "")
        elif is_start and tag == "br":
            self._text.append("\n" if self._tag == "pre" else " ")
