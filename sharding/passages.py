"""A passage, what was written about it, and their JSON form inside the shards."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from sharding.errors import CorpusError


@dataclass(frozen=True, slots=True)
class Passage:
    """A text with an id: dense from 0 in the corpus; `key` is the source's own id."""

    id: int
    key: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class QA:
    """A question about a passage, its short answer, and the answer as a whole sentence."""

    question: str
    answer: str
    full_answer: str


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What was written about a passage: other wordings, and question-answer pairs."""

    rewrites: tuple[str, ...]
    qas: tuple[QA, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """What a shard keeps for one passage; no augmentation before `augment` has run."""

    passage: Passage
    augmentation: Augmentation | None = None


def to_json(record: Record) -> bytes:
    """A record as one JSON object in UTF-8, the same bytes for equal records.

    Raises:
        CorpusError: A text can't be UTF-8 (a lone surrogate); names the passage.
    """
    fields: dict[str, Any] = asdict(record.passage)
    fields["augmentation"] = None if record.augmentation is None else asdict(record.augmentation)
    try:
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"passage {record.passage.id} (key {record.passage.key!r}) or its augmentation holds "
            f"a character that isn't valid Unicode ({error.reason}); remove it"
        ) from error


def from_json(data: bytes, *, where: str) -> Record:
    """The record in a shard member's bytes, every field checked.

    Args:
        data: What `to_json` returned.
        where: The shard and member, for the error.

    Raises:
        CorpusError: The bytes aren't a record; names `where` and the field.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{where}: not valid JSON ({error}); prepare the corpus again") from error
    _check_keys(fields, {"id", "key", "title", "text", "augmentation"}, where)
    if type(fields["id"]) is not int or fields["id"] < 0:
        raise _wrong(where, "id", "an integer of 0 or more")
    passage = Passage(
        fields["id"],
        _string(fields, "key", where),
        _string(fields, "title", where),
        _string(fields, "text", where),
    )
    return Record(passage, _augmentation(fields["augmentation"], where))


def _augmentation(fields: Any, where: str) -> Augmentation | None:
    if fields is None:
        return None
    where = f"{where}, augmentation"
    _check_keys(fields, {"rewrites", "qas"}, where)
    rewrites, qas = fields["rewrites"], fields["qas"]
    if not isinstance(rewrites, list) or not all(isinstance(text, str) for text in rewrites):
        raise _wrong(where, "rewrites", "a list of strings")
    if not isinstance(qas, list):
        raise _wrong(where, "qas", "a list")
    return Augmentation(tuple(rewrites), tuple(_qa(qa, f"{where}, qas") for qa in qas))


def _qa(fields: Any, where: str) -> QA:
    _check_keys(fields, {"question", "answer", "full_answer"}, where)
    return QA(*(_string(fields, name, where) for name in ("question", "answer", "full_answer")))


def _check_keys(fields: Any, expected: set[str], where: str) -> None:
    if not isinstance(fields, dict):
        raise CorpusError(f"{where}: must be a JSON object, not {type(fields).__name__}")
    if fields.keys() != expected:
        odd = ", ".join(sorted(str(name) for name in fields.keys() ^ expected))
        raise CorpusError(f"{where}: missing or unknown fields: {odd}; prepare the corpus again")


def _string(fields: dict[str, Any], name: str, where: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise _wrong(where, name, "a string")
    return value


def _wrong(where: str, name: str, allowed: str) -> CorpusError:
    return CorpusError(f"{where}: {name} must be {allowed}; prepare the corpus again")
