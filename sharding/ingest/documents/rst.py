"""reStructuredText, by docutils: no other file is read, and nothing is run or fetched."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from textwrap import dedent
from typing import Any

from sharding.ingest.documents.blocks import Block, Heading
from sharding.ingest.documents.rows_of_tables import row_text

MAX_LINE_CHARACTERS = 20_000  # also of what a substitution stands for
_MAX_PARAGRAPH_CHARACTERS = 100_000  # of which docutils' time is the square
_SETTINGS = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "_disable_config": True,
    "report_level": 5,
    "halt_level": 5,
    "warning_stream": False,
    "doctitle_xform": False,
    "docinfo_xform": False,
    "sectnum_xform": False,
    "smart_quotes": False,
    "syntax_highlight": "none",
    "embed_stylesheet": False,
    "input_encoding": "unicode",
    "line_length_limit": MAX_LINE_CHARACTERS,
    "id_prefix": "",
}
# A role that docutils doesn't know, such as Sphinx's :ref:`text <target>`.
_ROLE = re.compile(r":[\w.+:-]+:`[~!]?([^`<]*?)(?:\s*<[^`>]*>)?`")
# A directive that docutils doesn't know, such as Sphinx's `.. versionadded:: 1.2`.
_DIRECTIVE = re.compile(r"\.\.[ \t]+([\w.+:-]+)::[ \t]*(.*)")
_OPTION = re.compile(r"\s*:[\w-]+:(?:\s|$)")
# Those that are settings, lists of other files or read from code, and not text.
_NO_TEXT = re.compile(
    r"include|literalinclude|raw|toctree|index|only|highlight|current\w+|auto.*|.*:module"
)
_SAID = {
    "versionadded": "Added in version",
    "versionchanged": "Changed in version",
    "deprecated": "Deprecated since version",
    "seealso": "See also:",
}
_MAX_DIRECTIVES = 4  # in one another


class RstError(Exception):
    """A text that can't be read as reStructuredText."""


def rst_items(text: str) -> list[Heading | Block]:
    """Returns the headings and blocks of a text.

    Raises:
        RstError: a line is too long, lists and quotes are nested too deeply, or docutils fails.
    """
    size = 0
    for number, line in enumerate(text.split("\n"), start=1):
        size = size + len(line) if line.strip() else 0
        if len(line) > MAX_LINE_CHARACTERS:
            raise RstError(f"line {number} has more than {MAX_LINE_CHARACTERS:,} characters")
        if size > _MAX_PARAGRAPH_CHARACTERS:
            what = f"{_MAX_PARAGRAPH_CHARACTERS:,} characters without a blank line"
            raise RstError(f"line {number} ends more than {what}")
    try:
        return list(_items(text, num_directives=0, lines_before=0))
    except RecursionError as error:
        raise RstError("its lists or quotes are nested too deeply") from error
    except Exception as error:  # of text that is wrong in ways that it doesn't expect
        raise RstError(f"docutils ends with {type(error).__name__}: {error}") from error


def _items(text: str, *, num_directives: int, lines_before: int) -> Iterator[Heading | Block]:
    from docutils.core import publish_doctree

    with _roles_restored():
        tree = publish_doctree(text, settings_overrides=dict(_SETTINGS))
    yield from _Walk(num_directives, lines_before).items(tree, level=0, marker="")


@contextmanager
def _roles_restored() -> Iterator[None]:
    """Forgets the roles that a document defines: docutils would know them in the next one."""
    from docutils.parsers.rst import roles

    before = dict(roles._roles)
    try:
        yield
    finally:
        roles._roles.clear()
        roles._roles.update(before)


