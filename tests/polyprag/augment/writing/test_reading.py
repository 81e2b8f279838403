"""Replies are read leniently: whatever stands around the items, and whatever type a value has."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.augment.writing.keep import Proposed
from polyprag.augment.writing.reading import (
    proposed_items,
    proposed_question,
    proposed_text,
)

TWO = [
    {"question": "Where was Ada born?", "answer": "London", "full_answer": "In London."},
    {"question": "Who was born in London?", "answer": "Ada"},
]
READ = [
    Proposed("Where was Ada born?", "London", "In London."),
    Proposed("Who was born in London?", "Ada"),
]


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps({"qas": TWO}),
        json.dumps({"questions": TWO}),
        json.dumps(TWO),
        f'Sure {{"a": 1}}:\n```json\n{json.dumps({"qas": TWO}, indent=1)}\n```\nDone.',
        "\n".join(map(json.dumps, TWO)),
        f"<think>{json.dumps({'qas': [{'question': 'No?', 'answer': 'x'}]})}</think>"
        + json.dumps({"qas": TWO}),
        json.dumps({"qas": [{"Question": q["question"], "A": q["answer"], "full": q.get(
            "full_answer", "")} for q in TWO]}),
        json.dumps({"qas": TWO})[:-2] + ', {"question": "Wh',  # cut off
    ],
)  # fmt: skip
def test_items_are_found_in_every_wrapping(reply: str) -> None:
    assert proposed_items(reply) == READ


def test_one_bad_item_leaves_the_others_and_values_become_text() -> None:
    items = [
        {"question": "When?", "answer": 1903},
        {"question": "What all?", "answer": ["salt", "tea", 2]},
        {"question": "Share?", "answer": 2.5, "full_answer": None},
        {"question": "Open?", "answer": True},
        {"question": None, "answer": "x"},
        {"answer": "x"},
        "just text",
        None,
        {"question": "Where?", "answer": {"city": "Oslo"}},
    ]
    assert [
        (each.question, each.answer) for each in proposed_items(json.dumps({"qas": items}))
    ] == [
        ("When?", "1903"),
        ("What all?", "salt, tea, 2"),
        ("Share?", "2.5"),
        ("Open?", "yes"),
        ("?", "x"),
        ("?", "x"),
        ("just text", ""),
        ("?", ""),
        ("Where?", "Oslo"),
    ]


def test_lines_will_do_where_there_is_no_json() -> None:
    reply = "**Question 1:** Where was Ada born?\n**Answer:** London\n\nQ: Who left?\nA: Bo"
    assert [(each.question, each.answer.strip("* ")) for each in proposed_items(reply)] == [
        ("Where was Ada born?", "London"),
        ("Who left?", "Bo"),
    ]


@pytest.mark.parametrize("reply", ["", "no", "{" * 5000, '{"qas": []}', '{"error": "down"}', "[1]"])
def test_no_items_are_none(reply: str) -> None:
    assert proposed_items(reply) == []


@pytest.mark.parametrize(
    ("reply", "question"),
    [
        (" was Ada born?\nText: more", "was Ada born?"),
        ('Sure! Here is one question:\n\n"Where was Ada born?"', "Where was Ada born?"),
        ("1. Where was Ada born? (London)", "Where was Ada born?"),
        ("Question: Where was Ada born? Or Bo?", "Where was Ada born?"),
        ("<think>Who?</think>\n**Where was Ada born?**", "Where was Ada born?"),
        ("When was Ada C. Byrd born?", "When was Ada C. Byrd born?"),
        ("Here you are. When was Ada C. Byrd born?", "When was Ada C. Byrd born?"),
        ("Ada was born in London.", ""),
        ("<think>Where was Ada born?", ""),
    ],
)
def test_the_first_question_is_read(reply: str, question: str) -> None:
    assert proposed_question(reply) == question


@pytest.mark.parametrize(
    "reply",
    [
        "Ada was born in London.",
        "Here is a rewritten version of the passage:\n\nAda was born in London.",
        '"Ada was born in London."',
        "```\nAda was born in London.\n```",
        "Sure! Here's the rewritten passage: Ada was born\nin London.",
        "- Ada was born in London.",
    ],
)
def test_a_rewrite_is_read_without_its_announcement(reply: str) -> None:
    assert proposed_text(reply) == "Ada was born in London."


@given(st.text())
def test_any_reply_can_be_read(reply: str) -> None:
    proposed_items(reply)
    assert "\n" not in proposed_question(reply)
    assert "\n" not in proposed_text(reply)
