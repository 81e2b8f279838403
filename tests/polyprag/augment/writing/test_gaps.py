"""Questions with question words in the place of a span."""

import pytest

from polyprag.augment.writing.gaps import gap_questions
from sharding.corpus.passages import Passage


def _asked(text: str, title: str = "Manual > Battery life") -> dict[str, list[str]]:
    facts = gap_questions(Passage(0, "key", title, text))
    return {fact.answer: list(fact.questions) for fact in facts}


def test_a_number_is_asked_for_by_its_unit_in_three_wordings() -> None:
    assert _asked("The Velo runs for 37 hours on a full battery.")["37 hours"] == [
        "The Velo runs for how many hours on a full battery?",
        "Battery life: The Velo runs for how long on a full battery?",
        "How many hours Velo runs full battery?",
    ]


@pytest.mark.parametrize(
    ("text", "answer", "question"),
    [
        (
            "The hall was opened on 3 May 2021 by the mayor.",
            "3 May 2021",
            "The hall was opened on which date by the mayor?",
        ),
        (
            "The last meter was built in March 2018 by the old team.",
            "March 2018",
            "The last meter was built in which month by the old team?",
        ),
        (
            "The mill was closed in the 1950s by its owner.",
            "1950s",
            "The mill was closed in which d",
        ),
        ("The firm was founded in 1987 by two men.", "1987", "The firm was founded in which year"),
        ("The canteen opens at 11:30 on weekdays.", "11:30", "The canteen opens at what time"),
        ("A license costs €120 for each seat.", "€120", "A license costs how much for each seat?"),
        (
            "The lab is kept at 21 °C all year round.",
            "21 °C",
            "The lab is kept at what tem",
        ),
        ("Courses are approved by Ada Lund alone.", "Ada Lund", "Courses are approved by who"),
        ("The archive lies in Talverra these days.", "Talverra", "The archive lies where these"),
        ("He lives near the North Sea these days.", "North Sea", "He lives near what these"),
        (
            "She owns Harlow County Museum since then.",
            "Harlow County Museum",
            "She owns what since",
        ),
        (
            "The office is closed because the river rises in spring.",
            "the river rises in spring",
            "The office is closed why?",
        ),
        (
            "Visitors must sign the book at the gate.",
            "sign the book at the gate",
            "Visitors must do what?",
        ),
    ],
)
def test_what_stands_there_decides_the_question_words(
    text: str, answer: str, question: str
) -> None:
    assert _asked(text, title="Site rules")[answer][0].startswith(f"Site rules: {question}")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Store the liquid at 10 to 25 °C in the cupboard.", "10"),
        ("Order the spare pack as number SO-2190 from us.", "2190"),
        ("He swam to the 8th place of the final that year.", "8"),
        ("The offer of Brandt & Ilves is the cheapest by far.", "Ilves"),
        ("Wipe the screen of the Lumet 5 with a damp cloth.", "Lumet"),
        ("On a full battery the Lumet 5 runs all day long.", "5 runs"),
        ("Whoever comes after 12:45 gets pancakes in its place.", "45 gets"),
        ("2. Warm the milk with the bay leaves in it.", "2"),
        ("Room 12 opens when the bell has rung twice.", "12 opens"),
        (
            "Wait until the probe is off by as much as 0.3, then stop.",
            "the probe is off by as much as 0",
        ),
        ("Every medical practitioner (British English) works there.", "British English"),
        ("The hill was named after a word for “water” of the north.", "a word for “water"),
        ("It had 992 people at the 2020 census of the town.", "2020 census"),
    ],
)
def test_a_part_of_what_is_meant_is_no_answer(text: str, wrong: str) -> None:
    assert wrong not in _asked(text)


def test_a_span_is_narrowed_to_what_is_asked_for() -> None:
    assert "Florian Udeze" in _asked("Tell Florian Udeze if the stairs are hard for you.")
    assert "34 people" in _asked("At the moment 34 people work in the laboratory there.")
    assert "Ada Lund" in _asked("The tag is removed by Ada Lund's people in the end.")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Nearly 40 people work at the mill in winter.", "40 people"),
        ("Add 50 ml of water to the tank each day.", "50 ml"),
        ("The fee is EUR 25 a month for the whole house.", "25"),
    ],
)
def test_a_word_with_a_capital_need_not_be_a_name(text: str, answer: str) -> None:
    assert any(answer in found for found in _asked(text))


def test_a_clause_goes_on_after_a_decimal_point() -> None:
    asked = _asked("The first reading is used until the probe is off by 0.3, and no more.")
    assert asked["the probe is off by 0.3"][0] == (
        "Battery life in Manual: The first reading is used until what, and no more?"
    )


def test_the_marks_around_a_span_go_with_it() -> None:
    assert _asked("- Swallowed: drink two glasses of water, and lie down.")["two glasses"][0] == (
        "Battery life in Manual: Swallowed: drink how many glasses of water, and lie down?"
    )
    assert _asked('The Velo prints "low power" above the bar.')["low power"][0] == (
        "The Velo prints what above the bar?"
    )


