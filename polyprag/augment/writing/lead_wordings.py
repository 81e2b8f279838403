"""Which wordings of a lead fact fit it: a year has no day, and a description is no expansion."""

import re
from collections.abc import Iterator

from polyprag.augment.fact_patterns import LEAD_VERB
from polyprag.augment.facts import Fact

_IS_YEAR = re.compile(r"\d{3,4}")
_IS_DAY = re.compile(r"\b\d{1,2}\b")
_OPENED = re.compile(r"\b(opened|built|launched|formed)\b(?: [a-z]+){0,2} (?:in|on) ")
_BEGAN = {
    "opened": ("did", "open"),
    "built": ("was", "built"),
    "launched": ("was", "launched"),
    "formed": ("was", "formed"),
}
_IS_LIFE = re.compile(r"\(\s*(?:born\b|(?:c\. ?)?\d{3,4}\s*[–-]|\d{1,2} [A-Z]\w+ \d{4})")  # noqa: RUF001
_STANDS_FOR = re.compile(r"\b(?:stands? for|short for|abbreviation|acronym)\b", re.I)


def wordings_for(wording: str, fact: Fact, *, subject: str, text: str) -> Iterator[str]:
    """Yields a wording as it fits a fact; nothing where it can't.

    Args:
        wording: with `{x}` for the subject.
        fact: what it asks for.
        subject: what `{x}` is.
        text: the passage's.
    """
    value = fact.value
    if fact.kind in ("born_date", "died_date") and _IS_YEAR.fullmatch(value):
        if "birthday" in wording:
            return
        wording = wording.replace("On what date", "In which year").replace("date of", "year of")
    elif fact.kind == "founded" and "year" in wording:
        opened = _OPENED.search(text[: text.find(value)][-80:])
        if opened:
            auxiliary, verb = _BEGAN[opened[1]]
            wording = wording.replace("did {x} begin", f"{auxiliary} {{x}} {verb}")
        if _IS_DAY.search(value):
            wording = wording.replace("In which year", "On what date")
    elif fact.kind == "description":
        lead = LEAD_VERB.search(text)
        if "stand for" in wording and not _is_expansion(subject, value, text):
            return
        if "kind of thing" in wording and _IS_LIFE.search(text[:200]):
            return
        if wording == "What was {x}?" and lead and re.match(r"(?:is|are)\b", lead.group(), re.I):
            return
    yield wording


def _is_expansion(subject: str, value: str, text: str) -> bool:
    """Tells whether a name's letters are the initials of what it is said to be, or so it says."""
    letters = re.sub(r"[^A-Z]", "", subject)
    words = re.findall(r"[A-Za-z]\w*", value)
    initials = "".join(word[0].upper() for word in words if word not in ("of", "and", "for", "the"))
    is_acronym = subject.isupper() and len(letters) > 1
    return is_acronym and (initials.startswith(letters) or bool(_STANDS_FOR.search(text[:200])))