class _Walk:
    """Goes through a document's nodes in their order."""

    def __init__(self, num_directives: int, lines_before: int) -> None:
        self._num_directives = num_directives  # that this text is inside of
        self._lines_before = lines_before
        self._line = 1 + lines_before

    def items(self, node: Any, *, level: int, marker: str) -> Iterator[Heading | Block]:
        """Yields the headings and blocks of a node's children; `marker` is before an item."""
        for child in node.children:
            kind = child.tagname
            if child.line:
                self._line = child.line + self._lines_before
            if kind == "section":
                yield from self.items(child, level=level + 1, marker="")
            elif kind in ("title", "subtitle") and node.tagname == "section":
                yield Heading(level, _text(child), self._line)
            elif kind in ("bullet_list", "enumerated_list"):
                yield from self._list(child, level, marker)
            elif kind in ("literal_block", "doctest_block", "math_block"):
                yield Block("code", child.astext(), self._line)
            elif kind in ("definition_list_item", "field", "option_list_item"):
                yield from self._named(child, level)
            elif kind == "table":
                yield from self._table(child, level)
            elif kind in ("footnote", "citation"):
                label, *rest = map(_text, child.children)
                yield Block("text", f"[{label}] {' '.join(rest)}", self._line)
            elif kind in _ADMONITIONS:
                yield from self._named_text(f"{kind.capitalize()}:", child, level)
            elif kind == "system_message":
                yield from self._unread(child)
            elif kind in _LEAVES:
                text = _text(child)
                yield Block("item" if marker else "text", marker + text, self._line)
                marker = " " * len(marker)
            elif kind not in _UNSEEN and "contents" not in child.get("classes", ()):
                yield from self.items(child, level=level, marker=marker)

    def _list(self, node: Any, level: int, marker: str) -> Iterator[Heading | Block]:
        indent = "  " if marker else ""
        numbers = node.tagname == "enumerated_list"
        for number, item in enumerate(node.children, start=int(node.get("start", 1))):
            own = f"{number}. " if numbers else "- "
            yield from self.items(item, level=level, marker=f"{indent}{own}")

    def _named(self, node: Any, level: int) -> Iterator[Heading | Block]:
        """Yields a term with what is said of it: `term: ...`."""
        *names, body = node.children
        yield from self._named_text(f"{', '.join(map(_text, names))}:", body, level)

    def _named_text(self, name: str, body: Any, level: int) -> Iterator[Heading | Block]:
        if not body.children:
            yield Block("text", name, self._line)
        for at, item in enumerate(self.items(body, level=level, marker="")):
            yield (
                Block(item.kind, f"{name} {item.text}", item.line)
                if (at == 0 and isinstance(item, Block) and item.kind == "text")
                else item
            )

    def _table(self, node: Any, level: int) -> Iterator[Heading | Block]:
        from docutils import nodes

        for title in node.findall(nodes.title):
            yield Block("text", _text(title), self._line)
        header: list[str] = []
        for row in node.findall(nodes.row):
            cells = [_text(cell) for cell in row.children]
            if row.parent.tagname == "thead":
                header = [f"{a} {b}".strip() for a, b in zip_longest(header, cells, fillvalue="")]
            else:
                yield Block("row", row_text(header, cells), self._line)

    def _unread(self, message: Any) -> Iterator[Heading | Block]:
        """Yields the text that docutils couldn't read, or has no word for."""
        for block in message.children:
            if block.tagname != "literal_block":
                continue
            first, *lines = block.astext().split("\n")
            found = _DIRECTIVE.match(first)
            if found is None:
                yield Block("code", block.astext(), self._line)
            elif not _NO_TEXT.fullmatch(found[1]) and self._num_directives < _MAX_DIRECTIVES:
                said = f"{_SAID.get(found[1], '')} {found[2]}".strip()
                yield Block("text", said, self._line)
                while lines and (_OPTION.match(lines[0]) or not lines[0].strip()):
                    lines.pop(0)
                yield from _items(
                    dedent("\n".join(lines)),
                    num_directives=self._num_directives + 1,
                    lines_before=self._line - 1,
                )


_LEAVES = (
    "paragraph",
    "caption",
    "line_block",
    "attribution",
    "rubric",
    "title",
    "subtitle",
    "term",
)
_ADMONITIONS = [
    "attention",
    "caution",
    "danger",
    "error",
    "hint",
    "important",
    "note",
    "tip",
    "warning",
]
_UNSEEN = ("comment", "substitution_definition", "target", "image", "meta", "pending", "raw")


def _text(node: Any) -> str:
    """Returns what a reader sees of a node's text."""
    parts = []
    for child in node.children:
        if child.tagname == "#text":
            parts.append(child.astext())
        elif child.tagname == "problematic":
            parts.append(_ROLE.sub(lambda found: found[1] or found[0], child.astext()))
        elif child.tagname == "line":
            parts.append(_text(child) + "\n")
        elif child.tagname == "option_argument":
            parts.append(f"{child.get('delimiter', ' ')}{_text(child)}")
        elif child.tagname in ("paragraph", "list_item"):
            parts.append(_text(child) + " ")
        elif child.tagname not in _UNSEEN or child.children:
            parts.append(_text(child))
    text = "".join(parts).strip()
    return text if node.tagname == "line_block" else text.replace("\n", " ")
