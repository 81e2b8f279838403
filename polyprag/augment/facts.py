"""The lead facts of an encyclopaedic passage, read off its first sentences by patterns.

Lead paragraphs follow a few conventions ("NAME (born DATE in PLACE) is a NATIONALITY JOB ..."), so
a handful of patterns finds what such a passage is mostly asked about. Every answer is a span of the
passage, or nearly one; nothing comes from anywhere else.
"""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from dataclasses import dataclass

from polyprag.augment.fact_patterns import (
    BORN_DATE,
    BORN_PLACE,
    DESCRIPTION_END,
    DIED_DATE,
    DIED_PLACE,
    DIRECTOR,
    DIRECTOR_VARIANT,
    FIELDS,
    FILM,
    FORMER,
    FOUNDED,
    LEAD_VERB,
    LEADING_NATIONALITY,
    LIST_SPLIT,
    LOCATED,
    MONTHS,
    NATIONALITY,
    OF_ANOTHER,
    ORIGIN,
    PLAYS_FOR,
    POSITION,
    PREDICATE_END,
    PROFESSION,
    PROFESSION_OF_PERSON,
    STARRING,
    STUDIED,
    WORK_YEAR,
    WRITER,
)
from sharding.corpus.passages import Passage

_HE = re.compile(r"(?:^|[.!?] )(?:\w+ [^.]{0,40}, )?(?:He|She|he|she|His|Her) ")


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that the passage says of its subject.

    Attributes:
        kind: what is said, a key of `polyprag.augment.phrasings.PHRASINGS`.
        value: the answer, as the passage words it.
    """

    kind: str
    value: str


def subject_name(title: str) -> str:
    """Drops a title's disambiguation: "Joe English (loyalist)" gives "Joe English"."""
    return re.sub(r"\s*\([^()]*\)\s*$", "", title).strip() or title.strip()


def tidy(text: str) -> str:
    """Returns the text on one line, with the spacing around brackets and hyphens put right."""
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"(\w)\( ?", r"\1 (", text)
    text = re.sub(r"\(\s+", "(", text)
    text = re.sub(r"(\w)- (\w)", r"\1-\2", text)
    return text.strip()


def _first(patterns: tuple[re.Pattern[str], ...], text: str) -> str | None:
    for pattern in patterns:
        match = pattern.search(text)
        if match:
            return match.group(1)
    return None


def _clean_place(place: str | None, subject: str = "") -> str | None:
    if place is None:
        return None
    pieces = place.split(", ")
    while len(pieces) > 1 and pieces[-1] in subject.split():
        pieces.pop()  # "Born in Rathmore, Crowley was ..."
    place = ", ".join(pieces)
    place = re.sub(r"[.,;]+$", "", place.strip())
    place = re.split(r"(?<!\bSt)\. ", place)[0]
    place = re.sub(rf",?(?: on)? (?:{MONTHS})$", "", place)  # "born in Turin August 22, 1845"
    place = re.sub(r", [A-Z]$", "", place)  # of "Washington, D.C."
    # A date or a sentence's next subject is not a part of the place.
    parts = [
        part for part in place.split(", ") if not re.match(rf"(?:{MONTHS})\b|He$|She$|Born$", part)
    ]
    place = ", ".join(parts)
    if len(place) < 2 or re.fullmatch(rf"(?:{MONTHS})(?: \d+)?|He|She|It|The", place):
        return None
    return place


def _sentences(text: str) -> list[str]:
    pieces = re.split(r"(?<=[a-z0-9)\]\"’'][.!?]) (?=[A-Z\"(])|\n+", text)
    return [piece.strip() for piece in pieces if piece.strip()]


def _about(name: str, sentences: list[str]) -> list[str]:
    """Returns the first sentence, and those behind it that begin with no other subject than it."""
    names = set(re.findall(r"\w+", name))
    others = [OF_ANOTHER.match(sentence) for sentence in sentences[1:]]
    return sentences[:1] + [
        sentence
        for sentence, other in zip(sentences[1:], others, strict=True)
        if other is None or not names.isdisjoint(re.findall(r"\w+", other["name"] or ""))
    ]


