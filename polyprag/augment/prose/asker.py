"""One clause and how its questions are put together."""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from collections.abc import Iterator, Sequence

from polyprag.augment.prose.clause import Clause
from polyprag.augment.prose.prose_fact import ProseFact
from polyprag.augment.prose.topic import has_name
from polyprag.augment.prose.words import AUXILIARIES, POINTING, PREPOSITIONS

_MOST_BODY = 14  # words of a question beside its subject and question words
MOST_ANSWER = 16
_TAILS = re.compile(r" (?:too|as well|also|again|already|now|then|however|at all|only)$")


class Asker:
    """Makes questions of one clause, and refuses those that wouldn't be good."""

    def __init__(self, clause: Clause, said: str, subject: str) -> None:
        """See `polyprag.augment.prose.turned.questions_of`."""
        self.clause, self.said, self.subject = clause, said, subject
        self.own = self.is_good(subject, is_subject=True)

    def is_good(self, text: str, *, is_subject: bool = False) -> bool:
        """Tells whether a part of a question points to nothing that came before it."""
        if is_subject and re.match(r"(?:his|her|their|its)\b", text, re.I):
            return False
        return not POINTING.search(text) and (is_subject or len(text.split()) <= _MOST_BODY)

    @property
    def fronted(self) -> str:
        """What stood before the subject, as it is written at the end of a question."""
        return self.clause.fronted[:1].lower() + self.clause.fronted[1:]

    def question(
        self, ask: str, body: str, *, negated: bool = False, fronted: str | None = None
    ) -> str | None:
        """Returns a question; None for one that couldn't be understood or isn't English.

        Args:
            ask: question words, which stand before the auxiliary.
            body: what follows the subject and the infinitive.
            negated: "not" stands before the body.
            fronted: what stands at the end; default what stood before the subject.
        """
        clause = self.clause
        fronted = self.fronted if fronted is None else fronted
        if not AUXILIARIES.isdisjoint(body.lower().removeprefix("have ").split()):
            return None  # a clause of its own that wasn't recognised
        body = _TAILS.sub("", " ".join(f"{clause.verb} {body}".split()))
        if not self.own or not self.is_good(f"{body} {fronted}"):
            return None
        if re.search(
            r"\b(?:and|or) (?:\d|two|three|four|five|six)|\bher$|\bher (?:to|in|at|on|for)\b", body
        ):
            return None
        if re.search(r"\bto (?:\d+|one|two|three|four|five|six|nil)$", body):
            return None  # "by four votes to three"
        if re.search(r"[€$£]\d|\b(?:more|less|extra|named|called|known|considered)$", body):
            return None
        possessive = re.search(r"\b(?:his|her|its|their)\b", body, re.I)
        if possessive and self.subject in ("you", "we"):
            return None
        if body.split(" ")[-1].lower() in (PREPOSITIONS - {"to"}) | {"and", "or", "the", "a"}:
            return None
        question = (
            f"{ask} {clause.auxiliary} {self.subject} {'not ' if negated else ''}{body} {fronted}"
        )
        return " ".join(question.split()).rstrip(" ,;") + "?"

    def asked(
        self,
        questions: Sequence[str | None],
        answer: str,
        *,
        most: int = MOST_ANSWER,
        in_question: bool = False,
    ) -> Iterator[ProseFact]:
        """Yields one answer with its questions; nothing where no question or the answer is good.

        Args:
            questions: wordings; None for those that came to nothing.
            answer: word for word of the sentence.
            most: words of an answer.
            in_question: names are looked for in the question, and not in the subject alone.
        """
        answer = answer.strip(" ,;:")
        whole = tuple(dict.fromkeys(question for question in questions if question))
        if answer.split(" ")[-1].lower() in PREPOSITIONS | {"and", "or", "the", "a", "an"}:
            return
        if re.match(r"(?:and|or|but)\b", answer) or re.search(
            r"['’]s?$|\b(?:known|called|named)$|^an? \w+ly$", answer
        ):
            return
        if (
            not whole
            or not answer
            or len(answer.split()) > most
            or answer.count("(") != answer.count(")")
        ):
            return
        yield ProseFact(
            whole, answer, self.said, is_named=None if in_question else has_name(self.subject)
        )
