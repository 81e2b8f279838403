import pytest

from sharding.ingest.documents.blocks import Heading
from sharding.ingest.documents.rst import RstError, rst_items

PAGE = """\
Guide
=====

:Author: Jane

Some *text*, ``code``, :ref:`the link <there>` and `web <http://x.example>`_.

.. contents::

.. note:: Be careful.

.. versionadded:: 1.2
   A new lamp.

.. toctree::

   a
   b

Lists
-----

- one
- two

  1. first

term
  said of it

.. csv-table:: Prices
   :header: "Plan","Price"

   Basic,9

::

  literal
"""


def test_a_page_becomes_headings_and_blocks() -> None:
    assert [
        (item.level, item.text) if isinstance(item, Heading) else (item.kind, item.text)
        for item in rst_items(PAGE)
        if item.text
    ] == [
        (1, "Guide"),
        ("text", "Author: Jane"),
        ("text", "Some text, code, the link and web."),
        ("text", "Note: Be careful."),
        ("text", "Added in version 1.2"),
        ("text", "A new lamp."),
        (2, "Lists"),
        ("item", "- one"),
        ("item", "- two"),
        ("item", "  1. first"),
        ("text", "term: said of it"),
        ("text", "Prices"),
        ("row", "Plan: Basic; Price: 9."),
        ("code", "literal"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        ".. include:: /etc/hostname",
        ".. literalinclude:: /etc/hostname",
        ".. raw:: html\n   :file: /etc/hostname",
        ".. csv-table::\n   :file: /etc/hostname",
        ".. csv-table::\n   :url: file:///etc/hostname",
        ".. raw:: html\n\n   <script>alert(1)</script>",
    ],
)
def test_no_other_file_comes_in_and_nothing_raw(text: str) -> None:
    found = " ".join(item.text for item in rst_items(f"Before.\n\n{text}\n\nAfter."))
    assert found.startswith("Before.") and found.endswith("After.")
    with open("/etc/hostname", encoding="utf-8") as file:
        assert file.read().strip() not in found
    assert "alert" not in found


def test_a_role_of_one_document_is_unknown_in_the_next() -> None:
    rst_items(".. role:: mine\n\n:mine:`x`")
    from docutils.parsers.rst import roles

    assert "mine" not in roles._roles


def test_what_cannot_be_read_within_bounds_says_so() -> None:
    for text, message in (
        ("|a|\n\n.. |a| replace:: |b||b|\n.. |b| replace:: lol", "docutils ends with KeyError"),
        ("x" * 20_001, "line 1 has more than 20,000 characters"),
        ("word " * 3000 + "\n" + ("word " * 3000 + "\n") * 9, "without a blank line"),
        ("- " * 5000, "nested too deeply"),
    ):
        with pytest.raises(RstError, match=message):
            rst_items(text)


def test_substitutions_in_one_another_do_not_grow_without_bound() -> None:
    bomb = [f".. |a{n}| replace:: " + f"|a{n + 1}|" * 10 for n in range(12)]
    found = rst_items("\n".join([*bomb, ".. |a12| replace:: lol", "", "|a0|"]))
    assert sum(len(item.text) for item in found) < 1_000_000


def test_a_table_that_is_malformed_keeps_its_words() -> None:
    found = rst_items("====  ====\na     b\n====\n\nafter")
    assert "a     b" in "\n".join(item.text for item in found)
