"""A clause turned around: "The battery lasts 14 hours" into "How long does the battery last?"."""

import re
from collections.abc import Iterator
from dataclasses import replace

from polyprag.augment.fact_patterns import PROFESSION, PROFESSION_OF_PERSON
from polyprag.augment.prose.asker import MOST_ANSWER, Asker
from polyprag.augment.prose.clause import Clause
from polyprag.augment.prose.prose_fact import ProseFact
from polyprag.augment.prose.reasons import reasons, rule
from polyprag.augment.prose.roles import PERSON, ROLE, THEIRS, person_subject
from polyprag.augment.prose.spans import ClauseSpan, spans_of, time_of
from polyprag.augment.prose.words import (
    ADVERBS,
    AUXILIARIES,
    MODALS,
    NEGATIVE,
    POINTING,
    PREPOSITIONS,
    is_plural,
)

_NOUN_PHRASE = re.compile(r"^(?:(?:an?|the|one of the|two|three|four|its|their|his|her|our|your) )")
_IS_THE = re.compile(
    r"(?!.*\b(?:same|only|case|reason|best|most)\b)(?:the\b|[A-Z0-9][\w-]+$)", re.DOTALL
)
_MOST_OF_THE = 8
_YEAR = re.compile(r"\b(?:1[0-9]|20)\d\d\b")
_MOST_OBJECT = 12
_OF_WHAT = re.compile(
    r"(?P<verb>consist of|ask for|depend on|belong to|refer to|apply to|wait for|look after|lead to"
    r"|stand for|result in|go into|come with) (?P<a>.+)"
)
_PREDICATE_HEAD = re.compile(r",| (?:and|from|of|in|for|by|with|at|to)\b")
_POPULATION = re.compile(
    r"^a population of (?P<a>(?:(?:about|around|approximately|over"
    r"|nearly) )?[\d.,]*\d(?: million)?)\b"
)
_BROKEN_OFF = re.compile(
    r", ?(?!(?:which|who|and|but|so|where|because|with|including|whose|of which)\b)"
)
_ONLY_ADVERBS = re.compile(rf"(?:(?:{'|'.join(sorted(ADVERBS))}) ?)+")


def questions_of(clause: Clause, said: str, subject: str) -> Iterator[ProseFact]:
    """Yields what a clause answers.

    Args:
        clause: the main clause of a sentence.
        said: the sentence.
        subject: the clause's, as it is written within a question.
    """
    asker = Asker(clause, said, subject)
    if NEGATIVE.search(f"{clause.core} {clause.verb}"):
        yield from reasons(asker)
        yield from _forbidden_time(asker)
        return
    yield from _being(asker)
    yield from _numbered_subject(asker)
    yield from _fronted_time(asker)
    yield from person_subject(asker)
    found = False
    for span in spans_of(clause):
        for asked in _about(asker, span):
            found = True
            yield asked
    yield from reasons(asker)
    if not found:
        yield from _consists_of(asker)
        yield from _object(asker)
        yield from rule(asker)


def _about(asker: Asker, span: ClauseSpan) -> Iterator[ProseFact]:
    """Yields the questions for a span of the core."""
    core = asker.clause.core
    before, after = core[: span.start].strip(), core[span.end :].strip()
    if after.startswith("of ") or (
        _YEAR.fullmatch(span.answer) and _YEAR.search(f"{before} {after}")
    ):
        return
    if clause_adverb := _ONLY_ADVERBS.fullmatch(f"{before} {after}".strip()):
        before = before.removeprefix(clause_adverb.group())
    body = f"{before} {after}".strip()
    questions = [asker.question(ask, body) for ask in span.asks]
    if asker.clause.verb == "cost" and span.asks[0] == "How much" and not body:
        verb = "was" if asker.clause.auxiliary == "did" else "is"
        questions.append(f"What {verb} the price of {asker.subject}?" if asker.own else None)
    if asker.clause.verb == "weigh" and not body:
        questions = [question for question in questions if question]
        questions.append(f"What is the weight of {asker.subject}?" if asker.own else None)
    yield from asker.asked(questions, span.answer)


def _forbidden_time(asker: Asker) -> Iterator[ProseFact]:
    """Yields when somebody must not or may not."""
    clause = asker.clause
    plain = clause.core.removeprefix("not ")
    if clause.auxiliary not in MODALS or plain == clause.core or NEGATIVE.search(plain):
        return
    for span in spans_of(replace(clause, core=plain)):
        if span.asks[0].split(" ")[0] in ("After", "Before", "Until", "On", "When", "At"):
            body = f"{plain[: span.start]} {plain[span.end :]}"
            questions = [asker.question(ask, body, negated=True) for ask in span.asks]
            yield from asker.asked(questions, span.answer)


def _fronted_time(asker: Asker) -> Iterator[ProseFact]:
    """Yields when it was, where the sentence begins with that."""
    span = time_of(asker.clause.fronted) if asker.clause.fronted else None
    if span is not None and not asker.clause.is_being:
        body = asker.clause.core
        yield from asker.asked(
            [asker.question(ask, body, fronted="") for ask in span.asks], span.answer
        )


