"""A passage's lines and sentences, each on one line and word for word as the passage has it."""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from collections.abc import Iterator
from typing import NamedTuple

_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9À-Þ])")
_MONTHS = r"Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
_DAYS = r"Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun"
# A full stop after these ends no sentence, whatever follows; nor one after a unit's clock time.
_NEVER_ENDS = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Prof|Rev|Fr|Capt|Sgt|Lt|Col|Gen|Cllr|Hon|Messrs|Mt|vs|approx|ca?|e\.g|i\.e"
    r"|cf|viz|No|Nos)\.$"
)
# These end one only where a word follows that begins sentences, or any but a number.
_MAY_END = re.compile(r"\b(?:St|Jr|Sr|etc|Inc|Ltd|Co|Corp|Ave|Rd|Sq|Bros)\.$|(?:^|[\s.(])[A-Z]\.$")
_BEFORE_NUMBERS = re.compile(
    rf"\b(?:(?i:nos?|ext|tel|fig|figs|sec|art|vol|ch|pp?|reg|max|min|ver|par)|{_MONTHS}|{_DAYS})\.$"
)
_CLOCK = re.compile(r"\b[ap]\.m\.$")
_UNIT = re.compile(r"(?:\d ?|°\s?)[A-Z]\.$")
_OPENER = re.compile(
    r"[\"'“‘(\[]?(?:It|Its|It['’]s|The|They|Their|There|These|This|Those|That|If|In|On|At|For|When"
    r"|While|After|Before|He|She|His|Her|We|You|Your|Our|But|And|However|Since|No|Each|Every|All|Do"
    r"|Please|Both|As|By|From|To|Do(?:n['’]t)?|Nobody|Most|Many|Some|What|Who|How|An)\b(?!\.)"
)
_SHORTENED = re.compile(
    rf"\b(?:[ap]\.m|[A-Z]\.[A-Z]|e\.g|i\.e|Jr|Sr|Inc|Ltd|Co|Corp|etc|\d+ (?:{_MONTHS}|min))$"
)
_TIMES = re.compile(rf"(?:{_MONTHS}|{_DAYS})[a-z]*\b")
_BULLET = re.compile(r"^\s*(?:[-*+•‣◦]|\d{1,3}[.)]|[a-z][.)])\s+")
_MARKS = re.compile(r"\*\*|__|`|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)|^#{1,6}\s+")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")


class Line(NamedTuple):
    """One line of a passage.

    Attributes:
        text: without a bullet and without Markdown's marks.
        is_item: it had a bullet or a number.
    """

    text: str
    is_item: bool


def lines_of(text: str) -> Iterator[Line]:
    """Yields the lines that have something in them."""
    for raw in text.splitlines():
        bullet = _BULLET.match(raw)
        line = raw[bullet.end() :] if bullet else raw
        line = " ".join(_MARKS.sub("", _LINK.sub(r"\1", line)).split())
        if any(map(str.isalnum, line)):
            yield Line(line, bullet is not None)


def sentences_in(line: str) -> list[str]:
    """Returns a line's sentences with their full stops."""
    found, start = [], 0
    for match in _END.finditer(line):
        if not _is_end(line[start : match.start()], line[match.end() :]):
            continue
        found.append(line[start : match.end()].strip())
        start = match.end()
    found.append(line[start:].strip())
    return [sentence for sentence in found if any(map(str.isalnum, sentence))]


def _is_end(before: str, after: str) -> bool:
    """Tells whether a sentence ends where a mark is followed by a capital or a digit."""
    is_in_brackets = before.count("(") > before.count(")") and ")" in after
    if is_in_brackets or _NEVER_ENDS.search(before):
        return False
    if _CLOCK.search(before):
        return not (after[:1].isdigit() or _TIMES.match(after))
    if after[:1].isdigit():
        return not (_BEFORE_NUMBERS.search(before) or _MAY_END.search(before))
    if _MAY_END.search(before):  # an initial, if it isn't a unit: "8 °C. Vaccines"
        return bool(_UNIT.search(before) or _OPENER.match(after))
    return True


def without_stop(text: str) -> str:
    """Returns a text without the full stop at its end, if that isn't an abbreviation's."""
    bare = text.rstrip(" .")
    return f"{bare}." if text.startswith(f"{bare}.") and ends_shortened(bare) else bare


def ends_shortened(text: str) -> bool:
    """Tells whether a text ends in what is written with a full stop: "6 p.m", "Rowe Ltd"."""
    return _SHORTENED.search(text) is not None
