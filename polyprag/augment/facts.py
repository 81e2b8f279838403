"""The lead facts of an encyclopaedic passage, read off its first sentences by patterns.

Lead paragraphs follow a few conventions ("NAME (born DATE in PLACE) is a NATIONALITY OCCUPATION ..."),
so a handful of patterns finds what such a passage is mostly asked about. Every answer is a span of
the passage, or nearly one; nothing comes from anywhere else.
"""

import re
from dataclasses import dataclass

from sharding.passages import Passage

MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
DATE = rf"(?:\d{{1,2}} (?:{MONTHS}),? \d{{3,4}}|(?:{MONTHS}) \d{{1,2}}, ?\d{{4}}|(?:{MONTHS}) \d{{4}}|\d{{4}})"
# A capitalised place: "Durant, Iowa", "Saint Philip, Barbados", "Linz an der Donau".
_CAP = r"(?:[A-Z]\.|St\.|Jr\.|[A-ZÀ-ÞĀ-Ž][\w'’\-]*)"
_LINK = r"(?:de|del|della|di|da|do|dos|la|le|las|los|der|den|an|am|of|the|upon|on|sur|en|al|el|y|und|im|in der)"
_NAME = rf"{_CAP}(?: (?:{_LINK} )*{_CAP})*"
PLACE = rf"{_NAME}(?:, {_NAME}){{0,3}}"

_NATIONALITY_ENDINGS = (
    "Afghan|Albanian|Algerian|American|Andorran|Angolan|Argentine|Argentinian|Argentinean|Armenian|"
    "Australian|Austrian|Azerbaijani|Bahraini|Bangladeshi|Barbadian|Bavarian|Belarusian|Belgian|"
    "Bengali|Bolivian|Bosnian|Brazilian|British|Bulgarian|Burmese|Byzantine|Cambodian|Cameroonian|"
    "Canadian|Catalan|Chilean|Chinese|Colombian|Congolese|Cornish|Costa Rican|Croatian|Cuban|Cypriot|"
    "Czech|Czechoslovak|Danish|Dominican|Dutch|Ecuadorian|Egyptian|English|Estonian|Ethiopian|"
    "Faroese|Fijian|Filipino|Finnish|Flemish|French|Galician|Georgian|German|Ghanaian|Greek|"
    "Guatemalan|Haitian|Honduran|Hungarian|Icelandic|Indian|Indonesian|Iranian|Iraqi|Irish|Israeli|"
    "Italian|Ivorian|Jamaican|Japanese|Jordanian|Kazakh|Kazakhstani|Kenyan|Korean|Kosovar|Kuwaiti|"
    "Kyrgyzstani|Latvian|Lebanese|Liberian|Libyan|Lithuanian|Luxembourgish|Macedonian|Malaysian|"
    "Malian|Maltese|Manx|Mexican|Moldovan|Mongolian|Montenegrin|Moroccan|Mozambican|Namibian|Nepalese|"
    "Nepali|New Zealand|Nicaraguan|Nigerian|Northern Irish|Norwegian|Ottoman|Pakistani|Palestinian|"
    "Panamanian|Paraguayan|Persian|Peruvian|Polish|Portuguese|Prussian|Puerto Rican|Qatari|Romanian|"
    "Roman|Russian|Rwandan|Salvadoran|Samoan|Saudi Arabian|Saudi|Scottish|Senegalese|Serbian|"
    "Sierra Leonean|Singaporean|Slovak|Slovene|Slovenian|Somali|South African|South Korean|"
    "North Korean|Soviet|Spanish|Sri Lankan|Sudanese|Swedish|Swiss|Syrian|Taiwanese|Tamil|Tanzanian|"
    "Thai|Tibetan|Tongan|Trinidadian|Tunisian|Turkish|Ugandan|Ukrainian|Uruguayan|Uzbek|Uzbekistani|"
    "Venezuelan|Venetian|Vietnamese|Welsh|West Indian|Yugoslav|Zambian|Zimbabwean"
)
NATIONALITY = rf"(?:{_NATIONALITY_ENDINGS})"
_NATIONALITIES = re.compile(
    rf"^(?:{NATIONALITY}|[A-Z]\w+)-born {NATIONALITY}(?:[- ]{NATIONALITY})*\b"
    rf"|^(?!American football){NATIONALITY}(?:(?:-| and |/| ){NATIONALITY})*\b"
)

