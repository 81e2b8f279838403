"""Whether a finished question and its answer are whole: the last look before either is kept."""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from collections.abc import Iterable, Iterator

from polyprag.augment.prose.sentences import ends_shortened, sentences_in
from polyprag.augment.prose.words import AUXILIARIES, DETERMINERS, PREPOSITIONS, PRONOUNS
from polyprag.augment.writing.avoided import plain_words_of
from polyprag.augment.writing.targets import NUMBER_WORDS

SMALL_WORDS = (
    AUXILIARIES
    | DETERMINERS
    | PREPOSITIONS
    | PRONOUNS
    | frozenset(
        "be been being am i this that these those and or but if when while not no do does did"  # noqa: SIM905
        " there here who which what where also only very so then up out than one too just its"
        " it's because unless".split()
    )
)
_PAIRS = {")": "(", "]": "[", "}": "{", "”": "“", "»": "«"}
_HALVES = re.compile(r"[()\[\]{}“”«»]")
_WH = r"what|which|who|whom|whose|when|where|why|how (?:many|much|long|far|often)"
_OF_WH = (
    r"time|date|year|month|day|place|number|price|person|percentage|temperature|degrees|percent"
)
# Question words that took a part of something's place: "what time., 2 p.m.", "which year /23".
_GLUED = re.compile(
    rf"\b(?:{_WH})(?: (?:{_OF_WH}))?(?:[./@–-]\w| ?[/@%°]|[.?](?=[ ,.?\w])|,?[.;:]\w)"
    rf"|\b(?:what|which|who|when|how many|how much) \d|[([][.,;:]|[(\[“«]\s*[)\]”»]"
    r"|[“«]\s|\s[”»]|\"\s*\"|(?<=\w)\(",
    re.I,
)
_NOWHERE = re.compile(
    r"^(?:what|which|who|when|where|why|how)(?: date| time| year)?[,:;]"
    r"|\b(?:which|who|that) (?:what|which|who)\b"
    r"|, what\?$|: (?:when|what|who),",
    re.I,
)
_HANGS = re.compile(
    r"^(?:and|or|but|nor|of)\b|\b(?:and|or|but|not|the|(?-i:an?)|of|which|than|as)$", re.I
)
_QUOTED = re.compile(r"\"[^\"]*\"|“[^“”]*”|«[^«»]*»")
_PREFIX = re.compile(r"^(?:According to \"[^\"]*\", |(?:Under|In) \"[^\"]*\"(?: in \"[^\"]*\")?: )")
_OPENS, _ENDS = "([{\"“‘«'’—", ")]}\"”»'’—"
_HAS_NUMBER = re.compile(rf"\d|\b(?:{NUMBER_WORDS}|one|once|twice|half|an?|dozen|no|none)\b", re.I)
_DATED = re.compile(
    r"\d|noon|midnight|(?:spring|summer|autumn|winter|week|day|morning|evening|night)"
    r"|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|Easter|Christmas)"
)
_YEAR = re.compile(r"(?:1[0-9]|20)\d\d")
_ASKED = re.compile(
    r"\b(?P<how>how (?:many|much)|what (?:percentage|temperature|price)|(?:what|which) number)\b"
    r"|\b(?P<year>(?:what|which) year)\b|\b(?P<date>(?:what|which) date)\b"
    r"|\b(?P<time>what time)\b",
    re.I,
)
# Answers of one look, and how no question for them begins.
_A_NUMBER = re.compile(r"(?:about|over|up to|[€$£¥])? ?\d.{0,24}", re.I)
_COUNTED = re.compile(rf"(?:{NUMBER_WORDS}|one)\b", re.I)
_A_NAME = re.compile(r"[A-Z][\w.'’&-]*(?: (?:of|the|de|la|and|[A-Z][\w.'’&-]*))*")
_NOT_FOR_NUMBERS = re.compile(
    r"(?:who|whom|whose|why|where|how (?:did|do|does|is|was|are|were|can|should|must))\b", re.I
)
_NOT_FOR_NAMES = re.compile(
    r"(?:why|how (?:many|much|long|old|often|far)|how (?:did|do|does))\b", re.I
)


