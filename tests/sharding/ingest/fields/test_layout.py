"""Which fields are what, by the list in docs/data.md."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sharding.ingest.fields import names
from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.fields.layout import Layout, recognise
from sharding.ingest.fields.values import joined, several_in, without_title_line

PAGE = Path(__file__).parents[4] / "docs" / "data.md"


def recognised(rows: list[dict[str, Any]]) -> Any:
    """Returns what is recognised, but for what later rows may have."""
    found = recognise(rows, FieldMap())
    return replace(found, may_have_title=False) if isinstance(found, Layout) else found


@pytest.mark.parametrize(
    ("row", "layout"),
    [
        ({"id": 1, "title": "t", "text": "x"}, Layout()),
        ({"text": "x", "contents": "y", "_id": "a", "pid": 1}, Layout("_id", None, "text")),
        ({"Doc-ID": "a", "Page Title": "t", "BODY": "x"}, Layout("Doc-ID", "Page Title", "BODY")),
        ({"TEXT": "x", "text": "y"}, Layout(None, None, "text")),
        # A field of that name that holds no text isn't the text, where another does.
        ({"document": {"html": "h"}, "description": "x"}, Layout(None, None, "description")),
        ({"text": None, "body": "x"}, Layout(None, None, "body")),
        ({"id": None, "text": "x"}, Layout(None, None, "text")),
        ({"id": 1.5, "text": 7}, Layout("id", None, "text")),  # bad rows, as each will be told
        ({"text": ["p", "q"]}, Layout(None, None, "text")),
        # A question's id isn't its passage's.
        ({"id": "q", "context": "x", "question": "?"}, Layout(None, None, "context")),
        ({"id": "p", "context": "x"}, Layout("id", None, "context")),
        ({"id": "q", "context": [["t", ["s"]]]}, Layout(None, None, "context", True)),
        ({"id": 1, "contents": "A\nB b."}, Layout("id", None, "contents", is_titled=True)),
        ({"id": 1, "contents": "A\nB", "title": ""}, Layout("id", "title", "contents")),
        ({"id": 1, "contents": "A sentence.\nB"}, Layout("id", None, "contents")),
        ({"id": 1, "text": "A\nB b."}, Layout("id", None, "text")),
    ],
)
def test_fields_are_recognised(row: dict[str, Any], layout: Layout) -> None:
    assert recognised([row]) == layout


def test_a_field_of_few_rows_is_not_the_text_where_another_is_of_most() -> None:
    rows = [{"body": "x"}] * 3 + [{"body": "x", "text": "y"}]
    assert recognised(rows) == Layout(None, None, "body")
    # Nor does one that is always there come before the better known one of most rows.
    rows = [{"description": "x", "text": "y"}] * 3 + [{"description": "x", "text": None}]
    assert recognised(rows) == Layout(None, None, "text")
    assert recognised([{"a": 1}] * 9 + [{"a": 1, "body": "x"}]) == Layout(None, None, "body")


def test_what_is_given_is_not_looked_for() -> None:
    row = {"id": 1, "_id": 2, "title": "t", "text": "x", "body": "y", "contents": "A\nB"}
    assert recognise([row], FieldMap(text="body")) == Layout(text="body")
    assert recognise([row], FieldMap("_id", None)) == Layout("_id", None)
    assert recognise([row], FieldMap(title=None, text="contents")) == Layout("id", None, "contents")


def test_the_page_has_the_names_in_their_order() -> None:
    page = PAGE.read_text()
    for field, known in (("id", names.IDS), ("title", names.TITLES), ("text", names.TEXTS)):
        (line,) = re.findall(rf"^\| {field} \| (.*) \|$", page, flags=re.M)
        assert tuple(re.findall("`([a-z_]+)`", line)) == known


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (["A b.\n", "", " C d.\n"], "text", "A b.\nC d."),
        (["A b.", " C d."], "sentences", "A b. C d."),
        (["A b.", "C d."], "Abstract", "A b. C d."),
        ([["A b.", "C."], ["D."]], "paragraphs", "A b. C.\nD."),
        ([["A."], []], "text", "A."),
        ("as it is ", "text", "as it is "),
        ([1, "a"], "text", [1, "a"]),
    ],
)
def test_lists_are_joined(value: Any, name: str, text: Any) -> None:
    assert joined(value, name) == text


@pytest.mark.parametrize(
    ("value", "passages"),
    [
        ([["T", ["a.", " b."]]], [("T", "a. b.")]),
        ({"title": ["T", "U"], "sentences": [["a."], ["b.", "c."]]}, [("T", "a."), ("U", "b. c.")]),
        ([{"idx": 0, "title": "T", "paragraph_text": "a"}], [("T", "a")]),
        ([{"context": "a"}, {"context": "b"}], [(None, "a"), (None, "b")]),
        ({"is_selected": [0, 1], "passage_text": ["a", "b"]}, [(None, "a"), (None, "b")]),
        ('[["T", ["a.", "b."]]]', [("T", "a. b.")]),
        ("[[not json", None),
        ("a text", None),
        ([], None),
        ({}, None),
        ({"title": ["T"], "sentences": []}, None),
        ([["T", "a."]], None),
        ([{"no": "text"}], None),
        ("[[" * 100_000, None),
    ],
)
def test_fields_with_several_passages(value: Any, passages: Any) -> None:
    assert several_in(value) == passages


def test_a_title_line_loses_its_quotes_and_a_lone_line_is_the_text() -> None:
    assert without_title_line('"A "b" c"\r\nText.\nMore.') == ('A "b" c', "Text.\nMore.")
    assert without_title_line("Only a line\n \n") == ("", "Only a line\n \n")


@pytest.mark.parametrize(
    ("row", "fields", "may"),
    [
        ({"text": "x"}, FieldMap(), True),
        ({"text": "x"}, FieldMap(title=None), False),  # --map title=
        ({"text": "x", "headline": None}, FieldMap(), False),  # which is taken
        ({"contents": "A\nB b."}, FieldMap(), False),  # the first line is one
    ],
)
def test_later_rows_may_have_a_title(row: dict[str, Any], fields: FieldMap, may: bool) -> None:
    found = recognise([row], fields)
    assert isinstance(found, Layout) and found.may_have_title == may
    assert found.title == ("headline" if "headline" in row else None)
