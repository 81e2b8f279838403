"""Whether a question says what it is about: whoever asks it hasn't the passage before him."""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from polyprag.augment.fact_patterns import NAME
from polyprag.augment.facts import subject_name
from polyprag.retrieval.analysis import Analyzer
from sharding.corpus.passages import Passage

HEADING = " > "  # between the headings that a chunk of a document has for a title
_LEAD = re.compile(
    rf"^(?:The |the )?({NAME})(?:,? \([^()]*\))?,? (?:is|was|are|were|has|have|had|makes|offers"
    r"|provides|runs|sells|lives|works)\b"
)
_NO_SUBJECT = frozenset(
    "He She It They We I You This That These Those There Here What Who When Where Why How If In"  # noqa: SIM905
    " On At For From By All Each Every Some No Not Please Note Our Your Their His Her Its"
    " Whoever Whatever Everyone Everybody Everything Anyone Anybody Nobody Nothing Somebody"
    " Someone One".split()
)
_PRONOUN = re.compile(
    r"\b(?:he|she|it|they|him|her|his|hers|their|theirs|them|its|this|that one|these|those)\b", re.I
)
# "When did he move to Rome?": a name that comes only then isn't his.
_WHO_IS_MEANT = re.compile(
    r"\b(?:is|was|are|were|did|does|do|has|had|have|can|could|will|would|should|may|must) "
    r"(?:he|she|it|they)\b",
    re.I,
)
# "the company" names nothing to somebody who hasn't the passage.
_ABOUT_THE_TEXT = re.compile(
    r"\b(?:passage|text|excerpt|paragraph|article|document|snippet|sentence|above|below|following"
    r"|the author|the speaker|the narrator|given (?:context|information)|mentioned|the context"
    r"|the answer|(?:this|a|the) question)\b",
    re.I,
)
_ACCORDING = re.compile(
    r"^(?:according to|based on|in|as (?:stated|described|mentioned) in) (?:the|this) "
    r"(?:given |above )?(?:passage|text|excerpt|paragraph|article|document|context|information)"
    r"(?: above)?,? *"
    r"|,? *(?:according to|as (?:stated|mentioned|described) in|mentioned in|in) (?:the|this) "
    r"(?:given |above )?(?:passage|text|excerpt|paragraph|article|document|context)(?=\?|$)",
    re.I,
)
# A slot that a template or a model left empty: "When was  founded?", "When was founded?", "Who is?"
_EMPTY_SLOT = re.compile(
    r"\S  +(?-i:[a-z])"
    r"|\b(?:is|was|are|were|did|does|do|has|have|had|of|by|in|for|to|from) +[?.]$"
    r"|^(?:who|what|where|when|why|how|which) (?:is|was|are|were|did|does|do)\?$"
    r"|^(?:when|where|why|how|in (?:which|what) \w+|on (?:which|what) \w+) "
    r"(?:is|was|are|were|did|does|do|has|had) (?:\w+ed|born|built|made|held|die|come)\b[^,]*$"
    r"|\b(?:is|of) (?:the )?['’]s\b| '?s\b (?=\w+\?)",
    re.I,
)
# Words of a question that say what is asked for, not of what.
_ASKING = (
    "year date time day month name named called call kind type sort place country city town person"
    " people many much number amount long old first main one thing reason purpose role part do does"
    " did done happen happened make made take took use used give given get born found founded know"
    " known located locate become became mean describe description start begin end company film"
    " book song album team club village man woman organisation organization group population"
    " what which who whom whose when where why how many can could may might must shall should will"
    " would from under over up down out off about after before during since until between against"
    " than so very also only own same other another any some all both each few more most its his"
    " her their our your my you we he she him them us there here has have had having been being"
    " were did does doing am just per within without among through along into onto upon"
    " someone something work works worked play played say said tell state true false"
)
_FEWEST_WORDS = 2  # of the passage's own, where a question names nothing


