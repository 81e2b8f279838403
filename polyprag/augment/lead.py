"""Whether a passage opens as an encyclopaedia's page does: with whom or what its title names."""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re

from polyprag.augment.facts import subject_name, tidy
from polyprag.augment.prose.topic import PATH
from sharding.corpus.passages import Passage

_OPENING = 200  # characters
_MOST_WORDS = 7  # of a name
_LIFE = re.compile(
    r".{0,150}\((?:[^()]|\([^()]*\))*\b(?:born\b|died\b|\d{3,4}\s*[–-]|\d{1,2} [A-Z]\w+ \d{4})"
)
_PRONOUN = re.compile(r"(?:It|He|She) ")
_CUT_OFF = re.compile(r"(?:is|was|are|were) ")  # the name itself stood in another markup


def has_lead(passage: Passage) -> bool:
    """Tells whether the lead facts of a passage are about what its title names.

    A title such as `Handbook > Leave` names a place in a document, and "When was Leave
    founded?" asks nonsense.
    """
    name = subject_name(passage.title).casefold()
    if PATH in passage.title or ":" in name or not name or len(name.split()) > _MOST_WORDS:
        return False
    opening = tidy(passage.text)[:_OPENING]
    if _PRONOUN.match(opening) or _CUT_OFF.match(opening) or _LIFE.match(opening):
        return True
    if _says_more(subject_name(passage.title), opening):
        return False
    words = [re.escape(word) for word in re.findall(r"\w+", name) if len(word) > 2]
    start = opening.casefold()[:60]
    begins = rf"\W*(?:the |an? )?(?:[\w.]+ ){{0,3}}\W*(?:{'|'.join(words)})"
    return name in start or bool(words and re.match(begins, start))


def _says_more(title: str, opening: str) -> bool:
    """Tells whether a title is of a text about something: "Three days in Port Ardel".

    It has a name, and a common word before or after that which the opening doesn't have.
    """
    common = re.findall(r"(?<![\w-])[a-z]{4,}(?![\w-])", title)
    is_named = re.search(r"[A-Z]", title[1:]) is not None
    return is_named and any(word not in opening.casefold() for word in common)
