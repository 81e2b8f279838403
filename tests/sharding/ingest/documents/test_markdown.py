from sharding.ingest.documents.blocks import Block, Heading
from sharding.ingest.documents.markdown import markdown_items

PAGE = """\
---
title: "Battery care"
tags: [lamps]
---
# Caring for *batteries*

Intro with `code`, a [link](http://x.example), [write](mailto:hr@x.example) and ![a lamp](a.png).
It goes on.

- one
- two

  still two
  1. first
     ```
     x = 1
     ```
  2. second
- three

> [!NOTE]
> Keep it dry.

| Plan | Price |
| --- | --- |
| Basic | 9 EUR |
| Pro | |

Setext
------
text\\_with escapes &amp; [a reference][r]

<p align="center"><b>Made</b> by hand</p>

    indented

[r]: http://y.example
"""


def test_a_page_becomes_headings_and_blocks() -> None:
    title, items = markdown_items(PAGE)
    assert title == "Battery care"
    assert items == [
        Heading(1, "Caring for batteries", 5),
        Block(
            "text",
            "Intro with code, a link, write (hr@x.example) and a lamp. It goes on.",
            7,
        ),
        Block("item", "- one", 10),
        Block("item", "- two\nstill two", 11),
        Block("item", "  1. first", 14),
        Block("code", "x = 1", 15),
        Block("item", "  2. second", 18),
        Block("item", "- three", 19),
        Block("text", "Note: Keep it dry.", 21),
        Block("row", "Plan: Basic; Price: 9 EUR.", 26),
        Block("row", "Plan: Pro.", 27),
        Heading(2, "Setext", 29),
        Block("text", "text_with escapes & a reference", 31),
        Block("text", "Made by hand", 33),
        Block("code", "indented", 35),
    ]


def test_front_matter_may_be_toml_or_no_front_matter_at_all() -> None:
    assert markdown_items('+++\ntitle = "T"\n+++\nText')[0] == "T"
    assert markdown_items("---\nTitle: 7\n---\nText") == ("7", [Block("text", "Text", 4)])
    for text in ("---\na line\n---\n", "---\n[: no yaml\n---\n", "---\nnever closed\n"):
        title, items = markdown_items(text)
        assert title == ""
        assert text.split("\n")[1] in items[0].text


def test_a_table_of_a_header_alone_keeps_its_words() -> None:
    assert markdown_items("|only|head|\n|-|-|")[1] == [Block("row", "only; head.", 1)]


def test_a_heading_in_a_quote_or_list_is_text() -> None:
    assert markdown_items("> # Quoted\n\n- # In a list")[1] == [
        Block("text", "Quoted", 1),
        Block("item", "- In a list", 3),
    ]


def test_a_paragraph_that_the_parser_would_take_hours_for_keeps_its_marks() -> None:
    (block,) = markdown_items("[" * 200_000)[1]
    assert block.text == "[" * 200_000
