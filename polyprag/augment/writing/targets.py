"""What of a passage is worth asking about: spans found by rules, spread over its sentences.

A model that is asked for "questions about this" asks about its first sentence. So each question is
asked for a span of its own: a date, a number with its unit, a name, a clause, an item of a list, a
cell of a table.
"""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from collections.abc import Iterator
from dataclasses import dataclass

from polyprag.augment.fact_patterns import MONTHS, NAME
from polyprag.augment.facts import subject_name
from polyprag.augment.prose.sentences import ends_shortened, sentences_in

_CELLS = re.compile(r"\s*\|\s*|\t+")
_RULE_OF_TABLE = re.compile(r"[\s|:+=-]+")
_BULLET = re.compile(r"\s*(?:[-*+•‣◦–]|\d{1,3}[.)]|[a-z][.)])\s+")
_MOST_WORDS = 14  # of a span
_FEWEST_LETTERS = 2

_SHORT_MONTHS = r"(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?"
_CLOCK = r"\d{1,2}[:.]\d\d ?[ap]\.?m\b\.?|\d{1,2}:\d\d(?:[–-]\d{1,2}:\d\d)?|\d{1,2} ?[ap]\.?m\b\.?"
_WEEKDAY = r"(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|(?:Mon|Tues?|Wed|Thu|Fri|Sat|Sun)\.?)"
_DATE = re.compile(
    rf"\b(?:(?:{_WEEKDAY},? )?\d{{1,2}}(?:st|nd|rd|th)? (?:{MONTHS}|{_SHORT_MONTHS})(?:,? \d{{4}})?"
    rf"|(?:{MONTHS}) \d{{1,2}}(?!\d)(?:st|nd|rd|th)?(?:, ?\d{{4}})?|(?:{MONTHS}) \d{{4}}"
    rf"|\d{{4}}-\d\d-\d\d|{_CLOCK}"
    r"|(?:1[0-9]|20)\d0s\b|(?:1[0-9]|20)\d\d(?:[–/-](?:1[0-9]|20)?\d\d\b)?(?![\d,.]*\d))"
)
NUMBER_WORDS = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    "|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred"
)
# With its currency before it, or its unit after it: a symbol, or a word or two that it counts.
_NUMBER = re.compile(
    r"(?<![\w.,])(?:\+\d|0\d)\d*(?: \d{2,4}){1,5}(?![\d.,]*\d)"  # of a telephone, a code
    rf"|(?:[€$£¥] ?)?(?:\b\d[\d,.]*\d|\b\d|\b(?:{NUMBER_WORDS})\b(?:[ -](?:{NUMBER_WORDS})\b)*)"
    r"(?: ?(?:°[CF]|[%‰°€$£¥])"
    r"|(?: (?:per ?cent|million|billion|thousand|hundred))?"
    r"(?:[ -](?!(?:and|or|of|in|on|at|to|for|by|from|with|as|is|was|are|were|the|a|an|per|who|that"
    r"|which|but|has|have|had|than|after|before|if|when|until|while|its|their|it|they)\b)"
    r"[a-zA-Zµ²³/]+){1,2})?",
    re.I,
)
_TITLE = r"(?:Dr|Mr|Mrs|Ms|Prof|Rev|Fr|Capt|Cllr|Sgt|Col|Gen|Lt)\.? "
_NAME = re.compile(rf"(?<![\w.])(?:{_TITLE})?{NAME}")
_QUOTED = re.compile(r"[\"“«]([^\"“”«»\n]{2,60})[\"”»]")
_SERIES = re.compile(
    r"((?:[\w'’&-]+(?: [\w'’&-]+){0,3}, )+(?:[\w'’&-]+ ){1,4}(?:and|or) [\w'’ &-]+)"
)
_JOINTS = r"because|so that|in order to|unless|until|provided that|if|when|after|before"
# A decimal point, an address's or an abbreviation's ends none.
_IN_CLAUSE = (
    r"(?:[^.;:()\n,]|(?<=\d),(?=\d)|(?<=\w)[.:](?=\w)|(?<=[ap]\.m)\.|(?<=\bDr)\.|(?<=\bMr)\."
    r"|(?<=\bMrs)\.|(?<=\bSt)\.|(?<=\b[A-Z])\.(?= [A-Z]))"
)
_CLAUSE = re.compile(
    rf"\b(?:(?:only )?(?:{_JOINTS})|by|must(?: not)?|may not|cannot|should(?: not)?|is required to"
    r"|are required to|is responsible for|are responsible for|is used (?:for|to)|consists of"
    rf"|known as|called|means) ((?:(?!\b(?:{_JOINTS})\b){_IN_CLAUSE}){{6,90}})",
    re.I,
)
_IS_A = re.compile(rf"\b(?:is|was|are|were) ((?:an?|the|one of) {_IN_CLAUSE}{{4,80}})")
# What begins with a capital at the head of a sentence and names nothing.
_NO_NAME = frozenset(
    "the a an this that these those it he she they we you i in on at by for from with as to of and"  # noqa: SIM905
    " or but if when while after before during since there here his her its their our your all each"
    " every any some no not many most other both such what who which where why how please note see"
    " also however although because once then thus today yes more one two three its use do don"
    " never always only first second third if unless until under over between according".split()
)