def test_a_span_is_not_found_inside_of_a_word() -> None:
    asked = _asked("A ticket of the kind A5 days is good for 5 days at every gate.")
    assert asked["5 days"][0] == (
        "A ticket of the kind A5 days is good for how many days at every gate?"
    )


def test_every_sentence_comes_before_any_sentence_comes_again() -> None:
    facts = gap_questions(
        Passage(
            0,
            "key",
            "Shop",
            "The shop has 12 shelves and opened on 3 May 2021. It closes at 18:30 on Fridays.",
        )
    )
    assert [fact.answer for fact in facts[:2]] == ["3 May 2021", "18:30"]
    assert "12 shelves" in {fact.answer for fact in facts[2:]}


def test_answers_are_of_the_text_and_questions_dont_say_them() -> None:
    text = (
        "Membership costs €140 a year, or 20 percent less for students. "
        "Boats must be washed because the river carries silt. | a | b |"
    )
    facts = gap_questions(Passage(0, "key", "Club", text))
    assert gap_questions(Passage(0, "key", "", text)) == []  # nothing says whose
    assert facts
    for fact in facts:
        assert fact.answer in text
        assert all(fact.answer not in question for question in fact.questions)
        assert all(question.endswith("?") for question in fact.questions)


def test_a_question_of_the_text_has_no_gap() -> None:
    assert _asked("How many of the 12 meters did you sell?") == {}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Aspirin (300 mg) is given unless the patient is allergic.", "the patient is allergic"),
        ("Old pills are destroyed even if the pack is sealed.", "the pack is sealed"),
        ("The pool is closed except when a nurse is there.", "a nurse is there"),
        ("The pumps run as if the mains were up again.", "the mains were up again"),
        ("The 47 bus stops outside the main entrance of the mill.", "47"),
        ("Partners may sleep in rooms 2, 4 and 6 of the mill.", "2"),
        ("Wear goggles (EN 166) when you enter the mill.", "166"),
        ("The hall was full at the 2020 census of the town.", "2020"),
        ("Bring a photo ID and a pen to the gate.", "ID"),
        ("Ask your GP about the walk in the park.", "GP"),
        ("Refer yourself to physio@mill.example within a week.", "physio@mill"),
        ("Present: Ann Lee (chair), Bob Ray, Mia Lund.", "Bob Ray"),
        ("The shuttle runs Mon.–Fri. to the mill.", "Fri"),  # noqa: RUF001
        ("The lamp glows so that acidity, oxygen and salt can be read.", "acidity"),
        ("Enid Marsh (88) has been at the shop for long.", "88"),
        ("The motto is “Vigilate et ridete” in the mill.", "Vigilate"),
    ],
)
def test_what_would_be_asked_wrongly_is_not_asked(text: str, wrong: str) -> None:
    assert wrong not in _asked(text)


@pytest.mark.parametrize(
    ("text", "answer", "question"),
    [
        ("The hours end at 9.30 p.m. on Sundays.", "9.30 p.m.", "The hours end at what time on"),
        ("The next meeting is on 9 Dec. in the hall.", "9 Dec.", "The next meeting is on which"),
        (
            "The tea is held on Tuesday 14 October 2025 in the hall.",
            "Tuesday 14 October 2025",
            "The tea is held on which date in the hall?",
        ),
        ("The tea is ready in 90 min. on average.", "90 min.", "The tea is ready in how many min"),
        (
            "Write to Dr. Priya Raman within a week.",
            "Dr. Priya Raman",
            "Write to who within a week?",
        ),
        ("The boats are let by Tarn Boats Ltd. in spring.", "Tarn Boats Ltd.", "The boats are let"),
        (
            "The home was planned by the architect Bea Hollis in May.",
            "Bea Hollis",
            "The home was planned by which architect in May?",
        ),
        ("The chips come from the Larne estate by lorry.", "Larne", "The chips come from which es"),
        ("Call ext. 5555 in the mill at night.", "5555", "Call which extension in the mill"),
        ("Ring the night number 0700 441 92 at once.", "0700 441 92", "Ring the night which num"),
        ("Children under 12 may not swim there.", "12", "Children under what age may not swim"),
        ("In 2024 the mill burned chips of wood.", "2024", "The mill burned chips of wood in whi"),
        (
            "If the pump beeps twice, the line is blocked.",
            "the pump beeps twice",
            "The line is blocked when?",
        ),
        (
            "Pets are allowed only if they were named in time.",
            "they were named in time",
            "Pets are allowed under what condition?",
        ),
        (
            "The key is kept by the nurse; the door is locked at 21:30 by her.",
            "21:30",
            "The door is locked at what time by her?",
        ),
        (
            "The pool was paid for by a legacy of £640,000 from a baker.",
            "£640,000",
            "The pool was paid for by a legacy of how much from a baker?",
        ),
    ],
)
def test_spans_are_whole_and_asked_for_as_people_do(text: str, answer: str, question: str) -> None:
    assert _asked(text, title="Site rules")[answer][0].startswith(f"Site rules: {question}")
