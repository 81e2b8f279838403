"""Who is who, as questions: who does it, who has a role, and what a word means."""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from collections.abc import Iterator

from polyprag.augment.prose.asker import Asker
from polyprag.augment.prose.prose_fact import ProseFact
from polyprag.augment.prose.words import (
    AUXILIARIES,
    DETERMINERS,
    NEGATIVE,
    POINTING,
    PRONOUNS,
    VERBS,
)

ROLE = re.compile(
    r"\b(?:head|director|manager|officer|chair(?:man|woman|person)?|president|secretary"
    r"|assistant|leader|speaker|editor"
    r"|owner|founder|author|captain|mayor|minister|coach|doctor|nurse|engineer|inventor|contact"
    r"|deputy|treasurer"
    r"|accountant|lawyer|solicitor|principal|teacher|trainer|cook|chef|clerk|librarian|archivist"
    r"|caretaker|warden"
    r"|coordinator|supervisor|administrator|representative|winner|successor|predecessor|wife"
    r"|husband|father|mother|son"
    r"|daughter|brother|sister|\w+(?:man|woman|keeper)|boss|lead|maintainer|employee|trainee|customer|member)s?\b",
    re.I,
)
_CAPITAL = r"[A-ZÀ-Þ][\w'’-]+"
PERSON = (
    rf"(?:(?:Dr|Mr|Mrs|Ms|Prof)\.? )?{_CAPITAL}(?: (?:de|van|von|der|la|le|[A-Z]\.))*"
    rf"(?: {_CAPITAL}){{1,2}}"
)
# A word of what has two capitals and isn't a person.
_NO_PERSON = re.compile(
    r"\b(?:Academy|America|Area|Awards?|Bay|Board|Bridge|Building|Cathedral|Center|Centre"
    r"|Championships?|Church|City|Club|College|Committee|Company|Corporation|Council|County|Cup"
    r"|Department|District|Division|Empire|Festival|Foundation|Friends|Fund|Games|Group|Hall|Hills?"
    r"|Hospital|House|Institute|Islands?|Junction|Kingdom|Lake|Lane|Law|League|Library|Lock|Medal"
    r"|Mountains?|Museum|Music|Netherlands|Ocean|Office|Olympics|Orchestra|Park|Party|Peninsula"
    r"|Prize|Prefecture|Governorate|Region|Desert|Gulf|Strait|Forest|Castle|Palace|Abbey|Province"
    r"|Records|Republic|River|Road|Room|School|Sea|Series|Service|Society|Square"
    r"|States?|Station|Street|Studios|Supplies|Team|Theatre|Theater|Tower|Trophy|Trust|Union|Unit"
    r"|University|Valley|War|Works)\b"
)
COMPANY = re.compile(r"\b(?:Ltd|Inc|GmbH|Corp|LLC|Co|AG|plc|Labs|Bros)\b")
_HONOURED = re.compile(
    r"(?:Dr|Mr|Mrs|Ms|Prof|Rev|Fr|Capt|Cllr|Sgt|Col|Lt|Sister|Dame|Sir)\.? [A-Z]"
)
_INITIALS = re.compile(r"(?:[A-Z]\. ?)+[A-Z][a-z]")
_HUMAN = frozenset(
    "run lead head manage keep organise organize teach book invent write found direct chair sign"  # noqa: SIM905
    " look plan maintain own"
    " approve answer receive design recommend present report speak order lay propose want decide"
    " train".split()
)
THEIRS = re.compile(r"\b(?:his|her|hers|their|its)\b")
_WHO = re.compile(rf"(?P<a>{PERSON}), who (?P<said>[^,.;:()]+)(?=[,.;]|$)")
_ROLE_AFTER = re.compile(
    rf"(?P<a>{PERSON}),? \(?(?P<role>(?:the |our )(?:(?:new|former|current|first|second|deputy"
    rf"|company) )?[a-z][\w' -]{{2,40}}?"
    rf"(?: (?:of|for) [\w' -]{{2,30}}?)?)(?=[,.;)])"
)
_ROLE_BEFORE = re.compile(
    r"\b(?P<role>(?:[Tt]he|[Oo]ur) (?:[a-z][\w'-]+ ){0,3}[a-z][\w'-]+(?: of (?:the )?[\w'-]+)?), "
    rf"(?P<a>{PERSON})(?=[,.;)])"
)
_ROLE_WORD = re.compile(
    r"\b(?:head|director|manager|officer|chair|president|secretary|assistant|leader|speaker"
    r"|editor|owner|founder|captain|mayor"
    r"|minister|coach|doctor|nurse|engineer|deputy|treasurer|accountant|lawyer|solicitor|teacher"
    r"|trainer|cook|chef|librarian"
    r"|archivist|caretaker|coordinator|supervisor|administrator|representative|physician"
    r"|designer|architect)\b"
)
# An explanation that is a sentence of its own explains no word.
_SAYS = re.compile(
    r"(?:(?!\b(?:which|who|that|where|when|whose)\b)[^.;])*?"
    r"\b(?:is|are|was|were|has been|have been|can|may|must|will)\b"
)
_FINITE = frozenset(word for word, verb in VERBS.items() if verb.do != "do")
_TERM = re.compile(
    r"^(?P<term>[A-Z][\w'’ -]{2,30})\. (?P<a>(?:An?|The|Short for|Another (?:word|name) for"
    r"|Working name of|What|Somebody|Someone|Whoever) [^.;:]+)\.(?= |$)"
)