def _is_person(opening: str, lead: str, paren: str, predicate: str | None) -> bool:
    if re.search(r"\b(?:born|died)\b|\bd\. ?\d|(?<!\d)\d{4}[^()]{0,40}[–—-] ?[^()]*\d{3,4}", paren):
        return True
    kinds = LIST_SPLIT.split(_noun_phrase(predicate)) if predicate else []
    if any(map(PROFESSION.search, kinds)):
        return True
    # A lever that a keeper holds is nobody, whoever is born in the sentences behind it.
    is_name = not re.match(r"(?:The|An?) ", lead)
    words = r"\b(?:He|She|his|her|who|whose|born)\b"
    return is_name and bool(
        re.search(words if any(map(PROFESSION_OF_PERSON.search, kinds)) else _HE, opening)
    )


def _predicate(sentence: str) -> str | None:
    """Returns what the lead sentence says the subject is: the noun phrase after "is a"."""
    match = LEAD_VERB.search(sentence)
    return sentence[match.end() :].strip() or None if match else None


def _without_parens(text: str) -> str:
    previous = None
    while previous != text:
        previous, text = text, re.sub(r"\s*\([^()]*\)", "", text)
    return text


def _noun_phrase(predicate: str) -> str:
    """Returns the predicate up to where its noun phrase ends."""
    end = PREDICATE_END.search(" " + predicate)
    phrase = (" " + predicate)[: end.start()] if end else predicate
    return phrase.strip(" ,")


def _person_facts(
    predicate: str | None, lead: str, paren: str, text: str, subject: str
) -> list[Fact]:
    facts: list[Fact] = []
    if predicate:
        predicate = FORMER.sub("", predicate)
        nationality = LEADING_NATIONALITY.match(predicate)
        rest = predicate[nationality.end() :].strip(" ,-") if nationality else predicate
        phrase = _noun_phrase(FORMER.sub("", rest))
        jobs = _whole_jobs([FORMER.sub("", job.strip()) for job in LIST_SPLIT.split(phrase)])
        jobs = [
            job
            for job in jobs
            if len(job.split()) <= 5
            and (PROFESSION.search(job) or PROFESSION_OF_PERSON.search(job))
        ]
        if jobs:
            facts.append(Fact("occupation", jobs[0]))
        if nationality:
            facts.append(Fact("nationality", nationality.group(0)))
        if len(jobs) > 1:
            facts.append(Fact("occupations", _join(jobs)))
    born_place = _clean_place(_first(BORN_PLACE, paren) or _first(BORN_PLACE, text), subject)
    died_place = _clean_place(_first(DIED_PLACE, paren) or _first(DIED_PLACE, text), subject)
    born_date = _first(BORN_DATE, paren) or _first(BORN_DATE[::2], text)
    died_date = _first(DIED_DATE, paren) or _first(DIED_DATE[2:], text)
    if born_place:
        facts.insert(0, Fact("born_place", born_place))
    elif origin := _clean_place(_first(ORIGIN, lead), subject):
        facts.insert(0, Fact("origin", origin))
    if born_date:
        facts.append(Fact("born_date", born_date))
    if died_date and died_date != born_date:
        facts.append(Fact("died_date", died_date))
    if died_place:
        facts.append(Fact("died_place", died_place))
    for kind, pattern in (("team", PLAYS_FOR), ("position", POSITION), ("studied", STUDIED)):
        match = pattern.search(text)
        if match:
            facts.append(Fact(kind, match.group(1).strip(" .,")))
    return facts


def _whole_jobs(jobs: list[str]) -> list[str]:
    """Puts "film, stage actor" right: a bare field takes the head of the next whole job."""
    whole = []
    for index, job in enumerate(jobs):
        head = next((later for later in jobs[index:] if later.lower() not in FIELDS), job)
        whole.append(job if head == job else f"{job} {head.split()[-1]}")
    return whole


