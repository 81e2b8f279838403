"""All that the rules can ask about a passage of prose."""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from collections.abc import Iterator
from dataclasses import replace

from polyprag.augment.facts import subject_name
from polyprag.augment.prose.clause import Clause, parse_clause, parse_order
from polyprag.augment.prose.cutting import is_participle
from polyprag.augment.prose.patterns import QUANTITY
from polyprag.augment.prose.prose_fact import ProseFact
from polyprag.augment.prose.reasons import asked_of_condition
from polyprag.augment.prose.roles import asked_of_names, asked_of_term
from polyprag.augment.prose.sentences import Line, lines_of, sentences_in
from polyprag.augment.prose.tables import asked_of_label, asked_of_rows, table_rows
from polyprag.augment.prose.topic import Topic, placed, topic_of
from polyprag.augment.prose.turned import questions_of
from polyprag.augment.prose.words import (
    AUXILIARIES,
    COMMON,
    DETERMINERS,
    IRREGULAR_PLURALS,
    POINTING,
    PRONOUNS,
    VERBS,
    WHO_ACT,
    is_plural,
)
from sharding.corpus.passages import Passage

_FAQ = re.compile(r"^(?P<q>(?:\w[^.?!:]{8,140})\?) (?P<rest>\S.*)$")
_IS_NAME = re.compile(r"[A-ZÀ-Þ][\w'’.-]*(?: (?:[a-z]{1,3} )?[A-ZÀ-Þ][\w'’.-]*){0,4}")
_NO_PROSE = re.compile(r"[{}\\=<>|_]|--|://|\w/\w+/|(?<!\w)\$(?!\d)")
_NEXT = re.compile(r"; (?:and |but )?|, (?:and|but|so) |and |but ")
_MOST_FAQ_ANSWER = 25
_BE = frozenset(("is", "are", "was", "were"))
_OF_MANY = frozenset(("are", "were", "have", "do", "can", "may", "must", "should", "will"))
_LOWER_ENDS = re.compile(r"(?:s|ing|[st]ion|m(?:ent)|ness|ity|ance|ence|age)$")


def prose_facts(passage: Passage) -> list[ProseFact]:
    """Returns what the rules can ask about a passage, in the order of its text.

    Every question says what it is about: by a name in it, or by the passage's title. A passage
    without a title is asked only what names something.

    Args:
        passage: of any English prose.

    Returns:
        The facts; each question occurs once, and each answer is word for word in the passage.
    """
    topic = topic_of(passage.title)
    plain = " ".join(line.text for line in lines_of(passage.text))
    found: list[ProseFact] = []
    asked_already: set[str] = set()
    for asked in _all_asked(passage, topic):
        wordings = [
            wording
            for question in asked.questions
            for wording in placed(question, topic, is_named=asked.is_named)
            if wording.casefold() not in asked_already
        ]
        plainest = placed(asked.questions[0], topic, is_named=asked.is_named)
        if asked_already.intersection(map(str.casefold, plainest)):
            continue  # it has another answer already
        # The first wording of each question comes before the second of any.
        wordings = wordings[::2] + wordings[1::2]
        answer = asked.answer.strip()
        if wordings and answer and answer in plain:
            asked_already.update(wording.casefold() for wording in wordings)
            found.append(replace(asked, questions=tuple(wordings), answer=answer))
    return found


def _all_asked(passage: Passage, topic: Topic) -> Iterator[ProseFact]:
    lines = list(lines_of(passage.text))
    rows, others = table_rows([line.text for line in lines])
    yield from asked_of_rows(rows)
    left = set(others)
    heading = topic.heading or topic.document
    reader = _Reader(passage, topic)
    question = heading if heading.endswith("?") else ""
    for line in lines:
        if line.text not in left:
            continue
        if question:
            yield from _faq(question, line.text)
        question = line.text if line.text.endswith("?") and not line.is_item else ""
        yield from _line(line, reader)


def _line(line: Line, reader: "_Reader") -> Iterator[ProseFact]:
    if match := _FAQ.match(line.text):
        yield from _faq(match["q"], match["rest"])
        reader.forget()
        return
    if found := list(asked_of_label(line.text, is_item=line.is_item)):
        yield from found
        for sentence in sentences_in(line.text)[1:]:  # "Place: Loft. Present: Ann Lee, Bob Ray."
            yield from asked_of_label(sentence, is_item=line.is_item)
        return
    yield from asked_of_term(line.text)
    for sentence in sentences_in(line.text):
        if not _is_prose(sentence, is_item=line.is_item):
            reader.forget()
            continue
        yield from asked_of_names(sentence)
        yield from asked_of_condition(sentence)
        yield from reader.read(sentence)


def _is_prose(sentence: str, *, is_item: bool) -> bool:
    """Tells whether it is a sentence, and no command, address or heading."""
    begins = sentence[:1].isupper() or sentence[:1].isdigit() or sentence[:1] in "€$£"
    return begins and not _NO_PROSE.search(sentence) and (is_item or sentence[-1] in '.!?"”)')