_LEAD_VERB = re.compile(
    r"\b(?:is|was|are|were) (?:an?|the|one of the)(?: (?:former|retired|late))* ", re.I
)
_PREDICATE_END = re.compile(
    r"[.;:()\"]| who\b| which\b| that\b| whose\b| best known\b| known\b| born\b| notable\b| famous\b"
    r"| and (?:is|was|he|she|the|an?|one|who|member|current|former)\b| from\b| in the\b| of the\b| of\b"
    r"| for\b| by\b| with\b| in\b| at\b| on\b| to\b| based\b| active\b| during\b| currently\b| playing\b"
    r"| directed\b| written\b| starring\b| produced\b| released\b| located\b| as\b| under\b| currently\b"
)
_LIST_SPLIT = re.compile(r", and |,| and | & |/")
_FORMER = re.compile(
    r"^(?:(?:former|retired|late|professional|noted|prominent|famous|award-winning|"
    r"male|female|well-known|well known|internationally known|leading|influential|renowned|celebrated|amateur|current|"
    r"an?|the|also) )+",
    re.I,
)
_FILM = re.compile(
    r"\b(film|movie|short|documentary|comedy|drama|thriller|western|musical|serial|melodrama)\b",
    re.I,
)
_WORK_YEAR = re.compile(r"\b(1[89]\d\d|20[012]\d)\b")
_PERSON_NAMES = rf"{_CAP}(?: (?:(?:de|von|van|del|di|da|la|le|ter|der|al|bin|ibn|el) )*{_CAP})*"
_PEOPLE = rf"{_PERSON_NAMES}(?: and {_PERSON_NAMES})?"

_BORN_PLACE = (
    re.compile(
        rf"\b(?:born|Born)(?: and raised| and brought up| and died)?(?: on)?,?(?: {DATE},?)?"
        rf"(?: to [a-z ]+?)? (?:in|at|near) (?:the (?:city|town|village|rural area) of )?({PLACE})"
    ),
    re.compile(rf"\bborn (?:on )?{DATE} ?,? (?!in )({PLACE})"),
    re.compile(rf"\bborn ({_NAME}, {PLACE}), {DATE}"),
    re.compile(rf"\bborn [\w ]+, {DATE} in ({PLACE})"),
    re.compile(rf"\(\s*(?:c\. )?{DATE},? (?:in )?({PLACE})\s*[–—,-]"),
    re.compile(rf"\(\s*({PLACE}),? (?:c\. )?{DATE}\s*[–—-]"),
)
_ORIGIN = (
    re.compile(rf"\b(?:a|the) native of (?:the )?({PLACE})"),
    re.compile(rf"\bfrom ({PLACE})"),
)
_DIED_PLACE = (
    re.compile(rf"\bdied (?:on |in )?(?:{DATE},? )?(?:in|at) ({PLACE})"),
    re.compile(rf"[–—-] ?(?:c\. )?{DATE},? (?:in )?({PLACE})\s*\)"),
)
_BORN_DATE = (
    re.compile(rf"\b[Bb]orn(?: on| in)?(?: c\.)? ({DATE})"),
    re.compile(rf"[(;,]\s*(?:c\. )?({DATE})[^()–—]{{0,40}}\s*[–—-]+ ?"),
    re.compile(rf"\b[Bb]orn (?:[A-Z][\w' -]*[;,] |(?:in|at) {PLACE},? )(?:on |in )?({DATE})"),
)
_DIED_DATE = (
    re.compile(rf"[–—-]+ ?(?:c\. ?)?({DATE})[^()]{{0,40}}\)"),
    re.compile(rf"[–—-]+ ?{PLACE},? ({DATE})\s*\)"),
    re.compile(rf"\bdied(?: on| in)?(?: c\.)? ({DATE})"),
    re.compile(rf"\(\s*d\.? ({DATE})"),
)
_DIRECTOR = re.compile(
    rf"\b[Dd]irect(?:ed|or|ion)(?:,? (?:and )?(?:co-)?(?:written|produced|edited|shot))*,? by ({_PEOPLE})"
)
_DIRECTOR_VARIANT = re.compile(rf"\b(?:written|produced),? (?:and|&) directed by ({_PEOPLE})")
_STARRING = re.compile(rf"\b(?:starring|stars|starred|featuring) ({_PERSON_NAMES})")
_WRITER = re.compile(rf"\bwritten by ({_PEOPLE})")
_LOCATED = re.compile(
    rf"\b(?:located|situated|based|headquartered|lies|village|town|city|municipality|commune|settlement|"
    rf"district|suburb|county|river|mountain|lake|school|university|college|station|church|hotel)"
    rf"(?: [a-z]+){{0,4}}? (?:in|on|near) (?:the )?(?:[a-z\-]+ (?:of|in) )?(?:the )?({PLACE})"
)
_FOUNDED = re.compile(
    rf"\b(?:founded|established|opened|built|formed|incorporated|launched|created)(?: [a-z]+){{0,2}} (?:in|on) ({DATE})"
)
_PLAYS_FOR = re.compile(
    rf"\b(?:plays|played|playing|pitched|appeared) (?:[a-z\- ]+? )?for (?:the )?({_NAME})"
)
_POSITION = re.compile(r"\b(?:plays|played|playing) as an? ([a-z\- ]+?)(?: for| in|[.,;])")
_STUDIED = re.compile(
    rf"\b(?:studied|educated|graduated|attended|degree)(?: [a-z]+){{0,4}}? (?:at|from|the)? ?(?:the )?({_NAME})"
)
_DESCRIPTION_END = re.compile(
    r"[.;]| which\b| that\b| who\b| directed\b| written\b| starring\b| produced\b| released\b"
    r"| developed\b| and$| by$| in$| of$| for$| the$"
)
_FIELDS = frozenset(
    "film stage television theatre theater radio tv broadway drum rock pop jazz folk country opera "
    "screen theatrical voice r&b track silent baseball football".split()
)
_PERSON_WORD = re.compile(
    r"\b(?:\w+(?:er|or|ist|ian|man|woman|eur|ress)|athlete|poet|judge|saint|nun|monk|king|queen|duke|"
    r"prince|princess|bishop|general|engineer|cyclist|chef|priest|rabbi|artist|model|mayor)s?$"
)


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
    """The title without its disambiguation: "Joe English (loyalist)" is asked for as "Joe English"."""
    return re.sub(r"\s*\([^()]*\)\s*$", "", title).strip() or title.strip()


