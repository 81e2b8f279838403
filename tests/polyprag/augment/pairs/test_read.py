"""Files of pairs as people have them: recognised by what they hold, or refused at the line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from polyprag.augment.pairs.pair import Pair, PairsError, Unusable
from polyprag.augment.pairs.read import read_pairs

PRAG = [
    {
        "test_id": 0,
        "question": "Who directed The Kite?",
        "answer": ["Carla Monti"],
        "passages": ["The Kite is a film.", "Unrelated."],
        "augment": [
            {
                "pid": 0,
                "passage": "The Kite is a film.",
                "llama3.2-1b-instruct_rewrite": "A film: The Kite.",
                "llama3.2-1b-instruct_qa": [
                    {"question": "What is The Kite?", "answer": "a film", "full_answer": "It is."},
                    {"question": "When?", "answer": 1961, "full_answer": "In 1961."},
                ],
                "qwen2.5-1.5b-instruct_qa": [
                    {"question": "Who?", "answer": ["Ann", "Bo"], "full_answer": "Ann and Bo."}
                ],
                "broken_qa": "[no json",
            },
            {"pid": 1, "passage": "Unrelated.", "llama3.2-1b-instruct_qa": []},
        ],
    }
]
SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Oslo",
            "paragraphs": [
                {
                    "context": "Oslo is the capital of Norway.",
                    "qas": [
                        {
                            "id": "56be",
                            "question": "What is Oslo?",
                            "answers": [{"text": "the capital", "answer_start": 8}],
                            "is_impossible": False,
                        },
                        {"id": "57", "question": "Why?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}


def read(tmp_path: Path, content: Any, name: str = "pairs") -> list[Pair]:
    path = tmp_path / name
    data = content if isinstance(content, bytes | str) else json.dumps(content)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(read_pairs(str(path)))


def told(pair: Pair) -> tuple[str, str, str | None, str | None, str | None]:
    return pair.qa.question, pair.qa.answer, pair.key, pair.text, pair.title


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"key": "k1", "question": "Q?", "answer": "A"}\n', ("Q?", "A", "k1", None, None)),
        ('{"id": 7, "query": "Q?", "answers": ["A", "B"]}\n', ("Q?", "A", "7", None, None)),
        (
            '{"id": "q9", "question": "Q?", "answer": 1961, "context": " The\\n text "}\n',
            ("Q?", "1961", None, "The text", None),
        ),
        (
            {"Question": "Q?", "Answer": True, "Title": "T"},
            ("Q?", "yes", None, None, "T"),
        ),
        ([{"q": "Q?", "a": "A", "passage_id": "p"}], ("Q?", "A", "p", None, None)),
        ({"pairs": [{"q": "Q?", "a": "A", "docid": "p"}]}, ("Q?", "A", "p", None, None)),
        ('key,question,answer\nk1,"Q, or?",A\n', ("Q, or?", "A", "k1", None, None)),
        ("\ufeffkey;question;answer\nk1;Q?;A\n", ("Q?", "A", "k1", None, None)),
        ("title\tquestion\tanswer\nT\tQ?\tA\n", ("Q?", "A", None, None, "T")),
        (
            '{"key": "k1", "question": "Q?"}',
            ("Q?", "", "k1", None, None),  # the teacher's to answer
        ),
        (
            gzip.compress(b'{"key": "k1", "question": "Q?", "answer": "A"}', mtime=0),
            ("Q?", "A", "k1", None, None),
        ),
        (SQUAD, ("What is Oslo?", "the capital", None, "Oslo is the capital of Norway.", None)),
    ],
)
def test_pairs_are_read_whatever_they_lie_in(
    tmp_path: Path, content: Any, expected: tuple[str, ...]
) -> None:
    assert [told(pair) for pair in read(tmp_path, content)] == [expected]


def test_full_answers_are_read_and_are_the_answer_where_there_is_none(tmp_path: Path) -> None:
    (pair,) = read(tmp_path, {"key": "k", "question": "Q?", "answer": "A", "full_answer": "It: A."})
    assert pair.qa.full_answer == "It: A."
    (pair,) = read(tmp_path, {"key": "k", "question": "Q?", "answer": "A"})
    assert pair.qa.full_answer == "A"


def test_prag_s_files_give_the_pairs_of_every_model_and_not_the_evaluation_s_question(
    tmp_path: Path,
) -> None:
    pairs = read(tmp_path, PRAG)
    assert [told(pair) for pair in pairs] == [
        ("What is The Kite?", "a film", None, "The Kite is a film.", None),
        ("When?", "1961", None, "The Kite is a film.", None),
        ("Who?", "Ann, Bo", None, "The Kite is a film.", None),
    ]
    assert pairs[0].qa.full_answer == "It is."
    assert pairs[1].where.endswith("item 0, augment[0].llama3.2-1b-instruct_qa[1]")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"key": "k", "question": "Q?", "answer": "A"}\n{"key": "k", "qn": "Q?"}\n',
         r"pairs:2: no question among the fields key, qn; a pair has a question \(question, query"),
        ('{"question": "Q?", "answer": "A"}', "pairs:1: nothing tells its passage among the "
         "fields question, answer"),
        ('{"key": "k", "question": "", "answer": "A"}', "pairs:1: no question among"),
        ('{"key": "k", "question": {"x": 1}, "answer": "A"}', "pairs:1: 'question' is dict"),
        ("key,answer\nk1,A\n", "pairs:2: no question among the fields key, answer"),
        ("key,question,answer\nk1,Q?,A,B\n", "pairs:2: it has more fields than the header"),
        ('[{"key": "k",\n "question": }]', "pairs:2: not valid JSON"),
        ('{"key": "k", "question": "Q?", "answer": "A"}\n{"key": \n', "pairs:2: not valid JSON"),
        ("[1]", "pairs: item 0: 1 isn't an object"),
        ("", "pairs: it is empty"),
        (b"key,question,answer\nk,Q\xff,A\n", "pairs:2: not UTF-8"),
        (b"\x1f\x8bnothing", "pairs: damaged gzip"),
    ],
)  # fmt: skip
def test_what_can_t_be_used_is_named_with_its_place(
    tmp_path: Path, content: Any, said: str
) -> None:
    with pytest.raises(PairsError, match=said):
        read(tmp_path, content)


def test_a_bad_item_of_a_models_file_takes_no_other_with_it(tmp_path: Path) -> None:
    good = {"question": "Who?", "answer": "Ann", "full_answer": "Ann."}
    asked = [good, good | {"answer": None}, good | {"answer": {"x": 1}}, "no object", good]
    augment = [{"pid": 0, "passage": "P.", "m_qa": asked}, {"pid": 1, "m_qa": [good]}]
    path = tmp_path / "data_aug.json"
    path.write_text(json.dumps([{"question": "q", "augment": augment}]))
    found = list(read_pairs(str(path)))
    assert [item.qa.answer for item in found if isinstance(item, Pair)] == ["Ann", "Ann"]
    left_out = [item for item in found if isinstance(item, Unusable)]
    assert [item.where.rpartition("augment")[2] for item in left_out] == [
        *("[0].m_qa[1]", "[0].m_qa[2]", "[0].m_qa[3]", "[1]")
    ]
    assert left_out[0].why == "no question or no answer"


@pytest.mark.parametrize(
    ("data", "first"),
    [
        ('\n \r\n{"question": "Q", "answer": "a", "key": "1"}\n', 3),
        ('\n{"question": "Q", "answer": "a", "key": "1"}\n\n' * 2, 2),
        ("\r\n  \nquestion,answer,key\nQ,a,1\n", 4),
    ],
)
def test_blank_lines_before_the_first_are_nothing(tmp_path: Path, data: str, first: int) -> None:
    path = tmp_path / "pairs"
    path.write_bytes(data.encode())
    found = [pair for pair in read_pairs(str(path)) if isinstance(pair, Pair)]
    assert found[0].where == f"{path}:{first}" and found[0].key == "1"
