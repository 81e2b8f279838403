"""The request names what is wanted; replies are checked, and asked for again when unusable."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.augment.prompt import (
    EMPTY,
    MalformedError,
    instruction,
    parse_reply,
    write_with_retries,
)
from polyprag.config import AugmentConfig
from sharding.corpus.passages import QA, Augmentation, Passage

PASSAGE = Passage(id=4, key="k", title="Ada", text="Ada was born in London.")
REPLY = {
    "rewrites": ["London is where Ada was born.", "second"],
    "qas": [
        {
            "question": "Where was  Ada born?",
            "answer": "London",
            "full_answer": "Ada was born in London.",
        },
        {"question": "Who was born in London?", "answer": "Ada"},
    ],
}


def test_request_has_the_passage_and_the_numbers() -> None:
    text = instruction(PASSAGE, num_rewrites=2, num_qas=5)
    assert "Ada was born in London." in text and "Title: Ada" in text
    assert "2 time(s)" in text and "5 different question(s)" in text
    assert "rewrite it" not in instruction(PASSAGE, num_rewrites=0, num_qas=5)


def test_reply_is_found_among_words_and_fences_and_cut_to_the_number() -> None:
    text = f'Sure {{"a": 1}}:\n```json\n{json.dumps(REPLY)}\n```'
    assert parse_reply(text, num_rewrites=1, num_qas=2) == Augmentation(
        rewrites=("London is where Ada was born.",),
        qas=(
            QA("Where was Ada born?", "London", "Ada was born in London."),
            QA("Who was born in London?", "Ada", "Ada"),
        ),
    )


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("no json", "no JSON object"),
        ("{" * 5000, "no JSON object"),
        (json.dumps(REPLY)[:-3], "'rewrites' must be a list|no JSON"),
        (json.dumps(REPLY | {"rewrites": []}), "'rewrites' must be a list of 1"),
        (json.dumps(REPLY | {"rewrites": [" "]}), "non-empty"),
        (json.dumps(REPLY | {"qas": REPLY["qas"][:1]}), "'qas' must be a list of 2"),
        (json.dumps(REPLY | {"qas": ["q", "a"]}), "must hold objects"),
        (json.dumps(REPLY | {"qas": [{"question": "q"}] * 2}), "'answer'"),
        (json.dumps(REPLY | {"rewrites": ["\ud800"]}), "valid Unicode"),
    ],
)
def test_unusable_replies_say_why(reply: str, problem: str) -> None:
    with pytest.raises(MalformedError, match=problem):
        parse_reply(reply, num_rewrites=1, num_qas=2)


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_reply(text, num_rewrites=1, num_qas=1)


def test_only_failed_passages_are_asked_for_again() -> None:
    good = json.dumps(REPLY)
    passages = [Passage(id=i, key=str(i), title="t", text="x") for i in range(3)]
    asked: list[tuple[int, list[int]]] = []

    def complete(some: Sequence[Passage], attempt: int) -> list[str]:
        asked.append((attempt, [passage.id for passage in some]))
        return [good if p.id == 0 or (p.id == 1 and attempt == 2) else "bad" for p in some]

    config = AugmentConfig(num_rewrites=1, num_qas=2, max_retries=3)
    written = write_with_retries(passages, complete, config)
    assert asked == [(0, [0, 1, 2]), (1, [1, 2]), (2, [1, 2]), (3, [2])]
    assert written[0] == written[1] == parse_reply(good, num_rewrites=1, num_qas=2)
    assert written[2] == EMPTY

    asked.clear()
    greedy = AugmentConfig(num_rewrites=1, num_qas=2, max_retries=3, temperature=0)
    write_with_retries(passages, complete, greedy)
    assert [attempt for attempt, _ in asked] == [0]


def test_nothing_wanted_asks_nothing() -> None:
    def complete(some: Sequence[Passage], attempt: int) -> list[str]:
        raise AssertionError("asked")

    config = AugmentConfig(num_rewrites=0, num_qas=0)
    assert write_with_retries([PASSAGE], complete, config) == [EMPTY]
