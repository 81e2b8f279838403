"""Cut a document into passages of about as many words each, along its structure.

A passage holds whole blocks of one section where they fit: a cut falls between paragraphs, else
between items or rows, else between sentences, and between words only where a sentence is longer
than a passage may be. A section that fits into one passage with all that is under it makes one;
so do a few tiny ones that follow one another. What a section's passages are depends on that section
alone, and on neighbours only where these are tiny: an edit changes the passages of its section.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from sharding.ingest.chunking import chunk_text, count_words
from sharding.ingest.documents.blocks import Block, Document, Section
from sharding.ingest.documents.sentences import split_sentences

PASSAGE_WORDS = 100  # by default, as of the Wikipedia passages that retrieval is measured on
_MOST = 1.5  # a passage's words, of those asked for
_TINY = 0.25  # a section's words, of those asked for
_SHORT = 0.05  # a sentence's words, of those asked for: it stays with the next one
_TOGETHER = 4  # as many tiny sections as fit whatever their words are
_MAX_TITLE_CHARACTERS = 240
_SHORT_CHARACTERS = 80  # of a paragraph that may introduce the next
# What a cut costs beside a passage's distance from its size: at a paragraph nothing.
_CUT_IN_LIST, _CUT_IN_PARAGRAPH, _CUT_IN_SENTENCE, _CUT_BEHIND_INTRODUCTION = 0.15, 0.3, 0.6, 0.5


_BLANK_LINES = re.compile(r"\n\s*\n")


class Cut(NamedTuple):
    """A passage.

    Attributes:
        heading: the last of its path, or "".
        title: the document's title and the headings that it is under.
        text: its blocks.
        line: of the file, where it begins.
    """

    heading: str
    title: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class _Unit:
    """What isn't cut any more.

    Attributes:
        text: of it.
        gap: what stands between it and the unit before.
        cut: the cost of a cut before it.
        words: it has.
        line: of the file.
    """

    text: str
    gap: str
    cut: float
    words: int
    line: int


def cut_document(document: Document, *, num_words: int) -> Iterator[Cut]:
    """Yields a document's passages in its order; all its words are in them or in their titles.

    Args:
        document: to cut.
        num_words: of a passage, about; none has more than 1.5 times as many, but for the headings
            of sections that share one.
    """
    yield from _passages(document.body, (), document.title, num_words)


def title_of_path(title: str, path: tuple[str, ...]) -> str:
    """Returns a passage's title: `Handbook > Leave > Parental leave`.

    A heading that says the same as the one above is left out; of a long path the middle is.
    """
    names = [title] if title else []
    for heading in path:
        if heading and (not names or heading.casefold() != names[-1].casefold()):
            names.append(heading)
    joined = " > ".join(names)
    while len(joined) > _MAX_TITLE_CHARACTERS and len(names) > 2:
        names[1:3] = ["…"] if len(names) > 3 or names[1] != "…" else names[2:3]
        joined = " > ".join(names)
    return joined


def _passages(section: Section, path: tuple[str, ...], title: str, num_words: int) -> Iterator[Cut]:
    heading = path[-1] if path else ""
    if _num_words(section) <= num_words:
        if text := _whole_text(section):
            yield Cut(heading, title_of_path(title, path), text, _first_line(section))
        return
    for text, line in _cut_blocks(section.blocks, num_words):
        yield Cut(heading, title_of_path(title, path), text, line)
    for group in _groups(section.children, num_words):
        if len(group) == 1:
            (child,) = group
            below = (*path, child.heading) if child.heading else path
            yield from _passages(child, below, title, num_words)
        else:
            text = "\n".join(_with_heading(child) for child in group)
            yield Cut(heading, title_of_path(title, path), text, _first_line(group[0]))


def _groups(sections: list[Section], num_words: int) -> Iterator[list[Section]]:
    """Yields sections one by one, and tiny ones that follow one another a few together.

    How many is fixed, so that an edit that leaves them tiny changes no group but its own.
    """
    tiny: list[Section] = []
    for section in sections:
        is_tiny = _num_words(section) + count_words(section.heading) <= _TINY * num_words
        if tiny and (not is_tiny or len(tiny) == _TOGETHER):
            yield tiny
            tiny = []
        if is_tiny:
            tiny.append(section)
        else:
            yield [section]
    if tiny:
        yield tiny


def _num_words(section: Section) -> int:
    """Returns the words of a section's text with the headings below, not its own."""
    return sum(count_words(block.text) for block in section.blocks) + sum(
        count_words(child.heading) + _num_words(child) for child in section.children
    )


