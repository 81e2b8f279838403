"""The patterns of what a clause can be asked for: times, amounts, places, persons."""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from collections.abc import Iterator

from polyprag.augment.fact_patterns import MONTHS, NATIONALITY

_WEEKDAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_DAYS = rf"(?:{_WEEKDAYS})s?"
_ONES = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    "|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
)
NUM = (
    rf"(?:\d[\d,]*(?:\.\d+)?(?: and a half| million| billion| thousand| hundred)?"
    rf"|(?:{_ONES})(?:-(?:{_ONES}))?"
    r"(?: hundred| thousand| million| and a half)?|half an?|an?(?= (?:second|minute|hour|day"
    r"|week|month|year)\b)"
    r"|an? (?:dozen|hundred|thousand|million))"
)
ABOUT = (
    r"(?:(?:up to|at least|at most|about|around|some|roughly|nearly|almost|over|under|more than"
    r"|less than|fewer than|no more than|no less than|not more than|approximately|only|exactly"
    r"|a maximum of|a minimum of) )"
)
TIME_UNIT = (
    r"(?:(?:working |calendar |full |whole |more )?(?:second|minute|hour|day|night|week|month|year"
    r"|decade)s?|century|centuries)"
)
LENGTH = (
    r"(?:mm|cm|km|m|metres?|meters?|kilometres?|kilometers?|miles?|feet|inches|centimetres?"
    r"|millimetres?)"
)
WEIGHT = r"(?:g|kg|mg|grams?|kilos?|kilograms?|tons?|tonnes?|pounds?|lbs?)"
_MONEY = (
    r"(?:(?:US|A|C)?[€$£¥] ?\d[\d,]*(?:\.\d+)?(?: million| billion)?|\d[\d,]*(?:\.\d+)? ?(?:€"
    r"|euros?|EUR|USD|dollars?"
    r"|pounds|cents?|pence|kroner|francs?)\b)(?: (?:a|an|per|each)(?: (?:head|night|day|week"
    r"|month|year|hour|person"
    r"|piece|kilometre|mile|km|device|user|copy))?\b)?"
)
_CLOCK = (
    r"(?:\d{1,2}[:.]\d\d(?: ?[ap]\.?m\b\.?)?|\d{1,2} ?[ap]\.?m\b\.?|\d{1,2} o'clock|noon|midnight)"
)
_DATE = (
    rf"(?:\d{{1,2}}(?:st|nd|rd|th)? (?:{MONTHS})(?:,? \d{{4}})?|(?:{MONTHS}) \d{{1,2}}(?:st|nd"
    rf"|rd|th)?(?:, ?\d{{4}})?"
    rf"|(?:{MONTHS})(?: \d{{4}})?|(?:1[0-9]|20)\d\d\b(?!,\d))"
)
_ON_DAY = (
    rf"(?:{_DAYS}(?: (?:and|or|to) {_DAYS})?|the (?:first|second|third|fourth"
    rf"|last)(?: (?:working|calendar))? "
    rf"(?:day|{_WEEKDAYS}|week)(?: (?:of|in) (?:the|each|every) (?:month|year|quarter|week)"
    rf"| (?:of|in) (?:{MONTHS}))?|weekdays|weekends)"
)
EDGE = r"(?=$|[ ,.;])"
_CAP = r"(?:[A-Z][\w'’&.-]*)"
_NAME = rf"{_CAP}(?: (?:(?:of|de|von|van|der|la|le|du|the|and) )*{_CAP})*"
NO_PLACE = re.compile(
    rf"^(?:{MONTHS}|{_DAYS}|{NATIONALITY}|English|Latin|Python|YAML|JSON|Markdown|HTML|PDF"
    rf"|Internet|Easter|Christmas|I)\b"
)
_UNITS = (
    "g grams, kg kilograms, mg milligrams, km kilometres, m metres, cm centimetres, mm millimetres,"
    " GB gigabytes, MB megabytes, TB terabytes, GiB gibibytes, MiB mebibytes, kB kilobytes,"
    " W watts, kW kilowatts, V volts, ml millilitres, l litres, s seconds, ms milliseconds,"
    " h hours, min minutes"
)
MEASURES = dict(unit.split(" ") for unit in _UNITS.split(", "))


