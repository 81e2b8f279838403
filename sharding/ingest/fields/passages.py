"""The passages that a row holds, by its file's layout."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from sharding.ingest.fields.layout import SAMPLE_ROWS, Layout
from sharding.ingest.fields.names import IDS, QUESTIONS, TITLES, known_as, plain
from sharding.ingest.fields.values import joined, several_in, without_title_line

_ID_BYTES = 12
_SHOWN = 12


class RowPassage(NamedTuple):
    """A passage as its source has it."""

    key: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class RowFault:
    """What is wrong with a row: what it is counted by, and the details."""

    reason: str
    detail: str = ""


def made_id(title: str, text: str) -> str:
    """Returns the id of a passage that has none: 24 hex digits of a hash of title and text.

    So it stays what it is wherever the passage stands, and equal passages have the same. Of n
    different ones any two agree with probability n^2 / 2^97.
    """
    data = title.encode() + b"\xff" + text.encode()
    return blake2b(data, digest_size=_ID_BYTES).hexdigest()


def passages_of(values: Mapping[str, Any], layout: Layout) -> "list[RowPassage] | RowFault":
    """Returns a row's passages, one unless the layout says that it has several."""
    for name in (layout.id, layout.text):
        if name is not None and name not in values:
            names = ", ".join(list(values)[:_SHOWN]) or "none"
            return RowFault("missing field", f"{name} is not there (the fields are {names})")
    if layout.is_several:
        return _several(values, layout)
    if layout.id is None and (late := _id_in(values, layout)):
        return RowFault(
            "id in some rows only",
            f"it has the id {late}={values[late]!r}, and the first {SAMPLE_ROWS} rows have none, "
            "for which ids are made",
        )
    key = None if layout.id is None else values[layout.id]
    title = None if layout.title is None else values.get(layout.title)
    if layout.may_have_title:
        title = _title_in(values, layout)
    text = values[layout.text]
    if isinstance(text, list):
        text = _joined(text, layout.text, title)
    elif layout.is_titled and isinstance(text, str):
        title, text = without_title_line(text)
    found = _checked(key, title, text, layout)
    return found if isinstance(found, RowFault) else [found]


def _id_in(values: Mapping[str, Any], layout: Layout) -> str | None:
    """Returns the name of a row's id where the first rows have none."""
    if plain(layout.text) == "context" and known_as(QUESTIONS, values):
        return None  # it is the question's
    known = (name for name in known_as(IDS, values) if name != layout.title)
    return next((name for name in known if type(values[name]) in (str, int)), None)


def _title_in(values: Mapping[str, Any], layout: Layout) -> Any:
    """Returns a row's title where the first rows have none."""
    known = (name for name in known_as(TITLES, values) if name not in (layout.id, layout.text))
    return next((values[name] for name in known if type(values[name]) is str), None)


def _several(values: Mapping[str, Any], layout: Layout) -> list[RowPassage] | RowFault:
    rows = several_in(values[layout.text])
    if rows is None:
        return RowFault("wrong type", f"{layout.text} holds no passages")
    common = None if layout.title is None else values.get(layout.title)
    passages = []
    for title, text in rows:
        found = _checked(None, common if title is None else title, text, layout)
        if isinstance(found, RowFault):
            return found
        passages.append(found)
    return passages


def _joined(paragraphs: list[Any], name: str, title: Any) -> Any:
    """Returns paragraphs as a text; the first isn't one where it repeats the title (KILT)."""
    first = paragraphs[0] if paragraphs else None
    if isinstance(first, str) and isinstance(title, str) and first.strip() == title.strip():
        paragraphs = paragraphs[1:]
    return joined(paragraphs, name) if paragraphs else ""


def _checked(key: Any, title: Any, text: Any, layout: Layout) -> RowPassage | RowFault:
    """Returns a passage of values that are strings, and filled but for the title."""
    if type(key) is int:
        key = str(key)
    if title is None:
        title = ""
    # An error names the source's field; it is counted by what the field is to us.
    named = [("title", layout.title or "title", title), ("text", layout.text, text)]
    if layout.id is not None:
        named.insert(0, ("id", layout.id, key))
    for what, name, value in named:
        if not isinstance(value, str):
            return RowFault("wrong type", f"{name} is not a string")
        if what != "title" and not value.strip():
            return RowFault(f"empty {what}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return RowFault("bad UTF-8", f"{name} is not valid text ({error})")
    return RowPassage(made_id(title, text) if layout.id is None else key, title, text)