@lru_cache(maxsize=1)
def words_of() -> Analyzer:
    """Returns what makes words comparable: lower-cased, stemmed, without stop words."""
    return Analyzer.of_language("english")


@lru_cache(maxsize=1)
def _asking_terms() -> frozenset[str]:
    return frozenset(words_of().terms(_ASKING))


def own_terms(question: str) -> set[str]:
    """Returns the terms of a question that say what it is about, not what it asks for."""
    return set(words_of().terms(question)) - _asking_terms()


def headings_of(title: str) -> list[str]:
    """Returns a title's headings, the outermost first: "Handbook > Leave" has two."""
    return [part for part in (each.strip() for each in title.split(HEADING)) if _says(part)]


def subject_of(passage: Passage) -> str | None:
    """Returns what a passage is about, as a question can name it; None where nothing says it.

    That is its title without a disambiguation; for a chunk of a document, or a passage without a
    title, what its first sentence begins with ("Aurora Bikes is a maker of ..."), else its heading
    and the document's ("Leave in Handbook").
    """
    headings = headings_of(passage.title)
    if len(headings) == 1:
        return subject_name(headings[0])
    lead = _LEAD.match(" ".join(passage.text.split()))
    if lead and lead.group(1).split()[0] not in _NO_SUBJECT:
        return lead.group(1)
    if not headings:
        return None
    return f"{headings[-1]} in {headings[0]}"


def _says(text: str) -> bool:
    return any(c.isalnum() for c in text)


def without_reference(question: str) -> str:
    """Drops "according to the passage", which says nothing."""
    left = _ACCORDING.sub("", question).strip()
    return left[:1].upper() + left[1:]


@dataclass(frozen=True, slots=True)
class Subjects:
    """What the questions about one passage may be recognised by.

    Attributes:
        title: the terms of its title.
        text: the terms of its text.
        is_of_one: whether it tells of one thing that its title names, as an encyclopaedia does:
            then "When was the club founded?" is a question about any club.
    """

    title: frozenset[str]
    text: frozenset[str]
    is_of_one: bool

    @classmethod
    def of(cls, passage: Passage) -> "Subjects":
        """Returns a passage's."""
        words = words_of()
        title = frozenset(words.terms(subject_name(passage.title)))
        title = title - _asking_terms() or title  # "The Kite Company" is named by "Kite"
        lead = frozenset(words.terms(" ".join(passage.text.split()[:12])))
        is_of_one = len(headings_of(passage.title)) == 1 and bool(title & lead)
        return cls(title, frozenset(words.terms(passage.text)), is_of_one)

    def are_in(self, question: str, *, answer: str = "") -> bool:
        """Tells whether a question says what it is about.

        Args:
            question: as it was written, its spaces included: an empty slot is seen by them.
            answer: its words don't count, wherever they stand.
        """
        if _EMPTY_SLOT.search(question):
            return False
        if _ABOUT_THE_TEXT.search(question) and not _terms(_ABOUT_THE_TEXT, question) <= self.title:
            return False
        words = words_of()
        asked = set(words.terms(question)) - set(words.terms(answer))
        own = asked - _asking_terms()
        if asked & self.title:
            return True
        pronoun = _WHO_IS_MEANT.search(question)
        if pronoun and not _named(question[: pronoun.start()], own & self.text):
            return False
        if _named(question, own & self.text):
            return True
        if self.is_of_one or _PRONOUN.search(question):
            return False
        return len(own & self.text) >= _FEWEST_WORDS


def _terms(pattern: re.Pattern[str], text: str) -> set[str]:
    return set(words_of().terms(" ".join(pattern.findall(text))))


def _named(question: str, own: Collection[str]) -> bool:
    """Tells whether a question has a name or a number of the passage's, after its first word."""
    rest = question.split()[1:]
    names = [word for word in rest if any(c.isupper() or c.isdigit() for c in word)]
    return any(term in own for term in words_of().terms(" ".join(names)))
