"""What "it", "they" and "her" at the head of a sentence mean, so that a question can name it."""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from collections.abc import Sequence

from polyprag.augment.facts import subject_name
from polyprag.augment.lead import has_lead
from polyprag.augment.prose.clause import parse_clause
from polyprag.augment.prose.patterns import QUANTITY
from polyprag.augment.prose.words import AUXILIARIES, POINTING, VERBS, is_plural
from polyprag.augment.writing.subjects import headings_of
from polyprag.augment.writing.targets import lines_and_sentences
from sharding.corpus.passages import Passage

_PRONOUN = re.compile(r"(?P<who>It|They|He|She|Its|Their|His|Her)(?P<rest>['’]s)?\b", re.I)
_POINTER = re.compile(
    r"(?:This|That|These|Those|Both|Such|Some|Most|Many|One|Others|Another) (?P<next>[\w'’]+)",
    re.I,
)
_LEANS = re.compile(
    r"^(?:it|they|he|she|its|their|his|her|this|that|these|those)\b"
    r"|^(?:who|what|which)\b.*\b(?:its|their|his|her)\b"
    r"|\b(?:here|you|your|we|our|us|this|these|those|them|there)\b(?! (?:is|are|was|were)\b)",
    re.I,
)
_OF_THEM = re.compile(
    r"\b(?:of|with|for|to|from|by|than) (?:them\b|(?:these|those|it|this|that|him|her)\b(?! [a-z]))"
    r"|\bhers?$",
    re.I,
)
_MAN_OR_WOMAN = re.compile(
    r"(?:(?:Dr|Mr|Mrs|Ms|Prof|Rev|Sister|Dame|Sir|Capt|Cllr)\.? )?[A-ZÀ-Þ][\w'’-]+"
    r"(?: (?:[A-Z]\.|[a-z]{2,3}|[A-ZÀ-Þ][\w'’-]+))*"
)
_ANY_ONE = ("a ", "an ", "one ", "every ", "each ", "any ", "no ", "you", "we", "some ")
_LONG_WORD = re.compile(r"\w{4,}")
# "It was decided ...", "It takes two hours to ...": of nothing at all.
_OF_NOTHING = re.compile(
    r"It(?:['’]s| is| was| has been| will be)(?: also| then| not)? (?:decided|agreed|resolved|noted"
    r"|planned|recommended|forbidden|allowed|possible|impossible|important|necessary|best|better"
    r"|worth|easy|hard|usual|enough|said|known|believed|estimated|thought|\w+ed (?:that|by|to))\b"
    r"|It (?:takes|took|costs|is) [^,]* to \w+",
    re.I,
)


def leans(text: str) -> bool:
    """Tells whether a text points to something that it doesn't name: "they", "here", "your"."""
    return _LEANS.search(text) is not None


class Leaning:
    """Whom or what each sentence of a passage leans on."""

    def __init__(self, passage: Passage) -> None:
        """Reads a passage's sentences in their order."""
        self._sentences = lines_and_sentences(passage.text)
        self._is_of_one = has_lead(passage)
        headings = headings_of(passage.title)
        self._is_somebody = _MAN_OR_WOMAN.fullmatch(subject_name(passage.title)) is not None
        self._heading = set(_LONG_WORD.findall(headings[-1].casefold())) if headings else set()
        self._is_of_many = bool(headings) and is_plural(headings[-1].split()[-1])
        self._subjects: list[tuple[str, str] | None] | None = None

    def resolved(self, before: str, sentence: int) -> str | None:
        """Returns the head of a sentence with a name for its pronoun.

        Args:
            before: what stands before what is asked for.
            sentence: its number.

        Returns:
            The head, unchanged where it leans on nothing or on what the title names; None where
            nothing says what it leans on.
        """
        if re.match(r"(?:[^,]|,(?= \d))*" + _OF_THEM.pattern, before, re.I) and not self._is_of_one:
            return None
        if pointer := _POINTER.match(before):
            following = pointer["next"].casefold()
            is_bare = following in AUXILIARIES or following in VERBS or following in ("of", "also")
            return None if is_bare else before
        match = _PRONOUN.match(before)
        if match is None or _OF_NOTHING.match(before):
            return before
        pronoun = match["who"].casefold()
        is_of_somebody = pronoun in ("he", "she", "his", "her")
        if self._is_of_one and (not is_of_somebody or self._is_somebody or not sentence):
            return before
        if self._subjects is None:
            self._subjects = _subjects(self._sentences)
        named = self._subjects[sentence - 1] if sentence else None
        if named is None or not _agree(pronoun, *named):
            is_heading = self._is_near(sentence, pronoun)
            return before if is_heading else None
        subject = named[0]
        if pronoun in ("its", "their", "his", "her"):
            subject += "’" if subject.endswith("s") else "’s"
        elif match["rest"]:
            subject += " is"
        return subject + before[match.end() :]

    def _is_near(self, sentence: int, pronoun: str) -> bool:
        """Tells whether a pronoun means what the heading names, which is spoken of before."""
        if pronoun in ("they", "their"):
            return self._is_of_many
        if pronoun not in ("it", "its"):
            return False
        earlier = " ".join(self._sentences[:sentence]).casefold()
        return not self._heading.isdisjoint(_LONG_WORD.findall(earlier))


def _subjects(sentences: Sequence[str]) -> list[tuple[str, str] | None]:
    """Returns each sentence's subject and its number; None where it isn't plain."""
    found: list[tuple[str, str] | None] = []
    for sentence in sentences:
        clause = parse_clause(sentence)
        last = found[-1] if found else None
        if clause is None:
            found.append(None)
        elif _PRONOUN.fullmatch(clause.subject):
            found.append(last if last and _agree(clause.subject.casefold(), *last) else None)
        elif (
            POINTING.search(clause.subject)
            or QUANTITY.search(clause.subject)
            or clause.subject.casefold().startswith(_ANY_ONE)
            or re.match(r"\d|its?\b|their\b|his\b|her\b", clause.subject, re.I)
        ):
            found.append(None)
        else:
            found.append((clause.subject, clause.number))
    return found


def _agree(pronoun: str, subject: str, number: str) -> bool:
    """Tells whether a pronoun can mean a subject."""
    if pronoun in ("they", "their"):
        return number != "singular"
    is_somebody = _MAN_OR_WOMAN.fullmatch(subject) is not None
    if pronoun in ("he", "she", "his", "her"):
        return number != "plural" and is_somebody and " " in subject
    is_one_thing = re.match(r"(?:the|its|our|this) ", subject, re.I) or re.search(
        r" ?[A-Z]", subject[1:]
    )
    return number != "plural" and not is_somebody and is_one_thing is not None
