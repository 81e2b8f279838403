"""Markdown: CommonMark and tables, by markdown-it-py; front matter in YAML or TOML."""

import re
import tomllib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from sharding.ingest.documents.blocks import Block, Heading
from sharding.ingest.documents.html_fragments import fragment_items
from sharding.ingest.documents.rows_of_tables import row_text

_FENCES = {"---": ("---", "..."), "+++": ("+++",)}
_MAX_FRONT_MATTER_LINES = 500
_MAX_FRONT_MATTER_CHARACTERS = 1 << 16
_MAX_INLINE_CHARACTERS = 8000
_MAX_NESTING = 60  # lists in lists; each level takes three calls
_ALERT = re.compile(r"\[!(NOTE|TIP|IMPORTANT|WARNING|CAUTION)\]\s*", re.IGNORECASE)
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_CONTACT = re.compile(r"(?:mailto|tel):([^?]+)", re.IGNORECASE)


def markdown_items(text: str) -> tuple[str, list[Heading | Block]]:
    """Returns the title of a text's front matter, or "", and its headings and blocks."""
    title, num_lines = _front_matter(text)
    if num_lines:  # blank lines in its place, so that lines keep their numbers
        text = "\n" * num_lines + text.split("\n", num_lines)[-1]
    references: dict[str, Any] = {}
    tokens = _parser().parse(text, references)
    return title, list(_Walk(references).items(tokens))


@lru_cache
def _parser() -> Any:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"maxNesting": _MAX_NESTING}).enable("table")
    parser.core.ruler.disable("inline")  # which `_seen` does, within bounds
    return parser


def _seen(content: str, references: dict[str, Any]) -> str:
    """Returns what a reader sees of a paragraph's Markdown.

    Brackets that nothing closes take the parser the square of their number, so that of a paragraph
    that no one writes the marks stay.
    """
    if len(content) > _MAX_INLINE_CHARACTERS:
        return " ".join(content.split())
    parser = _parser()
    children: list[Any] = []
    parser.inline.parse(content, parser, references, children)
    return inline_text(children)


def _front_matter(text: str) -> tuple[str, int]:
    """Returns the title in the front matter, and how many lines that takes; 0 for none."""
    lines = text.split("\n", _MAX_FRONT_MATTER_LINES)
    closing = _FENCES.get(lines[0].rstrip())
    if closing is None:
        return "", 0
    end = next((at for at in range(1, len(lines)) if lines[at].rstrip() in closing), None)
    if end is None:
        return "", 0
    held = "\n".join(lines[1:end])
    values = None
    if len(held) <= _MAX_FRONT_MATTER_CHARACTERS:
        values = _values(held, is_toml=closing == ("+++",))
    if values is None:
        return "", 0
    found = next((values[name] for name in values if str(name).lower() == "title"), "")
    return str(found) if isinstance(found, str | int | float) else "", end + 1


def _values(text: str, *, is_toml: bool) -> dict[Any, Any] | None:
    """Returns what a block of front matter holds; None where it is something else."""
    import yaml

    try:
        found = tomllib.loads(text) if is_toml else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return None  # a line between thematic breaks, say
    return found if isinstance(found, dict) else None


