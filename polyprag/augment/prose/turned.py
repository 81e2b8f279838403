"""A clause turned around into questions: "The battery lasts 14 hours" into "How long does it last?"."""

import re
from collections.abc import Iterator

from polyprag.augment.fact_patterns import PERSON_WORD
from polyprag.augment.prose.asked import Asked
from polyprag.augment.prose.clause import Clause
from polyprag.augment.prose.spans import Span, spans_of, time_of
from polyprag.augment.prose.words import AUXILIARIES, MODALS, NEGATIVE, PEOPLE, POINTING, PREPOSITIONS, is_plural

_MOST_BODY = 14  # words of a question beside its subject and question words
_MOST_ANSWER = 16
_ROLE = re.compile(
    r"\b(?:head|director|manager|officer|chair(?:man|woman|person)?|president|secretary|assistant|leader|speaker|editor"
    r"|owner|founder|author|captain|mayor|minister|coach|doctor|nurse|engineer|inventor|contact|deputy|treasurer"
    r"|accountant|lawyer|solicitor|principal|teacher|trainer|cook|chef|clerk|librarian|archivist|caretaker|warden"
    r"|coordinator|supervisor|administrator|representative|winner|successor|predecessor|wife|husband|father|mother|son"
    r"|daughter|brother|sister|boss|lead|maintainer|employee|trainee|customer|member)s?\b",
    re.I,
)
PERSON = r"(?:(?:Dr|Mr|Mrs|Ms|Prof)\.? )?[A-ZÀ-Þ][\w'’-]+(?: (?:de|van|von|der|la|le|[A-Z]\.))*(?: [A-ZÀ-Þ][\w'’-]+){1,2}"  # noqa: RUF001
_NOUN_PHRASE = re.compile(r"^(?:(?:an?|the|one of the|two|three|four|its|their|his|her|our|your) )")
_HUMAN = frozenset(
    "run lead head manage keep organise organize teach book invent write found direct chair sign look plan maintain own"  # noqa: SIM905
    " approve answer receive design recommend present report speak order lay propose want decide train".split()
)
_PREDICATE_HEAD = re.compile(r",| (?:and|from|of|in|for|by|with|at|to)\b")
_POPULATION = re.compile(rf"^a population of (?P<a>(?:(?:about|around|approximately|over|nearly) )?[\d.,]*\d(?: million)?)\b")
_THEIRS = re.compile(r"\b(?:his|her|hers|their|its)\b")
_BROKEN_OFF = re.compile(r", ?(?!(?:which|who|and|but|so|where|because|with|including|whose|of which)\b)")
_TAILS = re.compile(r" (?:too|as well|also|again|already|now|then|however|at all)$")
_REASON = re.compile(r"(?:^|,? )because (?!of\b)(?P<a>[^;:()]+?)(?=, (?:and|but|so)\b|$)")
_REASON_OF = re.compile(r"(?:^|,? )(?:because of|due to|owing to|thanks to) (?P<a>[^;:(),]+)$")
_SINCE = re.compile(r"^, since (?!\d|then|the \d)(?P<a>[^;:()]+?)$")
_PURPOSE = re.compile(r"^,? ?(?P<a>(?:so that|in order to) [^;:()]+?)$")
_CONDITION = re.compile(r"^,? ?(?P<a>(?:(?:only )?(?:if|when)|unless|until|as soon as|as long as|once) [^;:()]+?)$")


def questions_of(clause: Clause, said: str, subject: str) -> Iterator[Asked]:
    """Yields what a clause answers.

    Args:
        clause: the main clause of a sentence.
        said: the sentence.
        subject: the clause's, as it is written within a question.
    """
    asker = _Asker(clause, said, subject)
    if NEGATIVE.search(f"{clause.core} {clause.verb}"):
        yield from asker.reasons()
        return
    yield from asker.being()
    yield from asker.numbered_subject()
    yield from asker.fronted_time()
    yield from asker.person_subject()
    found = False
    for span in spans_of(clause):
        for asked in asker.about(span):
            found = True
            yield asked
    yield from asker.reasons()
    if not found:
        yield from asker.object()
        yield from asker.rule()