def tidy(text: str) -> str:
    """The text on one line, with the spacing around brackets and hyphens put right."""
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
    place = re.split(r"\. ", place)[0]
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


def _is_person(opening: str, paren: str, predicate: str | None) -> bool:
    return bool(
        re.search(r"\b(?:born|died)\b|\bd\. ?\d|(?<!\d)\d{4}[^()]{0,40}[–—-] ?[^()]*\d{3,4}", paren)
        or re.search(r"\b(?:He|She|his|her|who|whose)\b", opening)
        or (
            predicate and _PERSON_WORD.search(_LIST_SPLIT.split(_noun_phrase(predicate))[0].strip())
        )
    )


def _predicate(sentence: str) -> str | None:
    """What the lead sentence says the subject is: the noun phrase after "is a"."""
    match = _LEAD_VERB.search(sentence)
    return sentence[match.end() :].strip() or None if match else None


def _without_parens(text: str) -> str:
    previous = None
    while previous != text:
        previous, text = text, re.sub(r"\s*\([^()]*\)", "", text)
    return text


def _noun_phrase(predicate: str) -> str:
    """The predicate up to where its noun phrase ends."""
    end = _PREDICATE_END.search(" " + predicate)
    phrase = (" " + predicate)[: end.start()] if end else predicate
    return phrase.strip(" ,")