class _Walk:
    """What is open while the parser's tokens are read in their order."""

    def __init__(self, references: dict[str, Any]) -> None:
        self._references = references  # where links lead that are defined elsewhere
        self._lists: list[int | None] = []  # of each open list, its next number if it has them
        self._num_quotes = 0
        self._heading: int | None = None
        self._line = 1
        self._marker = ""  # of the open item, until its text has begun
        self._item: list[str] = []
        self._item_line = 1
        self._table = _Table()

    def items(self, tokens: Sequence[Any]) -> Iterator[Heading | Block]:
        """Yields headings and blocks."""
        for token in tokens:
            if _ENDS_ITEM.fullmatch(token.type):
                yield from self._end_item()
            if token.map:
                self._line = token.map[0] + 1
            if token.type == "inline":
                yield from self._text(_seen(token.content, self._references))
            elif token.type in ("fence", "code_block"):
                yield Block("code", token.content.strip("\n"), self._line)
            elif token.type == "html_block":
                yield from fragment_items(token.content, line=self._line)
            elif (row := self._table.take(token.type)) is not None:
                yield Block("row", row, self._line)
            else:
                self._open_or_close(token)

    def _open_or_close(self, token: Any) -> None:
        kind = token.type
        if kind == "heading_open":
            self._heading = int(token.tag[1:])
        elif kind == "heading_close":
            self._heading = None
        elif kind == "bullet_list_open":
            self._lists.append(None)
        elif kind == "ordered_list_open":
            self._lists.append(int(token.attrGet("start") or 1))
        elif kind in ("bullet_list_close", "ordered_list_close"):
            self._lists.pop()
        elif kind == "list_item_open":
            number = self._lists[-1]
            marker = "-" if number is None else f"{number}."
            self._marker = f"{'  ' * (len(self._lists) - 1)}{marker} "
            if number is not None:
                self._lists[-1] = number + 1
        elif kind in ("blockquote_open", "blockquote_close"):
            self._num_quotes += 1 if kind == "blockquote_open" else -1

    def _text(self, text: str) -> Iterator[Heading | Block]:
        if self._table.in_cell:
            self._table.cells.append(text)
        elif self._lists:
            self._item_line = self._item_line if self._item else self._line
            self._item.append(text)
        elif self._heading is not None and not self._num_quotes:
            yield Heading(self._heading, text, self._line)
        else:
            yield Block("text", _ALERT.sub(_alert, text, count=1), self._line)

    def _end_item(self) -> Iterator[Block]:
        """Yields the open item's text as far as it has come."""
        text = "\n".join(filter(None, map(str.strip, self._item)))
        self._item.clear()
        if text:
            yield Block("item", self._marker + text, self._item_line)
            self._marker = ""


# Where an item's text ends, at least for now.
_ENDS_ITEM = re.compile(
    "(?:bullet_list|ordered_list|list_item|table)_open|list_item_close|fence|code_block|html_block"
)


class _Table:
    """The table that is open."""

    def __init__(self) -> None:
        self.cells: list[str] = []
        self.in_cell = False
        self._header: list[str] = []
        self._num_rows = 0
        self._in_head = False

    def take(self, kind: str) -> str | None:
        """Takes in what a token opens or closes; returns a row where one ends."""
        if kind in ("th_open", "td_open", "th_close", "td_close"):
            self.in_cell = kind.endswith("open")
        elif kind == "table_open":
            self._header, self._num_rows = [], 0
        elif kind in ("thead_open", "thead_close"):
            self._in_head = kind == "thead_open"
        elif kind == "tr_open":
            self.cells = []
        elif kind == "tr_close" and self._in_head:
            self._header = self.cells
        elif kind == "tr_close":
            self._num_rows += 1
            return row_text(self._header, self.cells)
        elif kind == "table_close" and not self._num_rows:
            return row_text((), self._header)  # all that it says
        return None


def inline_text(children: Sequence[Any]) -> str:
    """Returns what a reader sees of a paragraph; of a link, its address only where it is one."""
    parts: list[str] = []
    contact, begin = "", 0
    for child in children:
        kind = child.type
        if kind in ("text", "code_inline", "text_special"):
            parts.append(child.content)
        elif kind == "image":
            parts.append(inline_text(child.children or ()))
        elif kind == "softbreak":
            parts.append(" ")
        elif kind == "hardbreak" or (kind == "html_inline" and _BREAK.fullmatch(child.content)):
            parts.append("\n")
        elif kind == "link_open":
            found = _CONTACT.match(str(child.attrGet("href") or ""))
            contact, begin = (found[1] if found else ""), len(parts)
        elif kind == "link_close" and contact:
            if contact.casefold() not in "".join(parts[begin:]).casefold():
                parts.append(f" ({contact})")
            contact = ""
    return "".join(parts).strip()


def _alert(found: re.Match[str]) -> str:
    return f"{found[1].capitalize()}: "