def _whole_text(section: Section) -> str:
    own = _joined(_units(section.blocks, 0))
    return "\n".join(filter(None, [own, *map(_with_heading, section.children)]))


def _with_heading(section: Section) -> str:
    """Returns a section as part of a passage: `Heading: ...`."""
    text = _whole_text(section)
    if not section.heading:
        return text
    colon = "" if unicodedata.category(section.heading[-1]) == "Po" else ":"
    return f"{section.heading}{colon}\n{text}"


def _first_line(section: Section) -> int:
    if section.blocks:
        return section.blocks[0].line
    return section.children[0].line if section.children else section.line


def _cut_blocks(blocks: list[Block], num_words: int) -> Iterator[tuple[str, int]]:
    """Yields the passages of blocks of one section, with the lines where they begin."""
    units = list(_units(blocks, num_words))
    for begin, end in pairwise(_best_cuts(units, num_words)):
        yield _joined(units[begin:end]), units[begin].line


def _best_cuts(units: list[_Unit], num_words: int) -> list[int]:
    """Returns where to cut, with both ends, so that the costs are least.

    A passage costs the square of its relative distance from `num_words`.
    """
    if not units:
        return [0]
    costs, begins = [0.0], [0]
    for end in range(1, len(units) + 1):
        words, best, best_begin = 0, float("inf"), end - 1
        for begin in range(end - 1, -1, -1):
            words += units[begin].words
            if words > _MOST * num_words and begin < end - 1:
                break
            cost = costs[begin] + (words / num_words - 1) ** 2
            cost += units[begin].cut if begin else 0.0
            if cost < best:
                best, best_begin = cost, begin
        costs.append(best)
        begins.append(best_begin)
    cuts = [len(units)]
    while cuts[-1]:
        cuts.append(begins[cuts[-1]])
    return cuts[::-1]


def _units(blocks: list[Block], num_words: int) -> Iterator[_Unit]:
    """Yields the least pieces of blocks; whole blocks where `num_words` is 0."""
    before: Block | None = None
    for block in blocks:
        cut = _CUT_IN_LIST if before and block.kind == before.kind in ("item", "row") else 0.0
        if before is not None and _introduces(before):
            cut = _CUT_BEHIND_INTRODUCTION
        elif before is not None and block.kind == "code":
            cut = _CUT_IN_LIST
        gap = "\n" if before is not None else ""
        for text, inner_gap, inner_cut in _pieces(block, num_words):
            yield _Unit(text, inner_gap or gap, inner_cut or cut, count_words(text), block.line)
        before = block


def _introduces(block: Block) -> bool:
    """Returns whether a paragraph says little without the next: `You need:`, or a question."""
    if block.kind != "text":
        return False
    is_short = len(block.text) < _SHORT_CHARACTERS and not block.text.endswith((".", "!", "…"))
    return is_short or block.text.endswith(":")


def _pieces(block: Block, num_words: int) -> Iterator[tuple[str, str, float]]:
    """Yields a block's pieces, each with the gap to the one before and the cost of a cut there."""
    if not num_words or (block.kind != "text" and count_words(block.text) <= num_words):
        yield block.text, "", 0.0
        return
    # Code falls apart at blank lines first, then between lines.
    parts = _BLANK_LINES.split(block.text) if block.kind == "code" else [block.text]
    gap = "\n" if block.kind == "code" else " "
    for number, part in enumerate(parts):
        pieces = part.split("\n") if block.kind == "code" else split_sentences(part)
        for at, piece in enumerate(_not_short(pieces, gap, num_words * _SHORT)):
            cut = _CUT_IN_PARAGRAPH if at else _CUT_IN_LIST if number else 0.0
            words = [piece]
            if count_words(piece) > _MOST * num_words:
                words = chunk_text(piece, num_words=num_words)
            for place, text in enumerate(words):
                if place:
                    yield text, " ", _CUT_IN_SENTENCE
                else:
                    yield text, gap if cut else "", cut


def _not_short(parts: Iterable[str], gap: str, least: float) -> Iterator[str]:
    """Yields sentences or lines, those that are short with what follows."""
    held: list[str] = []
    words = 0
    for part in filter(str.strip, parts):
        held.append(part)
        words += count_words(part)
        if words >= least:
            yield gap.join(held)
            held, words = [], 0
    if held:
        yield gap.join(held)


def _joined(units: "list[_Unit] | Iterator[_Unit]") -> str:
    return "".join(unit.gap * (at > 0) + unit.text for at, unit in enumerate(units))
