"""Question files: what is kept, and errors that name file and line."""

import gzip
import json
from pathlib import Path

import pytest

from polyprag.errors import PolypragError
from polyprag.evaluation.questions import QuestionsError, read_questions

GOOD = {"id": "q1", "question": "Where?", "answers": ["Paris"]}


def _file(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "questions.jsonl"
    encoded = [
        line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode()
        for line in lines
    ]
    path.write_bytes(b"\n".join(encoded) + b"\n")
    return path


def test_the_docs_show_a_file_that_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    section = page.partition("## Question files")[2]
    shown = section.partition("```json\n")[2].partition("```")[0]
    first, second = read_questions(_file(tmp_path, shown.strip().encode()))
    assert (first.answers, first.passages) == (("37 hours", "37 h"), ())
    assert (second.gold[0].title, dict(second.extra)) == ("Shops", {"kind": "name"})


def test_all_fields_are_kept(tmp_path: Path) -> None:
    passages = [
        {"title": "Émile", "text": "Born in Paris.", "is_supporting": True},
        {"title": "Other", "text": "Not it.", "is_supporting": False},
    ]
    path = _file(
        tmp_path, GOOD | {"passages": passages, "property": "place of birth"}, b"", GOOD | {"id": 7}
    )
    first, second = read_questions(path)
    assert (first.id, first.question, first.answers) == ("q1", "Where?", ("Paris",))
    assert [passage.title for passage in first.gold] == ["Émile"]
    assert first.extra == {"property": "place of birth"}
    assert second.id == "7" and second.passages == ()


def test_a_question_that_nothing_answers_has_no_answers(tmp_path: Path) -> None:
    impossible = {"question": "Why?", "is_impossible": True}
    path = _file(tmp_path, impossible | {"id": "a", "answers": []}, impossible | {"id": "b"})
    assert [(each.id, each.answers, each.extra) for each in read_questions(path)] == [
        ("a", (), {}),
        ("b", (), {}),
    ]


def test_limit_reads_no_further(tmp_path: Path) -> None:
    path = _file(tmp_path, GOOD, GOOD | {"id": "q2"}, b"broken")
    assert [question.id for question in read_questions(path, limit=2)] == ["q1", "q2"]
    with pytest.raises(QuestionsError, match="--limit 0"):
        read_questions(path, limit=0)


def test_gzip_is_read_and_a_cut_off_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl.gz"
    data = gzip.compress(b"\n".join(json.dumps(GOOD | {"id": str(i)}).encode() for i in range(99)))
    path.write_bytes(data)
    assert len(read_questions(path)) == 99
    path.write_bytes(data[:-40])
    with pytest.raises(QuestionsError, match=r"questions\.jsonl\.gz: can't be read"):
        read_questions(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{not json", "not a JSON object"),
        (b"[1]", "must be a JSON object"),
        (b'{"id": "\xff"}', "not valid UTF-8"),
        (b'{"id": "q2", "question": "\\ud800", "answers": ["x"]}', "not valid UTF-8"),
        (b"[" * 100_000, "not a JSON object"),
        ({"question": "Where?", "answers": ["x"]}, "'id' is missing"),
        (GOOD | {"id": "q2", "question": "  "}, "'question' is"),
        (GOOD | {"id": "q2", "answers": []}, "'answers' must be.*say is_impossible=true"),
        (GOOD | {"id": "q2", "is_impossible": True}, "'answers' must be empty"),
        (GOOD | {"id": "q2", "is_impossible": 1}, "'is_impossible' must be"),
        (GOOD | {"id": "q2", "answers": "Paris"}, "'answers' must be"),
        (GOOD | {"id": "q2", "answers": [""]}, "'answers' must be"),
        (GOOD | {"id": "q2", "passages": {}}, "'passages' must be"),
        (GOOD | {"id": "q2", "passages": ["text"]}, "each passage"),
        (GOOD | {"id": "q2", "passages": [{"title": "t"}]}, "'text' is missing"),
        (GOOD | {"id": "q2", "passages": [{"text": "t", "is_supporting": 1}]}, "is_supporting"),
        (GOOD, "already that of line 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: object, message: str) -> None:
    path = _file(tmp_path, GOOD, line)
    with pytest.raises(QuestionsError, match=message) as raised:
        read_questions(path)
    assert f"{path}:2" in str(raised.value)


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PolypragError, match=r"none\.jsonl"):
        read_questions(tmp_path / "none.jsonl")
    with pytest.raises(QuestionsError, match="holds no question"):
        read_questions(_file(tmp_path, b"", b"  "))
