"""Who is who: persons with a relative clause or a role, and words with their meanings."""

import re
from collections.abc import Iterator

from polyprag.augment.prose.asked import Asked
from polyprag.augment.prose.turned import PERSON
from polyprag.augment.prose.words import (
    AUXILIARIES,
    DETERMINERS,
    NEGATIVE,
    POINTING,
    PRONOUNS,
    VERBS,
)

_WHO = re.compile(rf"(?P<a>{PERSON}), who (?P<said>[^,.;:()]+)(?=[,.;]|$)")
_ROLE_AFTER = re.compile(
    rf"(?P<a>{PERSON}),? \(?(?P<role>(?:the |our )(?:(?:new|former|current|first|second|deputy|company) )?[a-z][\w' -]{{2,40}}?"
    rf"(?: (?:of|for) [\w' -]{{2,30}}?)?)(?=[,.;)])"
)
_ROLE_BEFORE = re.compile(
    rf"\b(?P<role>(?:[Tt]he|[Oo]ur) (?:[a-z][\w'-]+ ){{0,3}}[a-z][\w'-]+(?: of (?:the )?[\w'-]+)?), (?P<a>{PERSON})(?=[,.;)])"
)
_ROLE_WORD = re.compile(
    r"\b(?:head|director|manager|officer|chair|president|secretary|assistant|leader|speaker|editor|owner|founder|captain|mayor"
    r"|minister|coach|doctor|nurse|engineer|deputy|treasurer|accountant|lawyer|solicitor|teacher|trainer|cook|chef|librarian"
    r"|archivist|caretaker|coordinator|supervisor|administrator|representative|physician|designer|architect)\b"
)
_TERM = re.compile(r"^(?P<term>[A-Z][\w'’ -]{2,30})\. (?P<a>(?:An?|The|[A-Z][a-z]+s?) [^.;:]+)\.(?= |$)")  # noqa: RUF001


def asked_of_names(sentence: str) -> Iterator[Asked]:
    """Yields who does what, by relative clauses, and who has which role, by appositions."""
    for match in _WHO.finditer(sentence):
        said = match["said"].strip()
        first = said.split(" ")[0]
        words = len(said.split())
        if first not in AUXILIARIES and first not in VERBS and not first.endswith("s") and not first.endswith("ed"):
            continue
        if 2 <= words <= 14 and not POINTING.search(said) and not NEGATIVE.search(said):
            yield Asked((f"Who {said}?", f"What is the name of the person who {said}?"), match["a"], sentence)
    for pattern in (_ROLE_AFTER, _ROLE_BEFORE):
        for match in pattern.finditer(sentence):
            role = match["role"][:1].lower() + match["role"][1:]
            if _ROLE_WORD.search(role) and not POINTING.search(role):
                yield Asked((f"Who is {role}?", f"What is the name of {role}?"), match["a"], sentence)


def asked_of_term(line: str) -> Iterator[Asked]:
    """Yields what a line of a glossary explains: `Red tag. A label which ...`."""
    match = _TERM.match(line)
    if not match or len(match["term"].split()) > 4 or len(match["a"].split()) > 20:
        return
    words = match["term"].lower().split()
    if any(word in AUXILIARIES or word in VERBS for word in words[:1]) or POINTING.search(match["a"].split(" ")[0]):
        return
    is_clause = any(word in AUXILIARIES or (word in VERBS and VERBS[word].do != "do") for word in words)
    if NEGATIVE.search(match["term"]) or is_clause or words[0] in PRONOUNS | DETERMINERS:
        return
    term = match["term"]
    yield Asked(
        (f'What is meant by "{term}"?', f'What does "{term}" mean?', f'What does the word "{term}" stand for?'),
        match["a"],
        line,
        is_named=True,
    )
