"""Which fields of somebody's own pairs are the question, the answer and the passage."""

from collections.abc import Iterable, Mapping
from typing import Any

from polyprag.augment.pairs.pair import Pair, PairsError
from sharding.corpus.passages import QA

_QUESTION = ("question", "query", "q", "prompt", "input")
_ANSWER = ("answer", "answers", "short_answer", "a", "response", "output", "target")
_FULL = ("full_answer", "long_answer", "answer_sentence")
_KEY = ("key", "passage_key", "passage_id", "doc_id", "docid", "document_id", "pid")
_TEXT = ("context", "text", "passage", "passage_text", "contents", "paragraph", "document")
_TITLE = ("title", "passage_title", "document_title", "doc_title")
_ID = "id"  # the passage's where nothing else tells of it; else most often the question's own
_WANTED = (
    f"a pair has a question ({', '.join(_QUESTION)}), its answer ({', '.join(_ANSWER)}) unless the "
    "teacher is to write it, and its "
    f"passage's key ({', '.join((*_KEY, _ID))}), text ({', '.join(_TEXT)}) or title "
    f"({', '.join(_TITLE)})"
)


def pair_of(fields: Mapping[str, Any], where: str) -> Pair:
    """Returns the pair that an object or a row of a table says.

    Args:
        fields: their names may be in any case.
        where: file and line or item.

    Raises:
        PairsError: there is no telling question or passage; names the fields found.
    """
    named = {str(name).strip().casefold(): value for name, value in fields.items()}
    question, answer = _first(named, _QUESTION, where), _first(named, _ANSWER, where)
    key, text, title = (_first(named, names, where) for names in (_KEY, _TEXT, _TITLE))
    if key is None and text is None and title is None:
        key = _first(named, (_ID,), where)
    if question is None:
        raise PairsError(f"{where}: no question among {_named(fields)}; {_WANTED}")
    if key is None and text is None and title is None:
        raise PairsError(f"{where}: nothing tells its passage among {_named(fields)}; {_WANTED}")
    answer = answer or ""  # the teacher writes it (`train.teacher_answers`)
    qa = QA(question, answer, _first(named, _FULL, where) or answer)
    return Pair(qa, where, key, text, title)


def _first(named: Mapping[str, Any], names: Iterable[str], where: str) -> str | None:
    """Returns the text of the first field that has one; None where none has."""
    for name in names:
        found = text_of(named.get(name), where, name)
        if found:
            return found
    return None


def text_of(value: Any, where: str, name: str) -> str | None:
    """Returns a field's text: a number as it is written, the first of a list (the usual aliases).

    Raises:
        PairsError: it is neither a text nor anything of which there is one.
    """
    if isinstance(value, Mapping) and "text" in value:  # SQuAD's answers
        value = value["text"]
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, Mapping) and "text" in value:
        value = value["text"]
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value}"
    if not isinstance(value, str):
        raise PairsError(f"{where}: {name!r} is {type(value).__name__}, not a text")
    return " ".join(value.split())


def _named(fields: Mapping[str, Any]) -> str:
    return f"the fields {', '.join(map(str, fields))}" if fields else "no field"
