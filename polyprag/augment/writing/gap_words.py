"""The question words that take a span's place: "37 hours" is asked for by "how many hours"."""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from typing import NamedTuple

from polyprag.augment.fact_patterns import MONTHS
from polyprag.augment.prose.cutting import is_participle
from polyprag.augment.prose.patterns import MEASURES, NO_PLACE, TIME_UNIT
from polyprag.augment.prose.roles import COMPANY, names_person
from polyprag.augment.prose.words import ADVERBS, AUXILIARIES, PARTICIPLES, VERBS, is_plural
from polyprag.augment.writing.finished import SMALL_WORDS

_PREPOSITION = re.compile(
    r"\b(?P<word>on|in|at|by|until|till|from|since|before|after|for|within|to)(?: the)? $", re.I
)
_REASON = re.compile(r"\b(?:because|so that|in order to) $", re.I)
_CONDITION = re.compile(r"\b(?:only )?(?:if|when|whenever|provided that) $", re.I)
_FEWEST_OF_CLAUSE = 2
_DUTY = re.compile(r"\b(?:must|should|may|cannot|required to)(?: not)?(?P<be> be)? $", re.I)
# What follows is what something isn't tied to, or what ends it.
_EXCEPTION = re.compile(
    r"\b(?:unless|(?:even|except|not|as|than|especially|particularly|say) (?:if|when|though|before"
    r"|after|until|because|by)|although|though) $",
    re.I,
)
_ARTICLE = re.compile(r"\b(?:an?|the) $", re.I)
_OF_SOMEBODY = re.compile(
    r"\b(?:my|your|our|his|her|its|their|each|every|this|that|last|next) $", re.I
)
_GIVEN = re.compile(
    r"\b(?:receive|got|get|obtain|hear|order|borrow|buy|bought)\w* (?:\w+ ){0,2}from $"
)
_OF_A_PLACE = re.compile(
    r"\b(?:from|in|at|on|within|near|since|around|along|over|through|across|behind|past|beyond)"
    r"(?: the)? $",
    re.I,
)
_WITH_A_ROLE = re.compile(
    r"(?<!\bin )(?<!\bat )(?<!\bon )(?<!\bof )\b(?:the|an?) (?P<role>(?:[a-z]{3,} )?[a-z]{3,}) $"
)
_NO_NOUN = frozenset("instead alone again twice once each daily ago away back apart aloud".split())  # noqa: SIM905
_AGE_AFTER = re.compile(r" (?:or|and) (?:older|over|above|under|younger)\b|-year")
_AGE_BEFORE = re.compile(
    r"\b(?:children|child|people|persons?|anyone|anybody|nobody|those|guests|boys|girls) "
    r"(?:under|over|aged|above|below) $",
    re.I,
)
_COUNTED_BEFORE = re.compile(
    r"(?:\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|twelve)) (?:[a-z-]+ ){0,2}[a-z]+s\b",
    re.I,
)
_MONTH = re.compile(rf"(?:{MONTHS})(?: (?:and|to) (?:{MONTHS}))?")
_WEEKDAY = re.compile(r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?|Mon|Tues?|Wed|Thu|Fri|Sat|Sun")
_A_TIME = re.compile(
    r"(?:(?:the (?:end|start|beginning|first|last|middle|following|next|\d+)|end)\b|.*o['’]clock"
    r"|(?:noon|midnight|Easter|Christmas)\b"
    rf"|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|(?:{MONTHS})\b)"
)
_GOES_ON = re.compile(r" (?:and|or|to)\b|[–-]")
_EACH = re.compile(r"\b(each|every|of) $", re.I)
_CLOCK = re.compile(r"\d{1,2}:\d\d|\d ?[ap]\.?m\b", re.I)
_AMOUNT = re.compile(r"[\d.,/–-]*\d|\w+")
_TIME = re.compile(rf"\b(?:{TIME_UNIT}|h|min|s)\b")
_SOMEBODY = re.compile(
    r"(?:the |an? )?(?:[a-z]+ ){0,2}(?:nurse|doctor|manager|director|owner|team|staff|board|council"
    r"|committee|department|company|supplier|driver|teacher|officer|volunteers?|members?|people"
    r"|architect|engineer|court|family|government|chair|head)\b|.*[A-Z]\w+"
)


LABEL = (
    "ward|room|bus|number|extension|ext|page|section|chapter|line|platform|gate|floor|form|step"
    "|level|version|type|port|building|route|hall|bay|table|figure|item|unit|category|class|grade"
    "|model|code|part|question|rule|box|article|clause|paragraph|group|phase|mode|error|status"
    "|channel|track|week|day|lane|locker|shelf|slot|key|position|tram|exit|lift|court|pitch|file"
)
_LABELLED = re.compile(rf"\b(?:(?:an?|the) )?(?P<label>{LABEL})\.? $")


class Gap(NamedTuple):
    """Question words for a span.

    Attributes:
        words: `how many hours`, `on which date`.
        taken: how many characters before the span they take the place of.
    """

    words: str
    taken: int = 0


def gaps_of(kind: str, span: str, before: str, after: str) -> list[Gap]:
    """Returns question words for a span, the most exact first; none where none would be right.

    Args:
        kind: see `AskedSpan`.
        span: what is asked for.
        before: what of the sentence stands before it.
        after: what stands behind it.
    """
    match = _PREPOSITION.search(before)
    word = match["word"].lower() if match else ""
    taken = len(before) - match.start() if match else 0
    if kind in ("number", "name") and re.fullmatch(r"\d+|[+0][\d ]+|[A-Z]+-?\d[\w-]*", span):
        labelled = _LABELLED.search(before)
        if labelled and not re.match(r" ?(?:and|or|to|–|-)? ?\d|, \d", after):
            label = labelled["label"]
            label = "extension" if label == "ext" else label
            return [Gap(f"which {label}", len(before) - labelled.start())]
    if kind == "date":
        if re.fullmatch(r"[\d/–-]+", span) and _names_a_year(before, after):
            return []
        return _when(span, word, taken)
    if kind == "number" and re.fullmatch(r"[+0][\d ]+", span) and " " in span:
        return [Gap("which number")]  # of a telephone, a code
    if kind == "number":
        return _how_many(span, before, after, word, taken)
    if kind == "name":
        return _who_or_what(span, before, after, word, taken)
    if kind == "clause":
        return _why(span, before, word, taken)
    return [Gap("what")]


def _names_a_year(before: str, after: str) -> bool:
    """Tells whether a year belongs to a name: "the 2020 census", "the Hire Act 1996"."""
    if _goes_on(after) or (_ARTICLE.search(before) and re.match(r" [a-z]", after)):
        return True
    last = re.search(r"([A-Z]\w*) $", before)
    return last is not None and last[1].casefold() not in SMALL_WORDS


def _who_or_what(span: str, before: str, after: str, word: str, taken: int) -> list[Gap]:
    if _MONTH.fullmatch(span) or _WEEKDAY.fullmatch(span):
        if word in ("in", "on") and not _ARTICLE.search(before):
            asked = "in which month" if word == "in" else "on which day"
            return [Gap(asked, taken), Gap("when", taken)] if not _GOES_ON.match(after) else []
        each = _EACH.search(before)
        if each is None or not _MONTH.fullmatch(span):
            return []
        is_part = each[1].casefold() == "of"
        return [
            Gap("which month") if is_part else Gap("in which month", len(before) - each.start())
        ]
    if _OF_SOMEBODY.search(before):
        return []  # "your GP"
    article = _ARTICLE.search(before)
    own = len(before) - article.start() if article else 0
    if COMPANY.search(span):
        return [Gap("which company", own)]
    if (article or word not in ("", "by")) and _goes_on(after):
        return [Gap("which", own)]  # "the Larne estate"
    is_person = names_person(span) and article is None
    if is_person and re.match(r" (?:are|were|have)\b", after):
        is_person = False  # "Old Lumets are ..."
    role = _WITH_A_ROLE.search(before)
    if (
        role
        and is_person
        and not any(each in SMALL_WORDS | ADVERBS or each in VERBS for each in role["role"].split())
    ):
        return [Gap(f"which {role['role']}", len(before) - role.start())]
    last = before.split()[-1] if before.endswith(" ") and before.strip() else ""
    is_joined = " " not in span and re.fullmatch(r"[a-z]+", last) is not None
    is_noun = last not in SMALL_WORDS | ADVERBS | PARTICIPLES and last not in VERBS
    if is_joined and is_noun and not (article or word or is_person):
        return []  # "a photo ID", "his sister Ottoline"
    if word in ("in", "at") and not NO_PLACE.match(span):
        place = Gap(f"{word} which place", taken)
        if before[: len(before) - taken].rstrip().endswith((",", "and", "but")):
            return []  # "it's Ann Lee who signs, in Sales Bob Ray"
        is_odd = re.match(r",| (?:is|are|was|were|has|have|had|can|may|must|will)\b", after)
        return [place] if is_odd else [Gap("where", taken), place]
    if is_person and before.endswith(", ") and after.startswith(","):
        return []  # of one who was spoken of: "the chair, Ann Lee, ..."
    if is_person and not _OF_A_PLACE.search(before):
        return [Gap("who"), Gap("which person")]
    if word == "from" and not article and not NO_PLACE.match(span):
        if is_person:  # or a place of two words
            return [Gap("from whom", taken)] if _GIVEN.search(before) else []
        return [Gap("from where", taken)]
    if re.match(r", [A-Z]", after) and article is None:
        return []  # the first part of an address, or of a list
    return [Gap("what", own)]


def _goes_on(after: str) -> bool:
    """Tells whether a noun follows at once that a name belongs to: "Larne | estate and ..."."""
    match = re.match(r" ([a-z]+)(?=[ ,.;:)]|$)", after)
    if match is None:
        return False
    word = match[1]
    return not (
        word in SMALL_WORDS | ADVERBS | _NO_NOUN
        or word in VERBS
        or re.search(r"(?:s|ed|ing|ly|en)$", word)
    )


def _when(span: str, word: str, taken: int) -> list[Gap]:
    exact = "what time" if _CLOCK.search(span) else "which date"
    if match := re.fullmatch(r"(?P<month>[A-Z][a-z]+ )?\d{4}(?P<decade>s)?", span):
        exact = f"which {'month' if match['month'] else 'decade' if match['decade'] else 'year'}"
    elif re.fullmatch(r"\d{4}[–/-]\d+", span):
        exact = "which years"
    if word in ("on", "in", "at"):
        return [Gap(f"{word} {exact}", taken), Gap("when", taken)]
    if word:
        return [Gap(f"{word} {exact}", taken), Gap(f"{word} when", taken)]
    return [Gap(exact), Gap("when")]


def _how_many(span: str, before: str, after: str, word: str, taken: int) -> list[Gap]:
    if re.search(r"[€$£¥]|\b(?:[A-Z]{3}|euros?|dollars?|pounds?)\b", span):
        return [Gap("how much")]
    if re.search(r"%|\bper ?cent\b", span):
        return [Gap("what percentage"), Gap("how many percent")]
    if re.search(r"°|\bdegrees?\b", span):
        return [Gap("what temperature"), Gap("how many degrees")]
    amount = _AMOUNT.match(span)
    unit = span[amount.end() :].strip() if amount else ""
    if not unit:
        return _bare(before, after)
    if unit.startswith("-"):  # "the 36-week appointment"
        article = _ARTICLE.search(before)
        is_which = article and _goes_on(after)
        return [Gap("which", len(before) - article.start())] if article and is_which else []
    unit = MEASURES.get(unit.rstrip("."), unit)
    many = Gap(f"how many {unit}")
    if _TIME.search(unit):
        return [many, Gap("for how long", taken) if word == "for" else Gap("how long")]
    return [many]


def _bare(before: str, after: str) -> list[Gap]:
    """Returns question words for a number without a unit."""
    if before.endswith(("(", " at ", " pH ")):
        return []  # an age, a time
    nouns = []
    words = re.match(r"(?: [a-zA-Z][\w'’-]*)*", after)
    for word in words.group().split()[:5] if words else ():
        if word.casefold() in SMALL_WORDS or (word in VERBS and not is_plural(word)):
            break
        nouns.append(word)
    if any(map(is_plural, nouns)):
        return [Gap("how many")]
    if nouns and nouns[0] not in ADVERBS | _NO_NOUN:
        return []  # "the 47 bus"
    if _AGE_AFTER.match(after) or _AGE_BEFORE.search(before):
        return [Gap("what age")]
    is_count = re.match(r" of\b", after) or _COUNTED_BEFORE.search(before) or ": " in before[-30:]
    return [Gap("how many" if is_count else "what number")]


def _why(span: str, before: str, word: str, taken: int) -> list[Gap]:
    if _EXCEPTION.search(before):
        return []
    is_clause = _REASON.search(before) or _CONDITION.search(before)
    if is_clause and len(span.split()) < _FEWEST_OF_CLAUSE:
        return []  # "so that acidity, oxygen and ..."
    if match := _REASON.search(before):
        return [Gap("why", len(before) - match.start())]
    if match := _CONDITION.search(before):
        only = re.match(r"(?:only|provided)\b", match.group(), re.I)
        return [Gap("under what condition" if only else "when", len(before) - match.start())]
    if duty := _DUTY.search(before):
        is_clear = duty["be"] is None or is_participle(span.split()[0])
        words = "what" if duty["be"] else "do what"
        return [Gap(words)] if is_clear and not re.match(r"(?:have|not)\b", span) else []
    if word == "by":
        if re.match(r"\w+ing\b", span):
            return [Gap("how", taken)]
        if (
            not AUXILIARIES.isdisjoint(span.split())
            or span[:1].isdigit()
            or re.search(r" \d+$", span)
        ):
            return []
        if _A_TIME.match(span):
            return [Gap("by when", taken)]
        return [Gap("by whom" if _SOMEBODY.match(span) else "by what", taken)]
    if word in ("until", "before", "after"):
        if span[:1].isdigit():
            return []
        return [Gap(f"{word} what", taken)]
    return [Gap("what")]
