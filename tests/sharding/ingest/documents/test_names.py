import pytest

from sharding.ingest.documents.names import (
    document_of_key,
    extension_of,
    passage_key,
    plain_name,
    title_of_name,
)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("battery-care.md", "battery care"),
        ("guides/01_Leave_policy.rst.gz", "Leave policy"),
        ("policies/index.html", "policies"),
        ("README.md", "README"),
        ("2024-11-03.txt", "2024 11 03"),
        ("Meeting 2024.11.03", "Meeting 2024.11.03"),
        ("a/007.md", "007"),
    ],
)
def test_a_name_stands_for_a_title(name: str, title: str) -> None:
    assert title_of_name(name) == title


def test_extensions() -> None:
    assert [extension_of(name) for name in ("a.MD.gz", "b/c.d/e", "x.03", "notes")] == [
        ".md",
        "",
        "",
        "",
    ]


def test_ids_name_the_document_and_tell_passages_apart() -> None:
    key = passage_key("a b#c.md", "What's new? 2.0", "T", "x")
    assert key.startswith("a b#c.md#what-s-new-2-0:") and len(key.rpartition(":")[2]) == 12
    assert document_of_key(key) == "a b#c.md"
    assert key == passage_key("a b#c.md", "What's new? 2.0", "T", "x")
    others = [
        passage_key("a.md", "", title, text) for title, text in (("T", "x"), ("Tx", ""), ("", "Tx"))
    ]
    assert len(set(others)) == 3
    assert [document_of_key(other) for other in others] == ["a.md"] * 3


@pytest.mark.parametrize("key", ["Q42", "doc#1", "a#b:3f9a2c7be0d", "#3f9a2c7be0d1", "removed:x"])
def test_ids_of_other_sources_name_no_document(key: str) -> None:
    assert document_of_key(key) is None


def test_names_are_composed_and_in_one_line() -> None:
    assert plain_name("e\u0301te\u0301\n.md") == "\u00e9t\u00e9 .md"