@dataclass(frozen=True, slots=True)
class AskedSpan:
    """A span of a passage that some question should have as its answer.

    Attributes:
        kind: date, number, name, quoted, series, clause, item or cell.
        text: the span, on one line.
        sentence: the number of its sentence from 0.
        context: that sentence.
    """

    kind: str
    text: str
    sentence: int
    context: str


def lines_and_sentences(text: str) -> list[str]:
    """Returns a text's sentences; a line ends one, so that list items and table rows are some."""
    return [sentence for line in re.split(r"\n+", text) for sentence in sentences_in(line)]


def targets_of(text: str, *, title: str = "") -> list[AskedSpan]:
    """Returns the spans of a passage that are worth asking about.

    Args:
        text: the passage's.
        title: the passage's, which is no answer to a question about it.

    Returns:
        Each text once. Every sentence's best span comes before any sentence's second one, so that
        any number from the front is spread over the whole passage.
    """
    seen = {_key(title), _key(subject_name(title))}
    sentences = lines_and_sentences(text)
    columns: list[str] | None = None
    by_sentence: list[list[AskedSpan]] = []
    for number, sentence in enumerate(sentences):
        cells = _cells(sentence)
        found = []
        if cells and columns is None:
            columns = cells  # a table's first row names its columns
            spans: Iterator[tuple[str, str]] = iter(())
        else:
            columns = columns if cells else None
            spans = _cell_spans(cells) if cells else _spans(sentence)
        bare = sentence[bullet.end() :] if (bullet := _BULLET.match(sentence)) else sentence
        context = _row(columns, cells) if cells and columns else " ".join(bare.split())
        for kind, span in spans:
            clean = _clean(span)
            key = _key(clean)
            if key in seen or not _is_worth(clean, kind):
                continue
            seen.add(key)
            found.append(AskedSpan(kind, clean, number, context))
        by_sentence.append(_without_overlap(found))
    most = max(map(len, by_sentence), default=0)
    return [found[turn] for turn in range(most) for found in by_sentence if turn < len(found)]


def _spans(sentence: str) -> Iterator[tuple[str, str]]:
    """Yields kinds and spans of a sentence, the most asked-about kinds first."""
    bullet = _BULLET.match(sentence)
    body = sentence[bullet.end() :] if bullet else sentence
    for kind, pattern in (("date", _DATE), ("number", _NUMBER)):
        for match in pattern.finditer(body):
            yield kind, match.group()
    for match in _NAME.finditer(body):
        name = match.group()
        at_start = not body[: match.start()].strip("\"'“‘([ ")
        first, _, rest = name.partition(" ")
        if first.casefold() in _NO_NAME:
            name = rest
        elif at_start and not rest and not first[1:].isupper():
            continue  # any word has a capital there
        if name:
            yield "name", name
    for match in _QUOTED.finditer(body):
        yield "quoted", match.group(1)
    for match in _SERIES.finditer(body):
        yield "series", match.group(1)
    for pattern in (_CLAUSE, _IS_A):
        for match in pattern.finditer(body):
            yield "clause", match.group(1)
    if bullet:
        head, colon, rest = body.partition(":")
        yield "item", rest if colon and rest.strip() else head


def _cells(line: str) -> list[str] | None:
    """Returns a table row's cells; None for a line that is none."""
    if line.count("|") < 2 and "\t" not in line:
        return None
    cells = [cell.strip() for cell in _CELLS.split(line.strip().strip("|"))]
    return cells if len(cells) > 1 else None


def _cell_spans(cells: list[str]) -> Iterator[tuple[str, str]]:
    if _RULE_OF_TABLE.fullmatch("".join(cells)):
        return
    for cell in cells[1:]:  # the first one says what the row is about
        yield "cell", cell


def _row(columns: list[str], cells: list[str]) -> str:
    """Returns a table row with its columns' names: "Plan: Basic; Price: 5 €"."""
    pairs = zip(columns, cells, strict=False)
    return "; ".join(f"{column}: {cell}" if column else cell for column, cell in pairs if cell)


def _clean(span: str) -> str:
    """Returns a span without marks around it; the full stop of "p.m." and "Ltd." is its own."""
    bare = " ".join(span.split()).strip(' ,.;:!?-–*_`"“”|')
    return f"{bare}." if f"{bare}." in span and ends_shortened(bare) else bare


def _key(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _is_worth(span: str, kind: str) -> bool:
    if len(span.split()) > _MOST_WORDS or _is_half_quoted(span):
        return False
    if kind in ("date", "number"):
        return any(c.isdigit() for c in span) or " " in span or "-" in span
    return sum(c.isalpha() for c in span) >= _FEWEST_LETTERS or any(c.isdigit() for c in span)


def _is_half_quoted(span: str) -> bool:
    return span.count('"') % 2 == 1 or any(span.count(a) != span.count(b) for a, b in ("“”", "«»"))


def _without_overlap(found: list[AskedSpan]) -> list[AskedSpan]:
    """Leaves out what is a part of a span that was found before: "12" of "12 May".

    Also a year that is taken for a number of something: "2020 census".
    """
    kept: list[AskedSpan] = []
    for target in found:
        padded = f" {_key(target.text)} "
        dates = (f" {_key(other.text)} " for other in kept if other.kind == "date")
        if target.kind == "number" and any(padded.startswith(date) for date in dates):
            continue
        if not any(padded in f" {_key(other.text)} " and target.kind != "clause" for other in kept):
            kept.append(target)
    return kept
