"""A passage, what was written about it, and their JSON form inside the shards."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated

import msgspec

from sharding.errors import CorpusError

_REMOVED = "removed:"
_REMOVED_DIGITS = 24  # hex digits of the key's SHA-256


# None of these can be part of a reference cycle, so that the garbage collector needn't look at
# them: with hundreds of thousands of records alive it would look often, and for long.
class Passage(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A text with an id: dense from 0 in the corpus; `key` is the source's own id."""

    id: int
    key: str
    title: str
    text: str

    @property
    def is_removed(self) -> bool:
        """Whether only the id is left of it; a source's passage always has a text."""
        return not self.text and self.key.startswith(_REMOVED)


class QA(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A question about a passage, its short answer, and the answer as a whole sentence."""

    question: str
    answer: str
    full_answer: str


class Augmentation(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What was written about a passage: other wordings, and question-answer pairs."""

    rewrites: tuple[str, ...]
    qas: tuple[QA, ...]


class Record(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What a shard keeps for one passage; no augmentation before `augment` has run."""

    passage: Passage
    augmentation: Augmentation | None = None


def removed_key(key: str) -> str:
    """Returns what stands for a removed passage's key: by it the key is recognised, not read."""
    return _REMOVED + sha256(key.encode()).hexdigest()[:_REMOVED_DIGITS]


def tombstone(passage: Passage) -> Record:
    """Returns what stays of a passage that is removed, so that the ids of the others stay dense."""
    if passage.is_removed:
        return Record(passage)
    return Record(Passage(passage.id, removed_key(passage.key), "", ""))


class _Document(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A record as the JSON object has it."""

    id: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    key: str
    title: str
    text: str
    augmentation: Augmentation | None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Document).decode


def to_json(record: Record) -> bytes:
    """Returns a record as one JSON object in UTF-8, the same bytes for equal records.

    Raises:
        CorpusError: a text can't be UTF-8 (a lone surrogate); names the passage.
    """
    passage = record.passage
    try:
        return _encode(
            _Document(passage.id, passage.key, passage.title, passage.text, record.augmentation)
        )
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"passage {passage.id} (key {passage.key!r}) or its augmentation holds "
            f"a character that isn't valid Unicode ({error.reason}); remove it"
        ) from error


def from_json(data: bytes | memoryview, *, where: str) -> Record:
    """Returns the record in a shard member's bytes, every field checked.

    Args:
        data: what `to_json` returned.
        where: the shard and member, for the error.

    Raises:
        CorpusError: the bytes aren't a record; names `where` and the field.
    """
    try:
        document = _decode(data)
    except msgspec.ValidationError as error:
        raise CorpusError(f"{where}: {error}; prepare the corpus again") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorpusError(f"{where}: not valid JSON ({error}); prepare the corpus again") from error
    passage = Passage(document.id, document.key, document.title, document.text)
    return Record(passage, document.augmentation)


def parse_records(documents: Sequence[memoryview], *, first_id: int) -> list[Record]:
    """Returns the records of consecutive members, without a word on what is wrong where one isn't.

    Raises:
        ValueError: one of them isn't a record of the id that is its turn; `from_json` and a look
            at the ids, one after the other, tell which.
    """
    records: list[Record] = []
    add = records.append
    try:
        for expected, data in enumerate(documents, start=first_id):
            document = _decode(data)
            if document.id != expected:
                raise ValueError(f"holds passage {document.id} in the place of {expected}")
            passage = Passage(expected, document.key, document.title, document.text)
            add(Record(passage, document.augmentation))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return records
