"""Which fields of a file's rows are id, title and text: recognised from its first rows.

What is recognised holds for the whole file, so that a row that lacks a field which the others have
is a bad row, and not one of another kind.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.fields.names import (
    IDS,
    QUESTIONS,
    SEVERAL,
    TEXTS,
    TITLED,
    TITLES,
    known_as,
    plain,
)
from sharding.ingest.fields.values import has_title_line, holds_text, joined, several_in

SAMPLE_ROWS = 100
_SHOWN = 12

_Columns: TypeAlias = dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Layout:
    """A file's names for the fields of a passage.

    Attributes:
        id: None where ids are made.
        title: None where there are no titles.
        text: of the text, or of the passages where a row has several.
        is_several: whether it has.
        is_titled: whether a text's first line is the title.
        may_have_title: whether a row may have a title although the first ones have none.
    """

    id: str | None = "id"
    title: str | None = "title"
    text: str = "text"
    is_several: bool = False
    is_titled: bool = False
    may_have_title: bool = False

    def names(self) -> list[str]:
        """Returns the names of the fields to read."""
        return [name for name in (self.id, self.title, self.text) if name is not None]


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """Why a file's rows can't be read as passages.

    Attributes:
        detail: what is missing, and which fields there are.
        remedy: what to do about it, with the `--map` that works where there is one.
        line: where that is seen.
    """

    detail: str
    remedy: str
    line: int = 1


def recognise(rows: Iterable[Mapping[str, Any]], fields: FieldMap) -> Layout | Unrecognised:
    """Returns what is what in rows like these.

    Args:
        rows: a file's first ones.
        fields: names that are given, which aren't looked for.
    """
    columns: _Columns = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return _recognised(columns, fields) or _unrecognised(columns, fields)


def _recognised(columns: _Columns, fields: FieldMap) -> Layout | None:
    given = fields.given()
    if not columns.keys() >= {*given.values()}:
        return None
    others = {name: values for name, values in columns.items() if name not in given.values()}
    text = given.get("text") or _text(others)
    is_several = text is None
    if is_several:
        text = _several(others)
    if text is None:
        return None
    others.pop(text, None)
    is_others = is_several or (plain(text) == "context" and known_as(QUESTIONS, columns))
    title = given.get("title")
    if title is None and fields.title is not None:
        title = _title(others)
    may_have_title = title is None and fields.title is not None
    is_titled = may_have_title and _is_titled(text, columns[text])
    return Layout(
        given.get("id") or (None if is_others else _id(others)),
        title,
        text,
        is_several,
        is_titled,
        may_have_title and not is_titled and not is_several,
    )


def _text(columns: _Columns) -> str | None:
    """Returns the first known field that has a text in most rows, or else in some."""
    known = known_as(TEXTS, columns)
    num_rows = max(map(len, columns.values()), default=0)
    counts = {name: _num_texts(name, columns[name]) for name in known}
    for at_least in (num_rows / 2, 1):
        for name in known:
            if counts[name] >= max(at_least, 1):
                return name
    # What has no text in the first rows may have one later; what has others never.
    for name in known:
        if name == "text" or all(value is None for value in columns[name]):
            return name
    return None


def _num_texts(name: str, values: list[Any]) -> int:
    may_be_several = plain(name) in SEVERAL
    return sum(
        holds_text(value) and not (may_be_several and several_in(value) is not None)
        for value in values
    )


def _several(columns: _Columns) -> str | None:
    for name in known_as(SEVERAL, columns):
        if any(several_in(value) is not None for value in columns[name]):
            return name
    return None


def _id(columns: _Columns) -> str | None:
    known = known_as(IDS, columns)
    for name in known:
        if any(type(value) in (str, int) for value in columns[name]):
            return name
    return next((n for n in known if any(value is not None for value in columns[n])), None)


def _title(columns: _Columns) -> str | None:
    known = known_as(TITLES, columns)
    for name in known:
        if any(type(value) is str for value in columns[name]):
            return name
    unfilled = (n for n in known if n == "title" or all(value is None for value in columns[n]))
    return next(unfilled, None)


def _is_titled(text: str, values: list[Any]) -> bool:
    texts = [value for value in values if type(value) is str]
    return plain(text) == TITLED and 2 * sum(map(has_title_line, texts)) > len(texts)


def _unrecognised(columns: _Columns, fields: FieldMap) -> Unrecognised:
    """Returns what is missing, and the map that would work: as given, but for what is missing."""
    missing = [name for name in fields.given().values() if name not in columns]
    what = f"{', '.join(missing)} is not there" if missing else "no field is known as the text"
    names = ", ".join(list(columns)[:_SHOWN]) + (", ..." if len(columns) > _SHOWN else "")
    detail = f"{what}; the fields are {names}" if columns else f"{what}: there are no fields"
    said: dict[str, str | None] = {
        field: name for field, name in fields.given().items() if name not in missing
    }
    if fields.title is None:
        said["title"] = None
    if _recognised(columns, FieldMap(**said)) is None:  # type: ignore[arg-type]
        guess = _longest({n: found for n, found in columns.items() if n not in said.values()})
        if guess is None:
            return Unrecognised(detail, "give a file with a text in each row")
        said["text"] = guess
        if guess == "title":
            said["title"] = None
    if not said:
        return Unrecognised(detail, "say --map '', as the fields are recognised")
    return Unrecognised(detail, "say --map " + ",".join(f"{f}={n or ''}" for f, n in said.items()))


def _longest(columns: _Columns) -> str | None:
    """Returns the field with the longest texts that `--map` can name."""
    lengths = {
        name: sum(len(joined(value, name)) for value in values if holds_text(value))
        for name, values in columns.items()
        if name != "id" and name == name.strip() and name and not set(name) & set(",=")
    }
    return max((name for name in lengths if lengths[name]), key=lengths.__getitem__, default=None)