def _join(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def _work_facts(predicate: str, text: str) -> list[Fact]:
    """Facts of a film, song, book or album."""
    facts: list[Fact] = []
    director = DIRECTOR_VARIANT.search(text) or DIRECTOR.search(text)
    if director:
        facts.append(Fact("director", director.group(1).strip(" .,")))
    year = WORK_YEAR.search(predicate) or WORK_YEAR.search(text)
    if year:
        facts.append(Fact("year", year.group(1)))
    country = re.search(rf"\b({NATIONALITY}(?:-{NATIONALITY})*)\b", predicate)
    if country:
        facts.append(Fact("work_country", country.group(1)))
    starring = STARRING.search(text)
    if starring:
        facts.append(Fact("starring", starring.group(1).strip(" .,")))
    writer = WRITER.search(text)
    if writer:
        facts.append(Fact("writer", writer.group(1).strip(" .,")))
    return facts


def _thing_facts(text: str) -> list[Fact]:
    """Facts of a place or an organisation."""
    facts: list[Fact] = []
    located = LOCATED.search(text)
    place = _clean_place(located.group(1)) if located else None
    if place and not re.fullmatch(NATIONALITY, place):  # "a city in the Dutch province of ..."
        facts.append(Fact("located", place))
    founded = FOUNDED.search(text)
    if founded:
        facts.append(Fact("founded", founded.group(1)))
    return facts


def extract_facts(passage: Passage) -> list[Fact]:
    """Returns the lead facts, most asked-about first, each kind at most once.

    Args:
        passage: any passage; a title that names its subject helps.

    Returns:
        Facts in a fixed order; empty for a passage that matches no pattern.
    """
    text = tidy(passage.text)
    sentences = _sentences(text)
    if not sentences:
        return []
    opening = " ".join(_about(subject_name(passage.title), sentences[:4]))
    # The lead is split off without its brackets, which are full of abbreviations.
    lead = next(iter(_sentences(_without_parens(text))), "")  # all of a text may be in brackets
    paren_match = re.search(
        r"\(((?:[^()]|\([^()]*\))*\d{3,4}(?:[^()]|\([^()]*\))*)\)", opening[:400]
    )
    paren = paren_match.group(0) if paren_match else ""
    predicate = _predicate(lead)
    facts: list[Fact] = []
    if (
        predicate
        and FILM.search(_noun_phrase_of_work(predicate))
        and not re.search(r"\bborn\b", paren)
    ):
        facts = _work_facts(predicate, opening)
    elif _is_person(opening, lead, paren, predicate):
        facts = _person_facts(predicate, lead, paren, opening, passage.title)
    else:
        facts = _thing_facts(opening)
        if predicate and re.search(
            r"\b(?:song|single|album|novel|book|EP|series|game|play|opera)\b", predicate
        ):
            facts = _work_facts(predicate, opening) + facts
    if predicate and not any(fact.kind == "occupation" for fact in facts):
        phrase = " ".join(predicate.split(",")[0].split()[:12])
        phrase = DESCRIPTION_END.split(phrase)[0].strip(" ,")
        if len(phrase.split()) >= 1 and re.search(r"[a-z]{3}", phrase):
            facts.append(Fact("description", phrase))
    return [fact for fact in facts if 1 <= len(fact.value) <= 90]


def _noun_phrase_of_work(predicate: str) -> str:
    """Up to the words that end a film's description; persons ("a film director") don't count."""
    phrase = re.split(
        r" (?:directed|starring|written|produced|released|by|who|from|about|based)\b|[.;]",
        predicate,
    )[0]
    if re.search(
        r"\b(?:actor|actress|director|producer|writer|screenwriter|editor|critic|composer|maker|star|player|"
        r"singer|artist|musician|comedian|author|filmmaker|dancer|politician|journalist)\b",
        phrase,
    ):
        return ""
    return phrase
