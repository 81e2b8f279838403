"""What of a clause can be asked for, and by which question words: times, numbers, places."""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from polyprag.augment.prose.clause import Clause
from polyprag.augment.prose.patterns import (
    ABOUT,
    BY_PERSON,
    COUNT,
    EDGE,
    IN_PLACE,
    LENGTH,
    MEASURES,
    MONEY_SPAN,
    NO_PLACE,
    NUM,
    PERCENT,
    PLACE_NOUN,
    QUANTITY,
    STAND_VERBS,
    STAND_WORDS,
    STANDS,
    TIME_UNIT,
    TIMES,
    TO_PERSON,
    VALUE,
    WEIGHT,
)
from polyprag.augment.prose.words import ADVERBS, PREPOSITIONS, is_plural

_Free = Callable[..., bool]


class ClauseSpan(NamedTuple):
    """A piece of a clause's core, and what asks for it.

    Attributes:
        start: where it begins in the core.
        end: where it ends.
        asks: question words, the plainest first; they stand before the auxiliary.
        answer: word for word of the core.
    """

    start: int
    end: int
    asks: tuple[str, ...]
    answer: str


_GOAL = re.compile(r"\b(?:to|into|from|towards?) (?:the|an?|its|their|our) [\w-]+(?: [\w-]+)? $")
_TOWARDS = frozenset("go report turn write speak talk apply".split())  # noqa: SIM905


def time_of(text: str) -> ClauseSpan | None:
    """Returns the time that a whole adjunct is, such as "In 2025"; None for any other."""
    low = text[:1].lower() + text[1:]
    for pattern, asks in TIMES:
        match = pattern.fullmatch(low)
        if match:
            return ClauseSpan(0, len(text), asks, match["a"])
    return None


def spans_of(clause: Clause) -> Iterator[ClauseSpan]:
    """Yields what of a clause's core can be asked for with the auxiliary before the subject."""
    core = clause.core
    if clause.is_being and re.match(r"an? ", core):
        return  # "our aim is an answer within five hours"
    taken: list[tuple[int, int]] = []

    def free(start: int, end: int, ask: str = "") -> bool:
        # One of several: "from 9:00 to 10:00, from 11:30 to 13:15".
        goes_on = core[end:].lstrip() or clause.after
        if not ask.startswith("How often") and re.match(
            r"(?:, ?(?:and |or )?|and |or )(?:from|on|in|at|\d|to|by|for|between|until|of|[A-Z])",
            goes_on,
        ):
            return False
        if re.match(r",|(?:and|or)\b|\d", core[end:].lstrip()):
            return False
        if any(start < other_end and other < end for other, other_end in taken):
            return False
        taken.append((start, end))
        return True

    if not clause.is_being:
        for match in BY_PERSON.finditer(core):
            if not clause.verb and free(*match.span()):
                yield ClauseSpan(*match.span(), ("By whom",), match["a"])
        whom = TO_PERSON.search(core) if clause.verb in _TOWARDS else None
        if whom and free(*whom.span()):
            yield ClauseSpan(*whom.span(), ("To whom",), whom["a"])
    for pattern, asks in TIMES:
        for match in pattern.finditer(core):
            if clause.auxiliary == "did" and asks[0] == "Since when":
                continue
            if free(*match.span(), asks[0]):
                yield ClauseSpan(*match.span(), asks, match["a"])
    yield from _measures(clause, core, free)
    is_something = clause.verb == "have" or (
        clause.is_being and re.match(r"(?:an?|the|one|its|their|our)\b|[A-Z]", core)
    )
    for match in () if is_something else IN_PLACE.finditer(core):
        preposition, place = match["p"], match["a"]
        if re.match(
            r"(?:\w+ )*?(?:entered|written|listed|described|recorded|expressed|translated"
            r"|mentioned|filled)\b",
            core,
        ):
            continue
        is_place = not NO_PLACE.match(place.removeprefix("the ")) and not re.search(r"\d{4}", place)
        if is_place and _is_loose(core, match.start()) and free(*match.span()):
            yield ClauseSpan(
                *match.span(),
                ("Where",),
                f"{preposition} {place}" if preposition == "near" else place,
            )
    yield from _standing(clause, core, free)