class _Asker:
    """Makes the questions of one clause."""

    def __init__(self, clause: Clause, said: str, subject: str) -> None:
        self.clause, self.said, self.subject = clause, said, subject
        self.own = self._is_good(subject, is_subject=True)

    def _is_good(self, text: str, *, is_subject: bool = False) -> bool:
        """Tells whether a part of a question points to nothing that came before it."""
        if is_subject and re.match(r"(?:his|her|their|its)\b", text, re.I):
            return False
        return not POINTING.search(text) and (is_subject or len(text.split()) <= _MOST_BODY)

    @property
    def fronted(self) -> str:
        """What stood before the subject, as it is written at the end of a question."""
        return self.clause.fronted[:1].lower() + self.clause.fronted[1:]

    def _question(
        self, ask: str, body: str, *, negated: bool = False, fronted: str | None = None
    ) -> str | None:
        clause = self.clause
        fronted = self.fronted if fronted is None else fronted
        if not AUXILIARIES.isdisjoint(body.lower().split()):
            return None  # a clause of its own that wasn't recognised
        body = _TAILS.sub("", " ".join(f"{clause.verb} {body}".split()))
        if not self.own or not self._is_good(f"{body} {fronted}"):
            return None
        if re.search(r"\b(?:and|or) (?:\d|two|three|four|five|six)|\bher$|\bher (?:to|in|at|on|for)\b", body):
            return None
        possessive = re.search(r"\b(?:his|her|its|their)\b", body, re.I)
        if possessive and self.subject in ("you", "we"):
            return None
        if body.split(" ")[-1].lower() in (PREPOSITIONS - {"to"}) | {"and", "or", "the", "a"}:
            return None
        question = f"{ask} {clause.auxiliary} {self.subject} {'not ' if negated else ''}{body} {fronted}"
        return " ".join(question.split()).rstrip(" ,;") + "?"

    def _asked(self, questions: list[str | None], answer: str, *, most: int = _MOST_ANSWER) -> Iterator[Asked]:
        answer = answer.strip(" ,;:")
        whole = tuple(dict.fromkeys(question for question in questions if question))
        if answer.split(" ")[-1].lower() in PREPOSITIONS | {"and", "or", "the", "a", "an"}:
            return
        if not whole or not answer or len(answer.split()) > most or answer.count("(") != answer.count(")"):
            return
        yield Asked(whole, answer, self.said)

    def about(self, span: Span) -> Iterator[Asked]:
        """Yields the questions for a span of the core."""
        core = self.clause.core
        before, after = core[: span.start].strip(), core[span.end :].strip()
        if after.startswith("of "):
            return
        body = f"{before} {after}".strip()
        questions = [self._question(ask, body) for ask in span.asks]
        if self.clause.verb == "cost" and span.asks[0] == "How much" and not body:
            verb = "was" if self.clause.auxiliary == "did" else "is"
            questions.append(f"What {verb} the price of {self.subject}?" if self.own else None)
        if self.clause.verb == "weigh" and not body:
            questions = [question for question in questions if question]
            questions.append(f"What is the weight of {self.subject}?" if self.own else None)
        yield from self._asked(questions, span.answer)

    def fronted_time(self) -> Iterator[Asked]:
        """Yields when it was, where the sentence begins with that."""
        span = time_of(self.clause.fronted) if self.clause.fronted else None
        if span is not None and not self.clause.is_being:
            body = self.clause.core
            yield from self._asked([self._question(ask, body, fronted="") for ask in span.asks], span.answer)

    def person_subject(self) -> Iterator[Asked]:
        """Yields who it is that does something."""
        clause = self.clause
        if not re.fullmatch(PERSON, clause.subject) or not self._is_good(f"{clause.core} {self.fronted}"):
            return
        if clause.is_being:
            is_theirs = bool(_ROLE.search(clause.core)) or clause.core.startswith("responsible for ")
            is_theirs = is_theirs and not re.match(r"(?:an?|one) ", clause.core)
        else:
            is_theirs = clause.verb in _HUMAN
        if is_theirs and not _THEIRS.search(clause.core):
            question = f"Who {clause.said} {clause.core} {self.fronted}".strip() + "?"
            yield from self._asked([question], clause.subject)

    def being(self) -> Iterator[Asked]:
        """Yields what or who the subject is."""
        clause = self.clause
        core = clause.core
        if not clause.is_being or not self.own or clause.fronted:
            return
        if re.fullmatch(PERSON, core) and _ROLE.search(self.subject):
            yield from self._asked(
                [
                    f"Who {clause.auxiliary} {self.subject}?",
                    f"What is the name of {self.subject}?",
                ],
                core,
            )
        elif clause.number == "singular" and re.match(r"(?:an?|one of the) ", core):
            if _BROKEN_OFF.match(clause.after):
                return  # "an orange, faintly acid liquid"
            if _ROLE.search(core) or POINTING.search(core) or core.endswith((" of", " in")):
                return
            answer = core
            if relative := re.match(r"(?:who|that|which) [^,;:()]+", clause.after):
                answer = f"{core} {relative.group()}"
                if len(core.split()) <= 2 and len(answer.split()) > _MOST_ANSWER:
                    return
                answer = answer if len(answer.split()) <= _MOST_ANSWER else core
            if not re.search(r"[a-z]{3}", re.sub(r"^an? ", "", core)):
                return
            questions: list[str | None] = [f"What {clause.auxiliary} {self.subject}?"]
            if re.fullmatch(PERSON, self.subject) and PERSON_WORD.search(_PREDICATE_HEAD.split(core)[0]):
                questions = [f"Who {clause.auxiliary} {self.subject}?", *questions]
            else:
                questions.append(f"What kind of thing {clause.auxiliary} {self.subject}?")
            yield from self._asked(questions, answer)
        elif re.match(r"(?:the|[A-Z0-9][\w-]+$)", core) and not POINTING.search(core):
            if len(core.split()) <= 8 and not re.search(r"\b(?:same|only|case|reason|best|most)\b", core):
                if _ROLE.search(self.subject) or _ROLE.search(core):
                    return
                yield from self._asked([f"What {clause.auxiliary} {self.subject}?"], core)

    def numbered_subject(self) -> Iterator[Asked]:
        """Yields how many there are of a subject that begins with a number."""
        clause = self.clause
        match = re.match(
            r"(?P<n>(?:(?:Up to|At least|About|Around|Some|More than|Nearly|Over|Fewer than|No more than|At most) )?"
            r"(?:\d[\d,]*|Two|Three|Four|Five|Six|Seven|Eight|Nine|Ten|Eleven|Twelve|two|three|four|five|six|seven|eight"
            r"|nine|ten|eleven|twelve|twenty|thirty|forty|fifty)(?: thousand| million)?) (?P<u>.+)",
            clause.subject,
        )
        if not match or re.fullmatch(r"(?:1[0-9]|20)\d\d", match["n"]):
            return
        noun = match["u"]
        if not (is_plural(noun.split()[0]) or is_plural(noun.split()[-1])) or POINTING.search(noun):
            return
        fronted = self.fronted
        verb = clause.said
        question = " ".join(f"How many {noun} {verb} {clause.core} {fronted}".split()) + "?"
        if self._is_good(f"{clause.core} {fronted}") and not _THEIRS.search(question):
            yield from self._asked([question], match["n"])

    def reasons(self) -> Iterator[Asked]:
        """Yields why, and when or under what condition."""
        clause, after = self.clause, self.clause.after
        body = clause.core
        is_negative = bool(NEGATIVE.search(body))
        if is_negative and not re.match(r"(?:not|never) ", body):
            return
        negated, plain = is_negative, re.sub(r"^(?:not|never) ", "", body)
        if NEGATIVE.search(plain) or (negated and body.startswith("never")):
            return
        for pattern in (_REASON, _REASON_OF, _SINCE, _PURPOSE):
            match = pattern.search(f" {after}" if pattern in (_REASON, _REASON_OF) and after[:1] != "," else after)
            if match:
                questions = [self._question("Why", plain, negated=negated)]
                if not negated:
                    questions.append(self._question("For what reason", plain))
                yield from self._asked(questions, match["a"], most=20)
                return
        if _REASON_OF.search(body) and (match := _REASON_OF.search(body)):
            questions = [self._question("Why", body[: match.start()])]
            yield from self._asked(questions, match["a"], most=20)
            return
        match = _CONDITION.match(after)
        if match and (clause.auxiliary in MODALS or not clause.verb) and not negated:
            condition = match["a"]
            ask = "Until when" if condition.startswith("until") else "When"
            questions = [self._question(ask, plain)]
            if ask == "When":
                questions.append(self._question("Under what condition", plain))
            yield from self._asked(questions, condition, most=18)

    def object(self) -> Iterator[Asked]:
        """Yields what the subject has, makes, needs, ..."""
        clause, core = self.clause, self.clause.core
        if clause.verb == "have" and self.own and (match := _POPULATION.match(core)):
            verb = "was" if clause.auxiliary == "did" else "is"
            questions = [f"What {verb} the population of {self.subject}?", self._question("How many inhabitants", "")]
            yield from self._asked(questions, match["a"])
            return
        if not clause.takes_object or not core or POINTING.search(core.split(" ")[0]):
            return
        first = core.split(" ")[0].lower()
        if first in PREPOSITIONS or first.endswith("ly") or first in ("in", "up", "out", "off", "away", "back", "down"):
            return
        if len(core.split()) > 12 or clause.core.endswith((" in", " of")):
            return
        if POINTING.search(core) or re.match(r"(?:which|what|who|how|to|that)\b", core):
            return
        if re.search(r"\btimes$", core) or re.match(r"(?:its|his|her|their) (?:own)?$", core):
            return
        if re.match(r"\w+ing\b", core) or _BROKEN_OFF.match(clause.after):
            return
        if re.match(r"(?:some|several|many|most|certain)\b", self.subject):
            return
        if clause.verb == "have" and not _NOUN_PHRASE.match(core) and "," not in core:
            return
        yield from self._asked([self._question("What", "")], core, most=12)

    def rule(self) -> Iterator[Asked]:
        """Yields what somebody must, may or can do."""
        clause, core = self.clause, self.clause.core
        if clause.verb or clause.auxiliary not in ("must", "may", "can", "should") or not self.own:
            return
        if self.subject.split()[-1].lower() not in PEOPLE and not re.search(r"(?:ers|ees|ors|ants)$", self.subject):
            return
        if core.startswith(("be ", "have ", "also ", "not ")) or len(core.split()) < 2 or re.search(
            r"\b(?:it|they|them|this|these|those|that|so)\b", core
        ):
            return
        fronted = self.fronted
        if clause.said == "should" and not fronted:
            return  # an order without a purpose: "What should you do?" asks for nothing
        if not fronted and not self._condition():
            return
        tail = fronted or self._condition()
        question = f"What {clause.auxiliary} {self.subject} do {tail}?"
        if self._is_good(tail):
            yield from self._asked([question], core)

    def _condition(self) -> str:
        match = _CONDITION.match(self.clause.after)
        return match["a"] if match else ""
