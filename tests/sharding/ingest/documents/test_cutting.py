"""Documents cut into passages: by hand, and for any document what must hold."""

import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sharding.ingest.chunking import count_words
from sharding.ingest.documents.blocks import Block, Heading, document_of
from sharding.ingest.documents.cutting import Cut, cut_document, title_of_path
from sharding.ingest.documents.markdown import markdown_items
from sharding.ingest.documents.sentences import split_sentences


def words(number: int, word: str = "w") -> str:
    return " ".join(f"{word}{n}" for n in range(number))


def cuts(markdown: str, *, num_words: int, name: str = "a.md") -> list[Cut]:
    title, items = markdown_items(markdown)
    return list(cut_document(document_of(items, title=title, name_title=name), num_words=num_words))


def test_a_short_document_is_one_passage() -> None:
    text = "# Lamp\n\nIt is red.\n\n## Care\n\nKeep it dry.\n\n## How long does it last?\n\nA year."
    assert cuts(text, num_words=100) == [
        Cut(
            "",
            "Lamp",
            "It is red.\nCare:\nKeep it dry.\nHow long does it last?\nA year.",
            3,
        )
    ]


def test_sections_have_their_heading_path_for_a_title() -> None:
    text = (
        f"# Handbook\n\n{words(9, 'i')}\n\n## Leave\n\n{words(8, 'l')}\n\n### Parental leave\n\n"
        f"{words(9, 'p')}\n\n## Pay\n\n{words(6, 'y')}"
    )
    assert [(cut.title, cut.text, cut.line) for cut in cuts(text, num_words=10)] == [
        ("Handbook", words(9, "i"), 3),
        ("Handbook > Leave", words(8, "l"), 7),
        ("Handbook > Leave > Parental leave", words(9, "p"), 11),
        ("Handbook > Pay", words(6, "y"), 15),
    ]


def test_titles() -> None:
    def title_of(markdown: str) -> str:
        return cuts(markdown, num_words=100, name="from the name")[0].title

    assert title_of("text") == "from the name"
    assert title_of("# One\n\ntext\n\n# Two\n\ntext") == "from the name"
    assert title_of("---\ntitle: Front\n---\n# One\n\ntext") == "Front"
    assert title_of("---\ntitle: Same\n---\n# same\n\ntext") == "Same"
    assert title_of("badge\n\n# One\n\ntext") == "One"
    assert title_of_path("A", ("a", "B", "B")) == "A > B"
    long = title_of_path("Title", tuple(f"{n} {'x' * 60}" for n in range(6)))
    assert long == f"Title > … > 3 {'x' * 60} > 4 {'x' * 60} > 5 {'x' * 60}"


def test_long_sections_are_cut_at_paragraphs_then_sentences_then_words() -> None:
    paragraphs = "\n\n".join(words(50, letter) for letter in "abcd")
    assert [cut.text for cut in cuts(paragraphs, num_words=100)] == [
        f"{words(50, 'a')}\n{words(50, 'b')}",
        f"{words(50, 'c')}\n{words(50, 'd')}",
    ]
    sentences = " ".join(f"{words(20, letter)}." for letter in "ABCDEFGHIJ")
    assert [count_words(cut.text) for cut in cuts(sentences, num_words=100)] == [100, 100]
    assert [count_words(cut.text) for cut in cuts(words(300), num_words=100)] == [100] * 3


def test_a_line_that_introduces_a_list_stays_with_it() -> None:
    text = f"{words(52, 'a')}\n\n{words(46, 'b')}:\n\n- {words(30, 'c')}\n- {words(50, 'd')}"
    first, second = cuts(text, num_words=100)
    assert first.text == words(52, "a")
    assert second.text.startswith("b0 ") and second.text.endswith(" d49")


def test_a_question_stays_with_its_answer() -> None:
    text = f"{words(52, 'a')}.\n\nWhat does it cost?\n\n{words(45, 'b')}.\n\n{words(50, 'c')}."
    assert [cut.text.split()[0] for cut in cuts(text, num_words=100)] == ["a0", "What"]