def _standing(clause: Clause, core: str, free: _Free) -> Iterator[ClauseSpan]:
    """Yields where something lies or is kept."""
    start = 0
    if lead := STAND_WORDS.match(core):
        start = lead.end()
    elif not (clause.is_being or clause.verb in STAND_VERBS):
        return
    match = STANDS.match(core[start:])
    if match and PLACE_NOUN.search(match["a"]) and len(match["a"].split()) <= 9:
        span = (start, len(core))
        if free(*span):
            yield ClauseSpan(*span, ("Where",), match["a"])


def _is_loose(core: str, start: int) -> bool:
    """Tells whether "in X" tells where it happens, and doesn't belong to a name before it."""
    if _GOAL.search(core[:start]):
        return False  # "travels to the laboratory in Carrow"
    before = core[:start].split()
    joined = PREPOSITIONS | {"interested", "based", "believe", "the"}
    return not before or before[-1].lower() not in joined


def _measures(clause: Clause, core: str, free: _Free) -> Iterator[ClauseSpan]:
    """Yields amounts: of money, of time, of things."""
    lead = re.match(rf"^(?:(?:{'|'.join(sorted(ADVERBS))}) )*(?:be )?", core)
    at = lead.end() if lead else 0
    is_being = clause.is_being or core[:at].endswith("be ")
    rest = core[at:]
    unit_at = re.match(
        rf"(?P<a>{ABOUT}?{NUM} ?(?P<u>{TIME_UNIT}|{LENGTH}|{WEIGHT}"
        rf"|°C)(?: (?:and )?\d+ minutes)?){EDGE}(?! (?:of|to))",
        rest,
    )
    asked = _ASKED_BY_VERB.get(clause.verb or "")
    if unit_at and asked and re.fullmatch(asked[0], unit_at["u"]):
        if free(at, at + unit_at.end()):
            yield ClauseSpan(at, at + unit_at.end(), asked[1], unit_at["a"])
    elif unit_at and is_being and (found := _being_measure(unit_at["u"], rest[unit_at.end() :])):
        asks, end = found
        if free(at, at + unit_at.end() + end):
            yield ClauseSpan(at, at + unit_at.end() + end, asks, unit_at["a"])
    elif (
        is_being
        and QUANTITY.search(clause.subject)
        and (value := VALUE.match(rest))
        and free(at, len(core))
    ):
        yield ClauseSpan(at, len(core), ("What",), value["a"])
    for match in MONEY_SPAN.finditer(core):
        preposition = match["p"]
        if preposition in ("of", "with", "to", "by") and match.start() > at:
            continue
        if (
            match.start() > at
            and preposition is None
            and clause.verb not in ("cost", "pay", "charge")
        ):
            continue
        ask = f"{preposition.capitalize()} how much" if preposition else "How much"
        if clause.is_being and not preposition and match.end() < len(core):
            continue
        if free(*match.span()):
            yield ClauseSpan(*match.span(), (ask,), match["a"])
    share = None if clause.is_being else PERCENT.match(rest)
    of = (share["of"] or "") if share else ""
    is_plain = not re.search(r"\b(?:its|their|his|her|\w+ed)\b", of)
    if share and is_plain and free(at, at + share.end()):
        asks = (f"What percentage{of}", f"How many percent{of}")
        yield ClauseSpan(at, at + share.end(), asks, share["a"])
    yield from _counts(clause, core, at, free)


