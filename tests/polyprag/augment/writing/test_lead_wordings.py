"""A lead fact is asked for in those wordings that fit it."""

import pytest

from polyprag.augment.facts import Fact
from polyprag.augment.phrasings import PHRASINGS
from polyprag.augment.writing.lead_wordings import wordings_for


def _asked(kind: str, value: str, text: str, subject: str = "Velar") -> set[str]:
    fact = Fact(kind, value)
    return {
        wording.format(x=subject)
        for each in PHRASINGS[kind].questions
        for wording in wordings_for(each, fact, subject=subject, text=text)
    }


def test_a_year_has_no_date_and_a_date_is_no_year() -> None:
    born = _asked("born_date", "1924", "Velar (1924 - 2016) was a clockmaker.")
    assert born == {
        "When was Velar born?",
        "In which year was Velar born?",
        "What is the year of birth of Velar?",
    }
    assert "On what date was Velar born?" in _asked("born_date", "8 May 1951", "Velar was born.")


@pytest.mark.parametrize(
    ("verb", "value", "question"),
    [
        ("opened", "3 June 1987", "On what date did Velar open?"),
        ("built", "1851", "In which year was Velar built?"),
        ("founded", "1868", "In which year did Velar begin?"),
    ],
)
def test_what_was_opened_or_built_did_not_begin(verb: str, value: str, question: str) -> None:
    assert question in _asked("founded", value, f"Velar is a mill that was {verb} in {value}.")


def test_only_an_acronym_stands_for_what_it_is() -> None:
    name = "What does the name {} stand for?"
    assert name.format("Velar") not in _asked("description", "scanner", "Velar is a scanner.")
    text = "The WHO is a World Health Organization."
    asked = _asked("description", "World Health Organization", text, subject="WHO")
    assert name.format("WHO") in asked


def test_what_is_was_not() -> None:
    assert "What was Velar?" not in _asked("description", "scanner", "Velar is a scanner.")
    assert "What was Velar?" in _asked("description", "scanner", "Velar was a scanner.")


def test_somebody_is_no_kind_of_thing() -> None:
    text = "Velar (1924 - 2016) was an English clockmaker."
    assert "What kind of thing is Velar?" not in _asked("description", "English clockmaker", text)