def test_every_row_of_a_table_is_cut_with_its_headers() -> None:
    rows = "\n".join(f"| plan {n} | {n} EUR |" for n in range(100))
    found = cuts(f"| Plan | Price |\n| --- | --- |\n{rows}", num_words=60)
    lines = [line for cut in found for line in cut.text.split("\n")]
    assert lines == [f"Plan: plan {n}; Price: {n} EUR." for n in range(100)]
    assert all(45 <= count_words(cut.text) <= 75 for cut in found)


def test_a_few_tiny_sections_share_a_passage() -> None:
    tiny = "\n\n".join(f"## Q{n}?\n\nanswer {n}" for n in range(6))
    found = cuts(f"# FAQ\n\n{tiny}\n\n## Rest\n\n{words(60)}", num_words=50)
    assert [(cut.title, cut.text) for cut in found[:2]] == [
        ("FAQ", "Q0?\nanswer 0\nQ1?\nanswer 1\nQ2?\nanswer 2\nQ3?\nanswer 3"),
        ("FAQ", "Q4?\nanswer 4\nQ5?\nanswer 5"),
    ]
    assert found[2].title == "FAQ > Rest"


def test_a_heading_with_nothing_under_it_is_text() -> None:
    found = cuts(f"# A\n\n## Closed on Mondays\n\n## B\n\n{words(100)}", num_words=60)
    assert ("A", "Closed on Mondays") in [(cut.title, cut.text) for cut in found]


def test_sentences() -> None:
    text = 'Dr. Lee, e.g. in "Rome." Then? Yes! It cost 3.5 EUR. approx. half. Ask J. Doe… Now 5.'
    assert split_sentences(text) == [
        'Dr. Lee, e.g. in "Rome."',
        "Then?",
        "Yes!",
        "It cost 3.5 EUR. approx. half.",
        "Ask J. Doe…",
        "Now 5.",
    ]
    assert split_sentences("今天下雨。好。明天") == ["今天下雨。", "好。", "明天"]


WORD = st.text("abcdefgäß今天.!?", min_size=1, max_size=8)
TEXT = st.lists(WORD, min_size=1, max_size=60).map(" ".join)
ITEM = st.one_of(
    st.builds(
        Heading, st.integers(1, 4), st.lists(WORD, min_size=1, max_size=3).map(" ".join), st.just(1)
    ),
    st.builds(Block, st.sampled_from(["text", "item", "row", "code"]), TEXT, st.just(1)),
)


def counted(text: str) -> Counter[str]:
    return Counter(re.sub(r"[\s:>]", "", text))


@given(st.lists(ITEM, max_size=25), st.integers(1, 40))
def test_all_words_are_in_passages_and_none_is_too_long(
    items: list[Heading | Block], num_words: int
) -> None:
    document = document_of(items, name_title="name")
    found = list(cut_document(document, num_words=num_words))
    all_texts = sum((counted(cut.text) for cut in found), Counter())
    all_titles = sum((counted(cut.title) for cut in found), Counter())
    blocks = sum((counted(item.text) for item in items if isinstance(item, Block)), Counter())
    headings = sum((counted(item.text) for item in items if isinstance(item, Heading)), Counter())
    # Blocks are in the texts, each once; headings there or in titles; and nothing else is.
    assert blocks <= all_texts <= blocks + headings
    if found:  # a title alone makes no passage
        assert headings <= all_titles + all_texts
    assert all(cut.title.strip() and cut.text.strip() for cut in found)
    whole = num_words + 4 * 3  # what is joined: four tiny sections, each with its heading
    assert all(count_words(cut.text) <= max(1.5 * num_words, whole) for cut in found)


@given(st.lists(ITEM, min_size=1, max_size=25), st.data())
def test_an_edit_of_a_block_changes_only_passages_of_its_section(
    items: list[Heading | Block], data: st.DataObject
) -> None:
    """The edit keeps the number of words, so that no section becomes tiny or stops to be."""
    at = data.draw(st.integers(0, len(items) - 1))
    block = items[at]
    if isinstance(block, Heading):
        return
    edited = list(items)
    edited[at] = Block(block.kind, re.sub(r"[a-z]", "z", block.text), block.line)
    before = list(cut_document(document_of(items, name_title="name"), num_words=20))
    after = list(cut_document(document_of(edited, name_title="name"), num_words=20))
    changed = [old for old, new in zip(before, after, strict=True) if old != new]
    assert len({cut.title for cut in changed}) <= 1