def is_finished(question: str, answer: str, said: str, *, about: Iterable[str] = ()) -> bool:
    """Tells whether a question and its answer can be kept.

    Args:
        question: as it would be asked.
        answer: word for word of what says it.
        said: the sentence, item or row that says it.
        about: what the question may begin with before a colon, to say what it is about.
    """
    asked = _PREFIX.sub("", question)
    for each in about:
        asked = asked.removeprefix(f"{each}: ")
    quoted = _QUOTED.findall(asked)
    return (
        is_balanced(question)
        and is_balanced(answer)
        and not _GLUED.search(asked)
        and not _NOWHERE.search(asked)
        and not any(each != f"{each[0]}{each[1:-1].strip()}{each[-1]}" for each in quoted)
        and len(sentences_in(_QUOTED.sub("X", asked))) == 1
        and not {word.strip(".,").casefold() for word in answer.split()} <= SMALL_WORDS
        and not _HANGS.search(answer)
        and _is_whole(answer, said)
        and not misfits(asked, answer)
        and not says_answer(question, answer)
        and not _is_of_another_kind(asked, answer)
    )


def is_balanced(text: str) -> bool:
    """Tells whether every bracket and quotation mark of a text has its other half, in order."""
    opened: list[str] = []
    for c in _HALVES.findall(text):
        if c in _PAIRS:
            if not opened or opened.pop() != _PAIRS[c]:
                return False
        else:
            opened.append(c)
    return not opened and text.count('"') % 2 == 0


def misfits(question: str, answer: str) -> bool:
    """Tells whether a question can't have an answer that looks like this: "Who ...?", "1931"."""
    if _A_NUMBER.fullmatch(answer):
        return _NOT_FOR_NUMBERS.match(question) is not None
    is_name = _A_NAME.fullmatch(answer) and not _COUNTED.match(answer)
    return bool(is_name and _NOT_FOR_NAMES.match(question))


def says_answer(question: str, answer: str) -> bool:
    """Tells whether a question gives its own answer away."""
    asked, said = (" ".join(plain_words_of(text)) for text in (question, answer))
    return f" {said} " in f" {asked} "


def with_its_stop(answer: str, said: str) -> str:
    """Returns an answer with the full stop that its last word is written with: "Rowe Ltd."."""
    return f"{answer}." if ends_shortened(answer) and f"{answer}." in said else answer


def _is_whole(answer: str, said: str) -> bool:
    """Tells whether an answer stands in a sentence without being cut out of a word or number."""
    starts = list(places_of(answer, said))
    free = (_is_free(said[:at], said[at + len(answer) :]) for at in starts)
    return not starts or any(free)


def places_of(part: str, text: str) -> Iterator[int]:
    """Yields where a part of a text begins, from left to right."""
    at = text.find(part) if part else -1
    while at >= 0:
        yield at
        at = text.find(part, at + 1)


def _is_free(before: str, after: str) -> bool:
    if before and not (before[-1].isspace() or before[-1] in _OPENS):
        return False
    if not after or after[0].isspace() or after[0] in _ENDS:
        return not re.match(r" (?:%|°)", after)
    return after[0] in ".,;:!?" and (len(after) == 1 or not after[1].isalnum())


def _is_of_another_kind(question: str, answer: str) -> bool:
    """Tells whether a number, a date or a time is asked for, and the answer is none."""
    match = _ASKED.search(question)
    if match is None:
        return bool(re.search(r"\bwho\?$", question) and re.search(r"\d", answer))
    if match["how"]:
        return not _HAS_NUMBER.search(answer)
    if match["year"]:
        return not _YEAR.search(answer) or bool(re.match(r"\d{1,2} ", answer))
    if match["date"]:
        return not _DATED.search(answer) or _YEAR.fullmatch(answer) is not None
    return not (_HAS_NUMBER.search(answer) or _DATED.search(answer))
