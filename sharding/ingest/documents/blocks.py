"""A document as a tree of sections with blocks of text, whatever format it came in."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from sharding.ingest.chunking import count_words

BlockKind = Literal["text", "item", "row", "code"]

# What is longer is a paragraph that somebody has set as a heading.
_MAX_HEADING_WORDS = 25
_MAX_HEADING_CHARACTERS = 150


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading, whose section goes on up to the next one of its level or above.

    Attributes:
        level: 1 is the highest.
        text: in one line.
        line: of the file, from 1.
    """

    level: int
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, an item of a list, a row of a table with its headers, or a piece of code.

    Attributes:
        kind: which of them.
        text: as it will stand in a passage.
        line: of the file, from 1.
    """

    kind: BlockKind
    text: str
    line: int


@dataclass(slots=True)
class Section:
    """A heading with what is under it.

    Attributes:
        heading: its text; empty where blocks stand for themselves.
        line: of the heading.
        blocks: directly under it.
        children: the sections under it, behind these blocks.
    """

    heading: str
    line: int
    blocks: list[Block] = field(default_factory=list)
    children: list["Section"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Document:
    """A document's title, and its text as the section that all others are in."""

    title: str
    body: Section


def document_of(
    items: Iterable[Heading | Block], *, title: str = "", page_title: str = "", name_title: str
) -> Document:
    """Returns the document that headings and blocks make in their order.

    Args:
        items: of the whole file.
        title: that the document gives itself, beside its headings.
        page_title: that is used where no single heading stands above all others.
        name_title: what the file's name says, for a document that says nothing.
    """
    items = [found for item in items if (found := _settled(item)) is not None]
    headings = [item for item in items if isinstance(item, Heading)]
    first = headings[0] if headings else None
    is_title = first is not None and all(item.level > first.level for item in headings[1:])
    if first is not None and is_title and (not title or _same(title, first.text)):
        title = title or first.text
        items.remove(first)
        # What stood before the heading that names the document is part of it all the same.
    body = _tree(items)
    return Document(_one_line(title or page_title or name_title), body)


def _settled(item: Heading | Block) -> Heading | Block | None:
    """Returns an item as it is kept; None where it is empty."""
    if isinstance(item, Block):
        return item if item.text.strip() else None
    text = _one_line(item.text)
    if not text:
        return None
    if len(text) > _MAX_HEADING_CHARACTERS or count_words(text) > _MAX_HEADING_WORDS:
        return Block("text", text, item.line)
    return Heading(item.level, text, item.line)


def _tree(items: Iterable[Heading | Block]) -> Section:
    body = Section("", 1)
    open_sections = [(0, body)]
    for item in items:
        if isinstance(item, Block):
            open_sections[-1][1].blocks.append(item)
            continue
        while open_sections[-1][0] >= item.level:
            open_sections.pop()
        section = Section(item.text, item.line)
        open_sections[-1][1].children.append(section)
        open_sections.append((item.level, section))
    _fold_bare_headings(body)
    return body


def _fold_bare_headings(section: Section) -> None:
    """Makes headings with nothing under them text: what they say is said nowhere else."""
    for child in section.children:
        if child.blocks or child.children:
            _fold_bare_headings(child)
        else:
            child.blocks.append(Block("text", child.heading, child.line))
            child.heading = ""


def _same(one: str, other: str) -> bool:
    return _one_line(one).casefold() == _one_line(other).casefold()


def _one_line(text: str) -> str:
    return " ".join(text.split())