def names_person(name: str) -> bool:
    """Tells whether a name looks like a person's: "Dr. Lund", "J. B. Lund", "Ada Lund"."""
    looks_so = _HONOURED.match(name) or _INITIALS.match(name) or re.fullmatch(PERSON, name)
    return looks_so is not None and not re.search(rf"\d|{_NO_PERSON.pattern}", name)


def person_subject(asker: Asker) -> Iterator[ProseFact]:
    """Yields who it is that does something."""
    clause = asker.clause
    if not re.fullmatch(PERSON, clause.subject) or not asker.is_good(
        f"{clause.core} {asker.fronted}"
    ):
        return
    if clause.is_being:
        is_theirs = bool(ROLE.search(clause.core)) or clause.core.startswith("responsible for ")
        is_theirs = is_theirs and not re.match(r"(?:an?|one) ", clause.core)
    else:
        is_theirs = clause.verb in _HUMAN
    if is_theirs and not THEIRS.search(clause.core):
        question = f"Who {clause.said} {clause.core} {asker.fronted}".strip() + "?"
        yield from asker.asked([question], clause.subject, in_question=True)


def asked_of_names(sentence: str) -> Iterator[ProseFact]:
    """Yields who does what, by relative clauses, and who has which role, by appositions."""
    for match in _WHO.finditer(sentence):
        said = match["said"].strip()
        first = said.split(" ")[0]
        words = len(said.split())
        if (
            first not in AUXILIARIES
            and first not in VERBS
            and not first.endswith("s")
            and not first.endswith("ed")
        ):
            continue
        if 2 <= words <= 14 and not POINTING.search(said) and not NEGATIVE.search(said):
            yield ProseFact(
                (f"Who {said}?", f"What is the name of the person who {said}?"),
                match["a"],
                sentence,
            )
    for role, person in _roles(sentence):
        yield ProseFact((f"Who is {role}?", f"What is the name of {role}?"), person, sentence)


def _roles(sentence: str) -> Iterator[tuple[str, str]]:
    """Yields roles and who has them, from left to right.

    Whoever is told belongs to one role: of "the chair, Ann Lee, the cook, Bob Ray", Ann Lee is no
    cook.
    """
    at = 0
    while True:
        found = [
            match
            for pattern in (_ROLE_AFTER, _ROLE_BEFORE)
            if (match := pattern.search(sentence, at))
        ]
        if not found:
            return
        match = min(found, key=lambda each: each.start())
        role = match["role"][:1].lower() + match["role"][1:]
        is_clause = any(word in AUXILIARIES or word in _FINITE for word in role.split())
        at = match.start() + 1 if is_clause else match.end()
        if _ROLE_WORD.search(role) and not POINTING.search(role) and not is_clause:
            yield role, match["a"]


def asked_of_term(line: str) -> Iterator[ProseFact]:
    """Yields what a line of a glossary explains: `Red tag. A label which ...`."""
    match = _TERM.match(line)
    if not match or len(match["term"].split()) > 3 or len(match["a"].split()) > 20:
        return
    words = match["term"].lower().split()
    if any(word in AUXILIARIES or word in VERBS for word in words[:1]) or POINTING.search(
        match["a"].split(" ")[0]
    ):
        return
    is_clause = any(
        word in AUXILIARIES or (word in VERBS and (at or VERBS[word].do != "do"))
        for at, word in enumerate(words)
    )
    if (
        NEGATIVE.search(match["term"])
        or _SAYS.match(match["a"])
        or is_clause
        or words[0] in PRONOUNS | DETERMINERS
    ):
        return
    term = match["term"]
    yield ProseFact(
        (
            f'What is meant by "{term}"?',
            f'What does "{term}" mean?',
            f'What does the word "{term}" stand for?',
        ),
        match["a"],
        line,
        is_named=True,
    )