def _being_measure(unit: str, after: str) -> tuple[tuple[str, ...], int] | None:
    match = re.match(
        r" (long|high|wide|deep|thick|tall|old|away)(?=$| (?:and|in|at|from)\b)", after
    )
    if match:
        return (("How far away",) if match[1] == "away" else (f"How {match[1]}",)), match.end()
    if after.strip():
        return None
    if re.fullmatch(TIME_UNIT, unit):
        return ("How long",), 0
    if re.fullmatch(f"{WEIGHT}|{LENGTH}", unit) or unit == "°C":
        return ("What",), 0
    return None


_ASKED_BY_VERB = {
    "last": (TIME_UNIT, ("How long", "For how long", "How much time")),
    "take": (TIME_UNIT, ("How long", "How much time")),
    "wait": (TIME_UNIT, ("How long",)),
    "live": (TIME_UNIT, ("How long",)),
    "stay": (TIME_UNIT, ("How long",)),
    "weigh": (WEIGHT, ("How much", "What")),
    "travel": (LENGTH, ("How far",)),
    "reach": (LENGTH, ("How far",)),
}


def _counts(clause: Clause, core: str, at: int, free: _Free) -> Iterator[ClauseSpan]:
    """Yields "N things" right after the verb, or after a participle or preposition behind it."""
    lead = r"(?:(?P<p>to|from|at|with|for|into|by|after) )?"
    start = re.compile(rf"(?:be )?{lead}{COUNT.pattern}")
    begin = at
    if not clause.verb and not clause.is_being:  # behind "can hold", "is divided"
        begin = core.find(" ", at) + 1
        if not begin:
            return
    match = start.match(core, begin)
    if match is None or (clause.is_being and not match["p"]):
        return
    noun, used = _noun_group(match["u"])
    if re.match(r"(?:located|situated|based)\b", core):
        return
    if (
        noun is None
        or re.match(r"(?:the|a|an|half)\b", match["n"])
        or re.fullmatch(r"(?:1[0-9]|20)\d\d", match["n"])
    ):
        return
    end = match.start("u") + used
    preposition = match["p"]
    if re.fullmatch(TIME_UNIT, noun) and (preposition == "for" or clause.verb == "have"):
        return
    ask = f"{preposition.capitalize()} how many {noun}" if preposition else f"How many {noun}"
    if of := re.match(
        r" of (?:(?:the|a|an|its|their|your|our) )?[a-z][\w-]*(?: [a-z][\w-]*)?(?=$| (?:in|on|at"
        r"|for|from|with|to|by|per)\b)",
        core[end:],
    ):
        ask, end = ask + of.group(), end + of.end()
    elif re.match(
        r" (?:of|long|high|wide|deep|old|away|ago|later|earlier|before|after)\b", core[end:]
    ):
        return
    number = re.sub(r"^(?:only|exactly) ", "", match["n"])
    is_unit = noun in MEASURES.values()
    if free(match.start(), end):
        yield ClauseSpan(
            match.start(), end, (ask,), core[match.start("n") : end] if is_unit else number
        )


def _noun_group(after: str) -> tuple[str | None, int]:
    """Returns the plural noun group that a number counts, and how much of the text it takes."""
    words = after.split(" ")[1:]
    if not words:
        return None, 0
    if words[0] in MEASURES:
        return MEASURES[words[0]], 1 + len(words[0])
    group: list[str] = []
    for word in words:
        bare = word.rstrip(",.;")
        if (
            not re.fullmatch(r"[A-Za-z][\w'’-]*", bare)
            or bare.lower() in PREPOSITIONS | ADVERBS | _STOPS
        ):
            break
        group.append(bare)
        if bare != word:
            break
    if not group or not is_plural(group[-1]) or group[0].lower() in ("more", "percent"):
        return None, 0
    return " ".join(group), 1 + len(" ".join(group))


_STOPS = frozenset(
    "and or but the a an which who that when if each every is are was were can may must will it"  # noqa: SIM905
    " he she they"
    " you we while because so where to not per long high wide deep old away more less later"
    " earlier ago apart"
    " ahead only".split()
)