def _being(asker: Asker) -> Iterator[ProseFact]:
    """Yields what or who the subject is."""
    clause = asker.clause
    core = clause.core
    if not clause.is_being or not asker.own or clause.fronted:
        return
    if not AUXILIARIES.isdisjoint(core.lower().split()):
        return
    if re.fullmatch(PERSON, core) and ROLE.search(asker.subject):
        yield from asker.asked(
            [
                f"Who {clause.auxiliary} {asker.subject}?",
                f"What is the name of {asker.subject}?",
            ],
            core,
        )
    elif clause.number == "singular" and re.match(r"(?:an?|one of the) ", core):
        if _BROKEN_OFF.match(clause.after):
            return  # "an orange, faintly acid liquid"
        if ROLE.search(core) or POINTING.search(core) or core.endswith((" of", " in")):
            return
        answer = core
        if relative := re.match(r"(?:who|that|which) [^,;:()]+", clause.after):
            answer = f"{core} {relative.group()}"
            if len(core.split()) <= 2 and len(answer.split()) > MOST_ANSWER:
                return
            answer = answer if len(answer.split()) <= MOST_ANSWER else core
        if not re.search(r"[a-z]{3}", re.sub(r"^an? ", "", core)):
            return
        questions: list[str | None] = [f"What {clause.auxiliary} {asker.subject}?"]
        kind = _PREDICATE_HEAD.split(core)[0]
        is_somebody = PROFESSION.search(kind) or PROFESSION_OF_PERSON.search(kind)
        if re.fullmatch(PERSON, asker.subject) and is_somebody:
            questions = [f"Who {clause.auxiliary} {asker.subject}?", *questions]
        elif not re.fullmatch(PERSON, asker.subject):
            questions.append(f"What kind of thing {clause.auxiliary} {asker.subject}?")
        yield from asker.asked(questions, answer)
    elif _IS_THE.match(core) and len(core.split()) <= _MOST_OF_THE and not POINTING.search(core):
        is_person = ROLE.search(asker.subject) or ROLE.search(core)
        if not is_person:
            yield from asker.asked([f"What {clause.auxiliary} {asker.subject}?"], core)


def _numbered_subject(asker: Asker) -> Iterator[ProseFact]:
    """Yields how many there are of a subject that begins with a number."""
    clause = asker.clause
    match = re.match(
        r"(?P<n>(?:(?:Up to|At least|About|Around|Some|More than|Nearly|Over|Fewer than"
        r"|No more than|At most) )?"
        r"(?:\d[\d,]*|Two|Three|Four|Five|Six|Seven|Eight|Nine|Ten|Eleven|Twelve|two|three|four"
        r"|five|six|seven|eight"
        r"|nine|ten|eleven|twelve|twenty|thirty|forty|fifty)(?: thousand| million)?) (?P<u>.+)",
        clause.subject,
    )
    if not match or re.fullmatch(r"(?:1[0-9]|20)\d\d", match["n"]):
        return
    noun = match["u"]
    if not (is_plural(noun.split()[0]) or is_plural(noun.split()[-1])) or POINTING.search(noun):
        return
    fronted = asker.fronted
    verb = clause.said
    question = " ".join(f"How many {noun} {verb} {clause.core} {fronted}".split()) + "?"
    if asker.is_good(f"{clause.core} {fronted}") and not THEIRS.search(question):
        yield from asker.asked([question], match["n"])


def _consists_of(asker: Asker) -> Iterator[ProseFact]:
    clause = asker.clause
    match = _OF_WHAT.match(f"{clause.verb} {clause.core}")
    if match and asker.own and not asker.fronted and len(match["a"].split()) <= _MOST_OBJECT:
        question = f"What {clause.auxiliary} {asker.subject} {match['verb']}?"
        if not POINTING.search(match["a"]) and not _BROKEN_OFF.match(clause.after):
            yield from asker.asked([question], match["a"])


def _object(asker: Asker) -> Iterator[ProseFact]:
    """Yields what the subject has, makes, needs, ..."""
    clause, core = asker.clause, asker.clause.core
    if clause.verb == "have" and asker.own and (match := _POPULATION.match(core)):
        verb = "was" if clause.auxiliary == "did" else "is"
        questions = [
            f"What {verb} the population of {asker.subject}?",
            asker.question("How many inhabitants", ""),
        ]
        yield from asker.asked(questions, match["a"])
        return
    if not clause.takes_object or not core or POINTING.search(core.split(" ")[0]):
        return
    first = core.split(" ")[0].lower()
    if (
        first in PREPOSITIONS
        or first.endswith("ly")
        or first in ("in", "up", "out", "off", "away", "back", "down")
    ):
        return
    if len(core.split()) > 12 or clause.core.endswith((" in", " of")):
        return
    if POINTING.search(core) or re.match(r"(?:which|what|who|how|to|that)\b", core):
        return
    if re.search(r"\btimes$|^[\d.,]+$", core) or re.match(r"(?:its|his|her|their) (?:own)?$", core):
        return
    if re.match(r"\w+ing\b", core) or _BROKEN_OFF.match(clause.after):
        return
    if re.match(r"(?:some|several|many|most|certain|everyone|everybody|we|you)\b", asker.subject):
        return
    if clause.verb == "have" and not _NOUN_PHRASE.match(core) and "," not in core:
        return
    yield from asker.asked([asker.question("What", "")], core, most=12)
