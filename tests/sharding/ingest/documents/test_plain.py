from sharding.ingest.documents.blocks import Block, Heading
from sharding.ingest.documents.plain import plain_items


def test_paragraphs_are_parted_by_blank_lines_and_wrapped_lines_are_joined() -> None:
    text = "Battery care\n\nCharge the battery before\nthe first use.\n\n- keep dry\n- keep cool\n"
    assert list(plain_items(text)) == [
        Heading(1, "Battery care", 1),
        Block("text", "Charge the battery before the first use.", 3),
        Block("item", "- keep dry", 6),
        Block("item", "- keep cool", 7),
    ]


def test_lines_in_capitals_and_underlined_ones_are_headings() -> None:
    text = "LAMPS\n\nThey glow.\n\n2. IN USE\n\nPress on.\n\nCare\n----\nKeep dry.\n\nTHE END"
    assert list(plain_items(text)) == [
        Heading(1, "LAMPS", 1),
        Block("text", "They glow.", 3),
        Heading(2, "2. IN USE", 5),
        Block("text", "Press on.", 7),
        Heading(2, "Care", 9),
        Block("text", "Keep dry.", 11),
        Block("text", "THE END", 13),
    ]


def test_line_breaks_stay_where_they_mean_something() -> None:
    address = "The workshop of the lamp makers\nHill Road 7\n  second floor"
    assert list(plain_items(address)) == [
        Block("text", "The workshop of the lamp makers Hill Road 7\nsecond floor", 1)
    ]
    verse = "One\nThe second line is longer"
    assert list(plain_items(verse)) == [Block("text", "One\nThe second line is longer", 1)]


def test_lines_that_nobody_wrapped_are_paragraphs() -> None:
    long = "word " * 50
    assert list(plain_items(f"{long}\n{long}")) == [
        Block("text", long.strip(), 1),
        Block("text", long.strip(), 2),
    ]


def test_a_first_line_that_is_a_sentence_or_all_there_is_is_no_title() -> None:
    assert list(plain_items("It rains.\n\nMore.")) == [
        Block("text", "It rains.", 1),
        Block("text", "More.", 3),
    ]
    assert list(plain_items("Alone")) == [Block("text", "Alone", 1)]
