"""Where a sentence ends, and where a full stop belongs to a word, a name or a unit."""

import pytest

from polyprag.augment.prose.sentences import sentences_in, without_stop


@pytest.mark.parametrize(
    "sentence",
    [
        "Take the no. 9 shuttle (Mon.–Fri. only).",  # noqa: RUF001
        "Staff may ask security (ext. 5555) to remove anyone.",
        "Present were Cllr. J. B. Okafor, Dr. Ann Lee and Capt. Elias Thornbury.",
        "George W. Bush met J. R. R. Tolkien of the U.S. Army.",
        "He has led it since 1 Feb. 2021 and since Fri. 4 Mar. at noon.",
        "It is read at 6 a.m., 2 p.m. and 10 p.m. on Mondays.",
        "Boats are let by Tarn Boats Ltd. (Reg. No. 4471902), 12 Quay Rd., Selwick.",
    ],
)
def test_an_abbreviation_ends_no_sentence(sentence: str) -> None:
    assert sentences_in(sentence) == [sentence]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Vaccines are kept at 8 °C.", "If the fridge is warmer, call."),
        ("The water is kept at 34.5 °C.", "It was paid for by a legacy."),
        ("It made room for car park B.", "Its weathervane can still be seen."),
        ("The pump needs 12 V.", "Connect it first."),
        ("They must stand in room C.", "In a fire, call the brigade."),
        ("The hours end at 9.30 p.m.", "Children may visit, too."),
        ("The next meeting is on 9 Dec.", "The clock has stopped."),
        ("He died in the U.S. Army.", "The news came late."),
    ],
)
def test_a_unit_or_a_letter_ends_one_before_what_begins_one(first: str, second: str) -> None:
    assert sentences_in(f"{first} {second}") == [first, second]


@pytest.mark.parametrize(
    ("text", "bare"),
    [("from 7 to 9 p.m.", "from 7 to 9 p.m."), ("Rowe Ltd.", "Rowe Ltd."), ("a bay.", "a bay")],
)
def test_the_stop_of_an_abbreviation_is_its_own(text: str, bare: str) -> None:
    assert without_stop(text) == bare
