import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharding.errors import CorpusError
from sharding.passages import QA, Augmentation, Passage, Record, from_json, to_json

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
        ({"id": 0}, "text"),
        (fields(extra=1), "extra"),
        (fields(id=True), "id"),
        (fields(id=-1), "id"),
        (fields(id="0"), "id"),
        (fields(text=None), "text"),
        (fields(augmentation=[]), "augmentation"),
        (fields(augmentation={"rewrites": []}), "qas"),
        (fields(augmentation={"rewrites": "r", "qas": []}), "rewrites"),
        (fields(augmentation={"rewrites": [1], "qas": []}), "rewrites"),
        (fields(augmentation={"rewrites": [], "qas": {}}), "qas"),
        (fields(augmentation={"rewrites": [], "qas": [{"question": "q"}]}), "full_answer"),
        (fields(augmentation={"rewrites": [], "qas": [QA_FIELDS | {"answer": 1}]}), "answer"),
    ],
)
def test_what_is_no_record_is_refused_by_member_and_field(value: Any, named: str) -> None:
    with pytest.raises(CorpusError, match=rf"^shard, member 3.*{named}"):
        from_json(json.dumps(value).encode(), where="shard, member 3")


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 100_000, b"9" * 10_000])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(CorpusError, match=r"^here: not valid JSON"):
        from_json(data, where="here")


def test_a_lone_surrogate_names_the_passage() -> None:
    with pytest.raises(CorpusError, match="passage 7"):
        to_json(Record(Passage(7, "k", "t", "\ud800")))
