"""What a field holds: a text, a list of paragraphs or sentences, or several passages."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from sharding.ingest.fields.names import TEXTS, TITLES, known_as, plain

_TITLE_CHARACTERS = 200
_KILT_MARK = re.compile(r"^(?:Section::::|BULLET::::(?:- ?)?)")


def holds_text(value: Any) -> bool:
    """Returns whether a value is a text, a list of texts or a list of lists of texts."""
    if not isinstance(value, list):
        return isinstance(value, str)
    return bool(value) and all(isinstance(part, str) or _is_strings(part) for part in value)


def joined(value: Any, name: str) -> Any:
    """Returns the text that a list stands for; anything else as it is.

    Args:
        value: of a field: paragraphs, or sentences where the name says so; of a list in a list,
            sentences of a paragraph.
        name: the field's.
    """
    if not isinstance(value, list) or not holds_text(value):
        return value
    parts = [part if isinstance(part, str) else _joined(part, by=" ") for part in value]
    return _joined(parts, by=" " if plain(name) in ("sentences", "abstract") else "\n")


def _joined(parts: list[str], *, by: str) -> str:
    stripped = [_KILT_MARK.sub("", part.strip()) for part in parts]
    return by.join(filter(None, stripped))


def several_in(value: Any) -> list[tuple[Any, Any]] | None:
    """Returns the passages that a field holds, as titles and texts; None where it holds none.

    They may be pairs of a title and sentences (HotpotQA, 2WikiMultihopQA), objects with a text and
    perhaps a title (SQuAD's paragraphs, MuSiQue), an object of such lists (as Hugging Face datasets
    has them), or either of them as JSON in a string.
    """
    if isinstance(value, str) and value.startswith(("[[", "[{")):
        try:
            value = msgspec.json.decode(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, dict):
        value = _by_row(value)
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(part, dict) for part in value):
        return _of_objects(value)
    if all(_is_pair(part) for part in value):
        return [(title, joined(sentences, "sentences")) for title, sentences in value]
    return None


def has_title_line(text: str) -> bool:
    """Returns whether a text's first line seems to be a title: short, and no sentence."""
    first, _, rest = text.partition("\n")
    first = first.strip()
    if not first or not rest.strip() or len(first) > _TITLE_CHARACTERS:
        return False
    return first[-1] not in ".;,:" or _is_quoted(first)


def without_title_line(text: str) -> tuple[str, str]:
    """Returns a text's first line, without quotes around it, and the rest; all of it if short."""
    first, _, rest = text.partition("\n")
    if not rest.strip():
        return "", text
    first = first.strip()
    return (first[1:-1] if _is_quoted(first) else first), rest


def _is_quoted(line: str) -> bool:
    return len(line) > 2 and line[0] == line[-1] == '"'


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and _is_strings(value[1])
    )


def _of_objects(rows: list[dict[str, Any]]) -> list[tuple[Any, Any]] | None:
    columns: dict[str, None] = {name: None for row in rows for name in row}
    text = next(iter(known_as(TEXTS, columns)), None)
    if text is None:
        return None
    title = next(iter(known_as(TITLES, columns)), None)
    return [(row.get(title or ""), joined(row.get(text), "sentences")) for row in rows]


def _by_row(columns: dict[str, Any]) -> list[dict[str, Any]] | None:
    lists = {name: value for name, value in columns.items() if isinstance(value, list)}
    if len({len(value) for value in lists.values()}) != 1:
        return None
    return [dict(zip(lists, values, strict=True)) for values in _transposed(lists)]


def _transposed(lists: dict[str, list[Any]]) -> Iterator[tuple[Any, ...]]:
    return zip(*lists.values(), strict=True)
