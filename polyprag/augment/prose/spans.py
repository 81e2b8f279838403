"""What of a clause can be asked for, and by which question words: times, numbers, places, persons."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from polyprag.augment.fact_patterns import MONTHS, NATIONALITY
from polyprag.augment.prose.clause import Clause
from polyprag.augment.prose.words import ADVERBS, PREPOSITIONS, is_plural

_WEEKDAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_DAYS = rf"(?:{_WEEKDAYS})s?"
_ONES = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    "|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
)
_NUM = (
    rf"(?:\d[\d,]*(?:\.\d+)?(?: and a half| million| billion| thousand| hundred)?|(?:{_ONES})(?:-(?:{_ONES}))?"
    r"(?: hundred| thousand| million| and a half)?|half an?|an?(?= (?:second|minute|hour|day|week|month|year)\b)"
    r"|an? (?:dozen|hundred|thousand|million))"
)
_ABOUT = r"(?:(?:up to|at least|at most|about|around|some|roughly|nearly|almost|over|under|more than|less than|fewer"
_ABOUT += r" than|no more than|no less than|not more than|approximately|only|exactly|a maximum of|a minimum of) )"
_TIME_UNIT = r"(?:(?:working |calendar |full |whole |more )?(?:second|minute|hour|day|night|week|month|year|decade|centurie)s?|centuries|century)"
_LENGTH = r"(?:mm|cm|km|m|metres?|meters?|kilometres?|kilometers?|miles?|feet|inches|centimetres?|millimetres?)"
_WEIGHT = r"(?:g|kg|mg|grams?|kilos?|kilograms?|tons?|tonnes?|pounds?|lbs?)"
_MONEY = (
    r"(?:(?:US|A|C)?[€$£¥] ?\d[\d,]*(?:\.\d+)?(?: million| billion)?|\d[\d,]*(?:\.\d+)? ?(?:€|euros?|EUR|USD|dollars?"
    r"|pounds|cents?|pence|kroner|francs?)\b)(?: (?:a|an|per|each)(?: (?:head|night|day|week|month|year|hour|person"
    r"|piece|kilometre|mile|km|device|user|copy))?\b)?"
)
_CLOCK = r"(?:\d{1,2}[:.]\d\d(?: ?[ap]\.?m\b\.?)?|\d{1,2} ?[ap]\.?m\b\.?|\d{1,2} o'clock|noon|midnight)"
_DATE = (
    rf"(?:\d{{1,2}}(?:st|nd|rd|th)? (?:{MONTHS})(?:,? \d{{4}})?|(?:{MONTHS}) \d{{1,2}}(?:st|nd|rd|th)?(?:, ?\d{{4}})?"
    rf"|(?:{MONTHS})(?: \d{{4}})?|(?:1[0-9]|20)\d\d\b(?!,\d))"
)
_ON_DAY = (
    rf"(?:{_DAYS}(?: (?:and|or|to) {_DAYS})?|the (?:first|second|third|fourth|last)(?: (?:working|calendar))? "
    rf"(?:day|{_WEEKDAYS}|week)(?: (?:of|in) (?:the|each|every) (?:month|year|quarter|week)"
    rf"| (?:of|in) (?:{MONTHS}))?|weekdays|weekends)"
)
_EDGE = r"(?=$|[ ,.;])"
_CAP = r"(?:[A-Z][\w'’&.-]*)"  # noqa: RUF001
_NAME = rf"{_CAP}(?: (?:(?:of|de|von|van|der|la|le|du|the|and) )*{_CAP})*"
_NO_PLACE = re.compile(
    rf"^(?:{MONTHS}|{_DAYS}|{NATIONALITY}|English|Latin|Python|YAML|JSON|Markdown|HTML|PDF|Internet|Easter|Christmas|I)\b"
)
_MEASURES = {
    "g": "grams", "kg": "kilograms", "mg": "milligrams", "km": "kilometres", "m": "metres", "cm": "centimetres",
    "mm": "millimetres", "GB": "gigabytes", "MB": "megabytes", "TB": "terabytes", "GiB": "gibibytes", "kB": "kilobytes",
    "MiB": "mebibytes", "W": "watts", "kW": "kilowatts", "V": "volts", "ml": "millilitres", "l": "litres", "s": "seconds",
    "ms": "milliseconds", "h": "hours", "min": "minutes",
}  # fmt: skip


_Free = Callable[[int, int], bool]


class Span(NamedTuple):
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


def _times() -> Iterator[tuple[re.Pattern[str], tuple[str, ...]]]:
    """Yields patterns whose group `a` is the answer, with their question words."""
    span = rf"(?:{_CLOCK}|{_DATE}|{_DAYS})"
    yield re.compile(rf"\b(?P<a>(?:from|between) {span} (?:to|until|till|and) {span}){_EDGE}"), ("When",)
    yield re.compile(rf"\bat (?P<a>{_CLOCK}){_EDGE}"), ("At what time", "When")
    for word, asks in (
        ("before", ("Before what time", "Before when")),
        ("after", ("After what time", "After when")),
        ("by", ("By what time", "By when")),
        ("until", ("Until what time", "Until when")),
        ("from", ("From what time on", "From when on")),
    ):
        yield re.compile(rf"\b{word} (?P<a>{_CLOCK}){_EDGE}(?! to\b| until\b)"), asks
    for word in ("by", "before", "after", "until", "since"):
        asks = (f"{word.capitalize()} when", f"{word.capitalize()} what date")
        yield re.compile(rf"\b{word} (?P<a>{_DATE}){_EDGE}"), asks
    yield re.compile(rf"\bin (?P<a>(?:1[0-9]|20)\d\d){_EDGE}(?!,\d)"), ("When", "In which year", "In what year")
    yield re.compile(rf"\bin (?P<a>(?:{MONTHS})){_EDGE}(?! \d)"), ("When", "In which month")
    yield re.compile(rf"\bin (?P<a>(?:{MONTHS}) \d{{4}}){_EDGE}"), ("When", "In which month and year")
    dates = rf"{_DATE}(?: (?:and|or)(?: on)? {_DATE})?"
    yield re.compile(rf"\bon (?P<a>{dates}){_EDGE}"), ("When", "On what date", "On which day")
    yield re.compile(rf"\bon (?P<a>{_ON_DAY}){_EDGE}"), ("When", "On which day", "On what day")
    yield re.compile(r"\bin (?P<a>spring|summer|autumn|winter|the (?:morning|afternoon|evening|night))" + _EDGE), ("When",)
    every = (
        rf"every (?:(?:{_ONES}|\d+|second|other|third|few) )?(?:second|minute|hour|day|night|week|month|quarter|year"
        rf"|{_WEEKDAYS})s?"
    )
    per = r"(?:a|an|per|each|every) (?:second|minute|hour|day|night|week|month|quarter|year)"
    yield (
        re.compile(rf"\b(?P<a>(?:once|twice|(?:{_ONES}|\d+) times) (?:{per}|{every})){_EDGE}"),
        ("How often", "How frequently"),
    )
    yield re.compile(rf"\b(?P<a>{every}){_EDGE}"), ("How often", "How frequently")
    yield (
        re.compile(rf"\bfor (?P<a>{_ABOUT}?(?:another )?{_NUM} {_TIME_UNIT}){_EDGE}"),
        ("For how long", "How long"),
    )
    yield re.compile(rf"\bwithin (?P<a>{_NUM} {_TIME_UNIT}|an? (?:week|month|day|year|hour)){_EDGE}"), (
        "Within what time",
        "Within how long",
    )
    yield re.compile(rf"\bafter (?P<a>{_ABOUT}?{_NUM} {_TIME_UNIT}){_EDGE}"), ("After how long", "After what time")


_TIMES = tuple(_times())
_PERSON_NOUN = (
    r"(?:driver|customer|user|owner|company|team|council|insurance|management|manager|director|employer|employee"
    r"|supplier|authority|laboratory|department|supervisor|landlord|tenant|author|teacher|trainer)s?"
)
_BY_PERSON = re.compile(
    rf"\bby (?P<a>(?!(?:{MONTHS}|{_DAYS}|Easter|Christmas)\b){_NAME}(?: and {_NAME})?|(?:the|your) (?:[a-z]+ )?{_PERSON_NOUN})"
    rf"(?=$| (?:in|on|at|for|from|with|to)\b|,)")
_TO_PERSON = re.compile(rf"\bto (?P<a>[A-Z][\w'’-]+ [A-Z][\w'’-]+|(?:the|your) (?:[a-z]+ )?{_PERSON_NOUN})$")  # noqa: RUF001
_PLACE = re.compile(rf"\b(?P<p>in|at|near) (?P<a>(?:the )?{_NAME}(?:, {_NAME})?)(?=$|[,;]| (?:on|at|from|for|with|and|by|since|until|in|every|each|when)\b)")
_STANDS = re.compile(
    r"^(?P<a>(?:in|on|at|behind|beside|near|under|above|below|inside|outside|opposite|next to|between|on top of|along"
    r"|in front of|across from) (?:the |a |an |each |every |your |our |its |hall |room |building )?[\w'’ -]{2,60})$"  # noqa: RUF001
)
_PLACE_NOUN = re.compile(
    r"\b(?:room|building|hall|garden|corridor|cellar|floor|office|kitchen|station|street|square|road|quay|gate|entrance"
    r"|desk|shelf|drawer|cupboard|locker|box|lid|case|bag|side|back|front|top|bottom|corner|wall|door|window|roof|city"
    r"|town|village|county|province|region|district|country|island|lake|river|coast|sea|mountain|valley|park|house"
    r"|store|shop|archive|library|laboratory|workshop|canteen|reception|car park|intranet|folder|directory|file|page"
    r"|tower|harbour|port|campus|school|hospital|church|museum|theatre|basement|stairs|staircase|lobby|centre|center)s?\b",
    re.I,
)
_STAND_VERBS = frozenset("lie stand live hang sit stay".split())  # noqa: SIM905
_STAND_WORDS = re.compile(r"^(?:kept|stored|located|situated|held|found|parked|displayed|buried|based) ")
_MONEY_SPAN = re.compile(rf"\b(?:(?P<p>for|at|of|by|with|to) )?(?P<a>{_ABOUT}?(?<![\w.])(?:{_MONEY}))(?=$|[ ,.;])")
_PERCENT = re.compile(
    rf"^(?P<a>{_ABOUT}?(?:\d[\d.,]*|{_ONES}) ?(?:%|percent|per cent))(?P<of> of [\w'’ -]+?)?(?=$| (?:in|into|on|at|for|from|to|by|as)\b|,)"  # noqa: RUF001
)
# What "the speed limit is 10 km/h" is said of: it is a number itself.
QUANTITY = re.compile(
    r"\b(?:limit|range|height|depth|width|weight|length|speed|temperature|number|rate|share|minimum|maximum|size|capacity"
    r"|distance|voltage|pressure|acidity|budget|turnover|population|area|age|quota|default|threshold|score|ratio|total"
    r"|average|amount|level|value|percentage|discount|concentration|density|altitude|elevation|radius|frequency)\b",
    re.I,
)
_VALUE = re.compile(rf"^(?P<a>{_ABOUT}?(?:pH )?(?:{_NUM})(?: ?[^\s,.;]{{1,9}}(?: (?:a|an|per) \w+)?)?)$")
_COUNT = re.compile(
    rf"(?P<n>{_ABOUT}?(?:{_NUM}))(?P<u>(?: ?(?:°C|°F|%))|(?: [\w'’-]+){{1,4}})",  # noqa: RUF001
)


def time_of(text: str) -> Span | None:
    """Returns the time that a whole adjunct is, such as "In 2025"; None for any other."""
    low = text[:1].lower() + text[1:]
    for pattern, asks in _TIMES:
        match = pattern.fullmatch(low)
        if match:
            return Span(0, len(text), asks, match["a"])
    return None


def spans_of(clause: Clause) -> Iterator[Span]:
    """Yields what of a clause's core can be asked for with the auxiliary before the subject."""
    core = clause.core
    taken: list[tuple[int, int]] = []

    def free(start: int, end: int) -> bool:
        # One of several: "from 9:00 to 10:00, from 11:30 to 13:15".
        goes_on = core[end:].lstrip() or clause.after
        if re.match(r"(?:, ?(?:and |or )?|and |or )(?:from|on|in|at|\d|to|by|for|between|until|of|[A-Z])", goes_on):
            return False
        if re.match(r",|(?:and|or)\b", core[end:].lstrip()):
            return False
        if any(start < other_end and other < end for other, other_end in taken):
            return False
        taken.append((start, end))
        return True

    if not clause.is_being:
        for match in _BY_PERSON.finditer(core):
            if not clause.verb and free(*match.span()):
                yield Span(*match.span(), ("By whom",), match["a"])
        if match := _TO_PERSON.search(core):
            if clause.verb in ("go", "report", "turn", "write", "speak", "talk", "apply") and free(*match.span()):
                yield Span(*match.span(), ("To whom",), match["a"])
    for pattern, asks in _TIMES:
        for match in pattern.finditer(core):
            if clause.auxiliary == "did" and asks[0] == "Since when":
                continue
            if free(*match.span()):
                yield Span(*match.span(), asks, match["a"])
    yield from _measures(clause, core, free)
    is_something = clause.is_being and re.match(r"(?:an?|the|one|its|their|our)\b|[A-Z]", core)
    for match in () if is_something else _PLACE.finditer(core):
        preposition, place = match["p"], match["a"]
        if re.match(r"(?:\w+ )*?(?:entered|written|listed|described|recorded|expressed|translated|mentioned|filled)\b", core):
            continue
        is_place = not _NO_PLACE.match(place.removeprefix("the ")) and not re.search(r"\d{4}", place)
        if is_place and _is_loose(core, match.start()) and free(*match.span()):
            yield Span(*match.span(), ("Where",), f"{preposition} {place}" if preposition == "near" else place)
    yield from _standing(clause, core, free)