def _person_facts(
    predicate: str | None, lead: str, paren: str, text: str, subject: str
) -> list[Fact]:
    facts: list[Fact] = []
    if predicate:
        predicate = _FORMER.sub("", predicate)
        nationality = _NATIONALITIES.match(predicate)
        rest = predicate[nationality.end() :].strip(" ,-") if nationality else predicate
        phrase = _noun_phrase(_FORMER.sub("", rest))
        jobs = _whole_jobs([_FORMER.sub("", job.strip()) for job in _LIST_SPLIT.split(phrase)])
        jobs = [
            job
            for job in jobs
            if len(job.split()) <= 5 and re.search(r"[a-z]{3}", job) and not job.endswith("ly")
        ]
        if jobs:
            facts.append(Fact("occupation", jobs[0]))
        if nationality:
            facts.append(Fact("nationality", nationality.group(0)))
        if len(jobs) > 1:
            facts.append(Fact("occupations", _join(jobs)))
    born_place = _clean_place(_first(_BORN_PLACE, paren) or _first(_BORN_PLACE, text), subject)
    died_place = _clean_place(_first(_DIED_PLACE, paren) or _first(_DIED_PLACE, text), subject)
    born_date = _first(_BORN_DATE, paren) or _first(_BORN_DATE[::2], text)
    died_date = _first(_DIED_DATE, paren) or _first(_DIED_DATE[2:], text)
    if born_place:
        facts.insert(0, Fact("born_place", born_place))
    elif origin := _clean_place(_first(_ORIGIN, lead), subject):
        facts.insert(0, Fact("origin", origin))
    if born_date:
        facts.append(Fact("born_date", born_date))
    if died_date and died_date != born_date:
        facts.append(Fact("died_date", died_date))
    if died_place:
        facts.append(Fact("died_place", died_place))
    for kind, pattern in (("team", _PLAYS_FOR), ("position", _POSITION), ("studied", _STUDIED)):
        match = pattern.search(text)
        if match:
            facts.append(Fact(kind, match.group(1).strip(" .,")))
    return facts


def _whole_jobs(jobs: list[str]) -> list[str]:
    """Puts "film, stage actor" right: a bare field takes the head of the next whole job."""
    whole = []
    for index, job in enumerate(jobs):
        head = next((later for later in jobs[index:] if later.lower() not in _FIELDS), job)
        whole.append(job if head == job else f"{job} {head.split()[-1]}")
    return whole


def _join(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def _work_facts(predicate: str, text: str) -> list[Fact]:
    """Facts of a film, song, book or album."""
    facts: list[Fact] = []
    director = _DIRECTOR_VARIANT.search(text) or _DIRECTOR.search(text)
    if director:
        facts.append(Fact("director", director.group(1).strip(" .,")))
    year = _WORK_YEAR.search(predicate) or _WORK_YEAR.search(text)
    if year:
        facts.append(Fact("year", year.group(1)))
    country = re.search(rf"\b({NATIONALITY}(?:-{NATIONALITY})*)\b", predicate)
    if country:
        facts.append(Fact("work_country", country.group(1)))
    starring = _STARRING.search(text)
    if starring:
        facts.append(Fact("starring", starring.group(1).strip(" .,")))
    writer = _WRITER.search(text)
    if writer:
        facts.append(Fact("writer", writer.group(1).strip(" .,")))
    return facts


def _thing_facts(text: str) -> list[Fact]:
    """Facts of a place or an organisation."""
    facts: list[Fact] = []
    located = _LOCATED.search(text)
    place = _clean_place(located.group(1)) if located else None
    if place:
        facts.append(Fact("located", place))
    founded = _FOUNDED.search(text)
    if founded:
        facts.append(Fact("founded", founded.group(1)))
    return facts


def extract_facts(passage: Passage) -> list[Fact]:
    """The lead facts, most asked-about first, each kind at most once.

    Args:
        passage: any passage; a title that names its subject helps.

    Returns:
        Facts in a fixed order; empty for a passage that matches no pattern.
    """
    text = tidy(passage.text)
    sentences = _sentences(text)
    if not sentences:
        return []
    opening = " ".join(sentences[:4])
    # The lead is split off without its brackets, which are full of abbreviations.
    lead = _sentences(_without_parens(text))[0]
    paren_match = re.search(
        r"\(((?:[^()]|\([^()]*\))*\d{3,4}(?:[^()]|\([^()]*\))*)\)", opening[:400]
    )
    paren = paren_match.group(0) if paren_match else ""
    predicate = _predicate(lead)
    facts: list[Fact] = []
    if (
        predicate
        and _FILM.search(_noun_phrase_of_work(predicate))
        and not re.search(r"\bborn\b", paren)
    ):
        facts = _work_facts(predicate, opening)
    elif _is_person(opening, paren, predicate):
        facts = _person_facts(predicate, lead, paren, opening, passage.title)
    else:
        facts = _thing_facts(opening)
        if predicate and re.search(
            r"\b(?:song|single|album|novel|book|EP|series|game|play|opera)\b", predicate
        ):
            facts = _work_facts(predicate, opening) + facts
    if predicate and not any(fact.kind == "occupation" for fact in facts):
        phrase = " ".join(predicate.split(",")[0].split()[:12])
        phrase = _DESCRIPTION_END.split(phrase)[0].strip(" ,")
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
