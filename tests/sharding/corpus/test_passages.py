import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sharding.corpus.passages import (
    QA,
    Augmentation,
    Passage,
    Record,
    from_json,
    parse_records,
    to_json,
)
from sharding.errors import CorpusError

texts = st.text(st.characters(exclude_categories=["Cs"]))
qas = st.builds(QA, texts, texts, texts)
augmentations = st.builds(
    Augmentation, st.lists(texts).map(tuple), st.lists(qas, max_size=3).map(tuple)
)
records = st.builds(
    Record,
    st.builds(Passage, st.integers(0, 2**62), texts, texts, texts),
    st.none() | augmentations,
)


@given(records)
def test_records_survive_json(record: Record) -> None:
    assert from_json(to_json(record), where="here") == record


def fields(**changes: Any) -> dict[str, Any]:
    return {"id": 0, "key": "k", "title": "t", "text": "x", "augmentation": None} | changes


QA_FIELDS = {"question": "q", "answer": "a", "full_answer": "f"}


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ([], "object"),
        ({"id": 0}, "key"),
        (fields(extra=1), "extra"),
        (fields(id=True), "id"),
        (fields(id=-1), "id"),
        (fields(id="0"), "id"),
        (fields(id=2**64), "id"),
        (fields(id=1.0), "id"),
        (fields(text=None), "text"),
        (fields(augmentation=[]), "augmentation"),
        (fields(augmentation={"rewrites": []}), "qas"),
        (fields(augmentation={"rewrites": "r", "qas": []}), "rewrites"),
        (fields(augmentation={"rewrites": [1], "qas": []}), "rewrites"),
        (fields(augmentation={"rewrites": [], "qas": {}}), "qas"),
        (fields(augmentation={"rewrites": [], "qas": [{"question": "q"}]}), r"answer.*qas\[0\]"),
        (fields(augmentation={"rewrites": [], "qas": [QA_FIELDS | {"answer": 1}]}), "answer"),
    ],
)
def test_what_is_no_record_is_refused_by_member_and_field(value: Any, named: str) -> None:
    with pytest.raises(CorpusError, match=rf"^shard, member 3.*{named}"):
        from_json(json.dumps(value).encode(), where="shard, member 3")


DEEP = b'{"id":0,"key":"k","title":"t","text":"x","augmentation":' + b"[" * 100_000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"9" * 10_000,
        DEEP,
        to_json(Record(Passage(0, "k", "t", "x"))) + b"x",
        to_json(Record(Passage(0, "k", "t", "x"))).replace(b'"x"', b'"\\ud800"'),
        to_json(Record(Passage(0, "k", "t", "x"))).replace(b'"x"', b'"\xed\xa0\x80"'),
    ],
)
def test_what_is_no_json_or_holds_other_things_is_refused(data: bytes) -> None:
    with pytest.raises(CorpusError, match=r"^here: "):
        from_json(data, where="here")


@given(records)
def test_a_records_json_is_what_pythons_json_writes(record: Record) -> None:
    value = structs.asdict(record.passage) | {
        "augmentation": record.augmentation
        and {
            "rewrites": record.augmentation.rewrites,
            "qas": [structs.asdict(qa) for qa in record.augmentation.qas],
        }
    }
    expected = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert to_json(record) == expected.encode()


@given(st.lists(records, max_size=4), st.integers(0, 2**40))
def test_documents_of_consecutive_ids_are_parsed_together(
    found: list[Record], first_id: int
) -> None:
    numbered = [
        structs.replace(record, passage=structs.replace(record.passage, id=first_id + i))
        for i, record in enumerate(found)
    ]
    documents = [memoryview(to_json(record)) for record in numbered]
    assert parse_records(documents, first_id=first_id) == numbered
    if documents:
        with pytest.raises(ValueError, match=f"holds passage {first_id}"):
            parse_records(documents, first_id=first_id + 1)


def test_a_lone_surrogate_names_the_passage() -> None:
    with pytest.raises(CorpusError, match="passage 7"):
        to_json(Record(Passage(7, "k", "t", "\ud800")))