def _times() -> Iterator[tuple[re.Pattern[str], tuple[str, ...]]]:
    """Yields patterns whose group `a` is the answer, with their question words."""
    span = rf"(?:{_CLOCK}|{_DATE}|{_DAYS})"
    yield (
        re.compile(rf"\b(?P<a>(?:from|between) {span} (?:to|until|till|and) {span}){EDGE}"),
        ("When",),
    )
    yield re.compile(rf"\bat (?P<a>{_CLOCK}){EDGE}"), ("At what time", "When")
    for word, asks in (
        ("before", ("Before what time", "Before when")),
        ("after", ("After what time", "After when")),
        ("by", ("By what time", "By when")),
        ("until", ("Until what time", "Until when")),
        ("from", ("From what time on", "From when on")),
    ):
        yield re.compile(rf"\b{word} (?P<a>{_CLOCK}){EDGE}(?! to\b| until\b)"), asks
    for word in ("by", "before", "after", "until", "since"):
        asks = (f"{word.capitalize()} when", f"{word.capitalize()} what date")
        yield re.compile(rf"\b{word} (?P<a>{_DATE}){EDGE}"), asks
    yield re.compile(rf"\bon (?P<a>{_ON_DAY}){EDGE}"), ("When", "On which day", "On what day")
    yield (
        re.compile(rf"\bin (?P<a>(?:1[0-9]|20)\d\d){EDGE}(?!,\d)"),
        ("When", "In which year", "In what year"),
    )
    yield re.compile(rf"\bin (?P<a>(?:{MONTHS})){EDGE}(?! \d)"), ("When", "In which month")
    yield (
        re.compile(rf"\bin (?P<a>(?:{MONTHS}) \d{{4}}){EDGE}"),
        ("When", "In which month and year"),
    )
    dates = rf"{_DATE}(?: (?:and|or)(?: on)? {_DATE})?"
    yield re.compile(rf"\bon (?P<a>{dates}){EDGE}"), ("When", "On what date", "On which day")
    yield (
        re.compile(
            r"\bin (?P<a>spring|summer|autumn|winter|the (?:morning|afternoon|evening|night))"
            + EDGE
        ),
        ("When",),
    )
    every = (
        rf"every (?:(?:{_ONES}|\d+|second|other|third|few) )?(?:second|minute|hour|day|night"
        rf"|week|month|quarter|year"
        rf"|{_WEEKDAYS})s?"
    )
    per = r"(?:a|an|per|each|every) (?:second|minute|hour|day|night|week|month|quarter|year)"
    yield (
        re.compile(rf"\b(?P<a>(?:once|twice|(?:{_ONES}|\d+) times) (?:{per}|{every})){EDGE}"),
        ("How often", "How frequently"),
    )
    yield re.compile(rf"\b(?P<a>{every}){EDGE}"), ("How often", "How frequently")
    yield (
        re.compile(rf"\bfor (?P<a>{ABOUT}?(?:another )?{NUM} {TIME_UNIT}){EDGE}"),
        ("For how long", "How long"),
    )
    yield (
        re.compile(rf"\bwithin (?P<a>{NUM} {TIME_UNIT}|an? (?:week|month|day|year|hour)){EDGE}"),
        (
            "Within what time",
            "Within how long",
        ),
    )
    yield (
        re.compile(rf"\bafter (?P<a>{ABOUT}?{NUM} {TIME_UNIT}){EDGE}"),
        ("After how long", "After what time"),
    )