def _standing(clause: Clause, core: str, free: _Free) -> Iterator[Span]:
    """Yields where something lies or is kept."""
    start = 0
    if lead := _STAND_WORDS.match(core):
        start = lead.end()
    elif not (clause.is_being or clause.verb in _STAND_VERBS):
        return
    match = _STANDS.match(core[start:])
    if match and _PLACE_NOUN.search(match["a"]) and len(match["a"].split()) <= 9:
        span = (start, len(core))
        if free(*span):
            yield Span(*span, ("Where",), match["a"])


def _is_loose(core: str, start: int) -> bool:
    """Tells whether "in X" tells where it happens, and doesn't belong to a name before it."""
    before = core[:start].split()
    return not before or before[-1].lower() not in PREPOSITIONS | {"interested", "based", "believe", "the"}


def _measures(clause: Clause, core: str, free: _Free) -> Iterator[Span]:
    """Yields amounts: of money, of time, of things."""
    lead = re.match(rf"^(?:(?:{'|'.join(sorted(ADVERBS))}) )*(?:be )?", core)
    at = lead.end() if lead else 0
    is_being = clause.is_being or core[:at].endswith("be ")
    rest = core[at:]
    unit_at = re.match(rf"(?P<a>{_ABOUT}?{_NUM} ?(?P<u>{_TIME_UNIT}(?: (?:and )?{_NUM} minutes)?|{_LENGTH}|{_WEIGHT}|°C)){_EDGE}(?! (?:of|to))", rest)
    asked = _ASKED_BY_VERB.get(clause.verb or "")
    if unit_at and asked and re.fullmatch(asked[0], unit_at["u"]):
        if free(at, at + unit_at.end()):
            yield Span(at, at + unit_at.end(), asked[1], unit_at["a"])
    elif unit_at and is_being and (found := _being_measure(unit_at["u"], rest[unit_at.end() :])):
        asks, end = found
        if free(at, at + unit_at.end() + end):
            yield Span(at, at + unit_at.end() + end, asks, unit_at["a"])
    elif is_being and QUANTITY.search(clause.subject) and (value := _VALUE.match(rest)) and free(at, len(core)):
        yield Span(at, len(core), ("What",), value["a"])
    for match in _MONEY_SPAN.finditer(core):
        preposition = match["p"]
        if preposition in ("of", "with", "to", "by") and match.start() > at:
            continue
        if match.start() > at and preposition is None and clause.verb not in ("cost", "pay", "charge"):
            continue
        ask = f"{preposition.capitalize()} how much" if preposition else "How much"
        if clause.is_being and not preposition and match.end() < len(core):
            continue
        if free(*match.span()):
            yield Span(*match.span(), (ask,), match["a"])
    if not clause.is_being and (match := _PERCENT.match(rest)) and free(at, at + match.end()):
        of = match["of"] or ""
        yield Span(at, at + match.end(), (f"What percentage{of}", f"How many percent{of}"), match["a"])
    yield from _counts(clause, core, at, free)


