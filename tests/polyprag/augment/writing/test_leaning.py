"""A question names what "it", "they" and "her" mean, or isn't asked."""

import pytest

from polyprag.augment.writing.gaps import gap_questions
from sharding.corpus.passages import Passage


def _first(text: str, title: str) -> dict[str, str]:
    return {f.answer: f.questions[0] for f in gap_questions(Passage(0, "k", title, text))}


@pytest.mark.parametrize(
    ("text", "title", "answer", "question"),
    [
        (
            "The solar panels face south. They yield 151,000 kWh a year on average.",
            "Site > Energy",
            "151,000 kWh",
            "Energy in Site: The solar panels yield how many kWh a year on average?",
        ),
        (
            "Sister Moira Lund leads the ward. She returned from Malawi in 2009 for good.",
            "Unit > Staff",
            "2009",
            "Sister Moira Lund returned from Malawi in which year for good?",
        ),
        (
            "The pool is warm. Its lamps are cleaned within 12 days at most.",
            "Physio > Pool",
            "12 days",
            "Pool in Physio: The pool’s lamps are cleaned within how many days at most?",  # noqa: RUF001
        ),
        (
            "Nobody swims alone. It was decided to close the pool on 3 May 2021 for good.",
            "Physio > Rules",
            "3 May 2021",
            "Rules in Physio: It was decided to close the pool on which date for good?",
        ),
        (
            "Velo is a bicycle. It weighs no more than 17 kg with a saddle.",
            "Velo",
            "17 kg",
            "Velo: It weighs no more than how many kilograms with a saddle?",
        ),
    ],
)
def test_a_pronoun_is_put_right(text: str, title: str, answer: str, question: str) -> None:
    assert _first(text, title)[answer] == question


@pytest.mark.parametrize(
    "text",
    [
        "Two generators start at once. When the mains fail, all is dark. Their tanks hold 9,000 l.",
        "A guest may bring a cake. He gets 12 euros for it at the door.",
        "In the end, 143 of them gave 18,212 hours in total.",
        "According to her, the soup keeps for 3 days.",
        "This was found by 14 people in the mill.",
    ],
)
def test_what_leans_on_nothing_that_is_named_is_not_asked(text: str) -> None:
    last = text.split(". ")[-1]
    found = gap_questions(Passage(0, "k", "Site > Power", text))
    assert not [fact for fact in found if fact.said.startswith(last[:12])]


def test_here_and_you_are_said_to_be_of_the_heading() -> None:
    asked = _first("About 2,350 babies are born here by C-section each year.", "Site > Unit")
    assert asked["2,350 babies"].startswith("Unit in Site: About how many babies are born here")
    assert _first("You should bring your birth plan along.", "Site > Unit") == {}
