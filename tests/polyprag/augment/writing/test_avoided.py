"""Evaluation questions are read from every kind of file, and a file without any is refused."""

import json
from pathlib import Path

import pytest

from polyprag.augment.writing.avoided import Avoided, avoided_in
from polyprag.errors import ConfigError

ASKED = ("Where was Ada born?", "Who left?")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.jsonl", "\n".join(json.dumps({"id": q, "question": q, "answers": []}) for q in ASKED)),
        ("q.json", json.dumps([{"question": q} for q in ASKED])),
        ("q.json", json.dumps({"version": 1, "data": [{"query": q} for q in ASKED]})),
        ("q.json", json.dumps(list(ASKED))),
        ("q.csv", "id,question\n1,Where was Ada born?\n2,Who left?\n"),
        ("q.tsv", "id\tquestion\n1\tWhere was Ada born?\n2\tWho left?\n"),
        ("q.txt", "\n\n".join(ASKED)),
    ],
)
def test_questions_are_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    for path in (tmp_path / name, tmp_path):
        assert avoided_in(str(path)) == Avoided.of(ASKED)
    assert avoided_in(str(tmp_path)).has("where was ADA born")
    assert not avoided_in(str(tmp_path)).has("Where was Bo born?")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no question"),
        ('{"a": 1}', "holds no question"),
        ('{"a": 1}\n{"b', ":2: not JSON"),
    ],
)
def test_a_file_without_questions_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "q.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=words):
        avoided_in(str(tmp_path / "q.jsonl"))
    with pytest.raises(ConfigError, match="can't be read"):
        avoided_in(str(tmp_path / "missing.jsonl"))


def test_nothing_is_avoided_without_a_file() -> None:
    assert not avoided_in(None).has("Where was Ada born?")