def _being_measure(unit: str, after: str) -> tuple[tuple[str, ...], int] | None:
    match = re.match(r" (long|high|wide|deep|thick|tall|old|away)(?=$| (?:and|in|at|from)\b)", after)
    if match:
        return (("How far away",) if match[1] == "away" else (f"How {match[1]}",)), match.end()
    if after.strip():
        return None
    if re.fullmatch(_TIME_UNIT, unit):
        return ("How long",), 0
    if re.fullmatch(f"{_WEIGHT}|{_LENGTH}", unit) or unit == "°C":
        return ("What",), 0
    return None


_ASKED_BY_VERB = {
    "last": (_TIME_UNIT, ("How long", "For how long", "How much time")),
    "take": (_TIME_UNIT, ("How long", "How much time")),
    "wait": (_TIME_UNIT, ("How long",)),
    "live": (_TIME_UNIT, ("How long",)),
    "stay": (_TIME_UNIT, ("How long",)),
    "weigh": (_WEIGHT, ("How much", "What")),
    "travel": (_LENGTH, ("How far",)),
    "reach": (_LENGTH, ("How far",)),
}


def _counts(clause: Clause, core: str, at: int, free: _Free) -> Iterator[Span]:
    """Yields "N things" right after the verb, or after a participle or preposition behind it."""
    lead = r"(?:(?P<p>to|from|at|with|for|into|by) )?"
    start = re.compile(rf"(?:be )?{lead}{_COUNT.pattern}")
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
    if noun is None or re.match(r"(?:the|a|an|half)\b", match["n"]) or re.fullmatch(r"(?:1[0-9]|20)\d\d", match["n"]):
        return
    end = match.start("u") + used
    preposition = match["p"]
    if re.fullmatch(_TIME_UNIT, noun) and preposition == "for":
        return
    ask = f"{preposition.capitalize()} how many {noun}" if preposition else f"How many {noun}"
    if of := re.match(r" of (?:(?:the|a|an|its|their|your|our) )?[a-z][\w-]*(?: [a-z][\w-]*)?(?=$| (?:in|on|at|for|from|with|to|by|per)\b)", core[end:]):
        ask, end = ask + of.group(), end + of.end()
    elif re.match(r" (?:of|long|high|wide|deep|old|away|ago|later|earlier|before|after)\b", core[end:]):
        return
    number = re.sub(r"^(?:only|exactly) ", "", match["n"])
    is_unit = noun in _MEASURES.values()
    if free(match.start(), end):
        yield Span(match.start(), end, (ask,), core[match.start("n") : end] if is_unit else number)


def _noun_group(after: str) -> tuple[str | None, int]:
    """Returns the plural noun group that a number counts, and how much of the text it takes."""
    words = after.split(" ")[1:]
    if not words:
        return None, 0
    if words[0] in _MEASURES:
        return _MEASURES[words[0]], 1 + len(words[0])
    group: list[str] = []
    for word in words:
        bare = word.rstrip(",.;")
        if not re.fullmatch(r"[A-Za-z][\w'’-]*", bare) or bare.lower() in PREPOSITIONS | ADVERBS | _STOPS:  # noqa: RUF001
            break
        group.append(bare)
        if bare != word:
            break
    if not group or not is_plural(group[-1]) or group[0].lower() in ("more", "percent"):
        return None, 0
    return " ".join(group), 1 + len(" ".join(group))


_STOPS = frozenset(
    "and or but the a an which who that when if each every is are was were can may must will it he she they"  # noqa: SIM905
    " you we while because so where to not per long high wide deep old away more less later earlier ago apart"
    " ahead only".split()
)