TIMES = tuple(_times())
_PERSON_NOUN = (
    r"(?:driver|customer|user|owner|company|team|council|insurance|management|manager|director"
    r"|employer|employee"
    r"|supplier|authority|laboratory|department|supervisor|landlord|tenant|author|teacher"
    r"|trainer)s?"
)
BY_PERSON = re.compile(
    rf"\bby (?P<a>(?!(?:{MONTHS}|{_DAYS}|Easter|Christmas)\b){_NAME}(?: and {_NAME})?|(?:the"
    rf"|your) (?:[a-z]+ )?{_PERSON_NOUN})"
    rf"(?=$| (?:in|on|at|for|from|with|to)\b|,)"
)
TO_PERSON = re.compile(
    rf"\bto (?P<a>[A-Z][\w'’-]+ [A-Z][\w'’-]+|(?:the|your) (?:[a-z]+ )?{_PERSON_NOUN})$"
)
IN_PLACE = re.compile(
    rf"\b(?P<p>in|at|near) (?P<a>(?:the )?{_NAME}(?:, {_NAME})?)(?=$|[,;]| (?:on|at|from|for"
    rf"|with|and|by|since|until|in|every|each|when)\b)"
)
STANDS = re.compile(
    r"^(?P<a>(?:in|on|at|behind|beside|near|under|above|below|inside|outside|opposite|next to"
    r"|between|on top of|along"
    r"|in front of|across from) (?:the |a |an |each |every |your |our |its |hall |room "
    r"|building )?[\w'’ -]{2,60})$"
)
PLACE_NOUN = re.compile(
    r"\b(?:room|building|hall|garden|corridor|cellar|floor|office|kitchen|station|street|square"
    r"|road|quay|gate|entrance"
    r"|desk|shelf|drawer|cupboard|locker|box|lid|case|bag|side|back|front|top|bottom|corner|wall"
    r"|door|window|roof|city"
    r"|town|village|county|province|region|district|country|island|lake|river|coast|sea|mountain"
    r"|valley|park|house"
    r"|store|shop|archive|library|laboratory|workshop|canteen|reception|car park|intranet|folder"
    r"|directory|file|page"
    r"|saddle|tree|bridge|bed|chair|table|hook|rack|safe|counter|shed|jetty|shore|barn|deck|tower|harbour|port|campus|school|hospital|church|museum|theatre|basement|stairs|staircase"
    r"|lobby|centre|center)s?\b",
    re.I,
)
STAND_VERBS = frozenset("lie stand live hang sit stay".split())  # noqa: SIM905
STAND_WORDS = re.compile(
    r"^(?:kept|stored|located|situated|held|found|parked|displayed|buried|based) "
)
MONEY_SPAN = re.compile(
    rf"(?<!\w)(?:(?P<p>for|at|of|by|with|to) )?(?P<a>{ABOUT}?(?<![\w.])(?:{_MONEY}))(?=$|[ ,.;])"
)
PERCENT = re.compile(
    rf"^(?P<a>{ABOUT}?(?:\d[\d.,]*|{_ONES}) ?(?:%|percent|per cent))(?P<of> of [\w'’ -]+?)?(?=$"
    rf"| (?:in|into|on|at|for|from|to|by|as)\b|,)"
)
# What "the speed limit is 10 km/h" is said of: it is a number itself.
QUANTITY = re.compile(
    r"\b(?:limit|range|height|depth|width|weight|length|speed|temperature|number|rate|share"
    r"|minimum|maximum|size|capacity"
    r"|distance|voltage|pressure|acidity|budget|turnover|population|area|age|quota|default"
    r"|threshold|score|ratio|total"
    r"|average|amount|level|value|percentage|discount|concentration|density|altitude|elevation"
    r"|radius|frequency)\b",
    re.I,
)
VALUE = re.compile(
    rf"^(?P<a>{ABOUT}?(?:pH )?(?:{NUM})(?: ?[^\s,.;]{{1,9}}(?: (?:a|an|per) \w+)?)?)$"
)
COUNT = re.compile(
    rf"(?P<n>{ABOUT}?(?:{NUM}))(?P<u>(?: ?(?:°C|°F|%))|(?: [\w'’-]+){{1,4}})",
)