def _faq(question: str, text: str) -> Iterator[ProseFact]:
    """Yields a question that the text itself asks, with the sentence that follows it."""
    answer = next(iter(sentences_in(text)), "").rstrip(" .")
    if (
        len(answer.split()) <= _MOST_FAQ_ANSWER
        and answer
        and not answer.endswith("?")
        and len(question.split()) >= 3
        and len(sentences_in(question)) == 1
    ):
        yield ProseFact((question,), answer, answer)


class _Reader:
    """Reads a passage's sentences in their order, so as to know whom "it" means."""

    def __init__(self, passage: Passage, topic: Topic) -> None:
        """Before the first sentence."""
        self._text = f"{passage.title}\n{passage.text}"
        self._topic = topic
        name = subject_name(passage.title)
        self._person = name if not topic.is_path and _IS_NAME.fullmatch(name) else ""
        self._last: tuple[str, str] | None = None
        self._is_person_last = False

    def _begins_with_person(self, sentence: str) -> bool:
        """Tells whether a sentence begins with whom the title names, or with a part of the name."""
        first = re.match(r"[\w'’.-]+", sentence)
        names = self._person.split()
        return (
            bool(first and names) and first is not None and first.group() in (names[0], names[-1])
        )

    def forget(self) -> None:
        """Whoever was spoken of isn't any more."""
        self._last = None

    def read(self, sentence: str) -> Iterator[ProseFact]:
        """Yields what the main clause of a sentence answers."""
        clause = parse_clause(sentence)
        yield from self._clause(clause or parse_order(sentence), sentence)
        while clause is not None and (match := _NEXT.match(clause.after)):
            following = clause.after[match.end() :]
            if match.group() in ("and ", "but "):
                first = following.split(" ", 1)[0]
                is_passive = clause.auxiliary in _BE and not clause.is_being
                if is_passive and is_participle(first):
                    following = f"{clause.subject} {clause.auxiliary} {following}"
                elif first in AUXILIARIES or first in VERBS:
                    following = f"{clause.subject} {following}"
                elif first not in DETERMINERS:
                    return
            clause = parse_clause(following)
            if clause is not None:
                yield from self._clause(clause, sentence)

    def _clause(self, clause: Clause | None, sentence: str) -> Iterator[ProseFact]:
        is_about_person = self._begins_with_person(sentence)
        if clause is None:
            self._last = (self._person, "singular") if is_about_person else None
            self._is_person_last = is_about_person or (
                sentence.startswith(("He ", "She ")) and self._is_person_last
            )
            return
        pronoun = clause.subject.lower()
        if pronoun in PRONOUNS - {"you", "we"}:
            subject = self._antecedent(pronoun, clause)
        elif clause.subject == self._person or clause.subject in self._person.split():
            subject = self._person
            self._last, self._is_person_last = (subject, clause.number), True
        else:
            subject = self._within(clause)
            # What an imperative says of "you" says nothing of whom the next "it" means.
            is_one = pronoun in ("you", "we") or pronoun.startswith(
                ("a ", "an ", "one ", "every ", "each ")
            )
            self._last = None if is_one else (subject, clause.number)
            self._is_person_last = False
        if subject:
            yield from questions_of(clause, sentence, subject)

    def _antecedent(self, pronoun: str, clause: Clause) -> str:
        """Returns whom a pronoun means, or "": the last sentence's subject, or the title's."""
        if pronoun in ("he", "she"):
            return self._person if self._is_person_last else ""
        if self._last is None:
            return ""
        subject, number = self._last
        is_other = (
            number not in (clause.number, "either")
            or POINTING.search(subject)
            or QUANTITY.search(subject)
        )
        if is_other or (self._person and subject != self._person):
            return ""  # in an encyclopaedia "it" is what the page is about, or anything
        return subject

    def _within(self, clause: Clause) -> str:
        """Returns a subject as it is written within a question."""
        subject = clause.subject
        first, _, rest = subject.partition(" ")
        lower = first.lower()
        if lower in ("this", "these") and rest:
            return ""
        is_common = (
            lower in DETERMINERS | PRONOUNS | WHO_ACT | IRREGULAR_PLURALS | COMMON
            or re.search(rf"(?<![\w@./-]){re.escape(lower)}(?![\w@/-]|\.\w)", self._text)
            is not None
            or (
                not first.endswith(("'s", "’s"))
                and first[1:] == first[1:].lower()
                and not rest[:1].isupper()
                and (rest or _LOWER_ENDS.search(lower))
                and (rest or clause.auxiliary in _OF_MANY or not lower.endswith("s"))
                and not self._is_name(first)
            )
            or lower
            in (
                "everyone",
                "everybody",
                "two",
                "three",
                "four",
                "five",
                "six",
                "seven",
                "eight",
                "nine",
                "ten",
            )
        )
        if sum(map(str.isupper, first)) > 1 or not is_common:
            return subject
        return lower + subject[len(first) :]

    def _is_name(self, word: str) -> bool:
        """Tells whether a word has a capital within a sentence, too."""
        return re.search(rf"[a-z,] {re.escape(word)}\b", self._text) is not None or (
            not is_plural(word) and word in self._topic.document
        )
