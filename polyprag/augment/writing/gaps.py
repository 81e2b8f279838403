"""Questions for what no grammar reads: a sentence with question words where a span of it stood.

"The Lumet 5 runs for 37 hours on a full battery" becomes "The Lumet 5 runs for how many hours on a
full battery?", "Battery life: The Lumet 5 runs for how long on a full battery?" and "How many hours
Lumet 5 runs full battery?". Not how people write, but every sentence that says something gets some,
and a model that is trained with them answers people's questions (docs/experiments.md).
"""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from polyprag.augment.prose.patterns import LENGTH, TIME_UNIT
from polyprag.augment.prose.prose_fact import ProseFact
from polyprag.augment.prose.roles import PERSON
from polyprag.augment.prose.topic import names_something
from polyprag.augment.prose.words import (
    AUXILIARIES,
    BASES,
    DETERMINERS,
    PREPOSITIONS,
    PRONOUNS,
    is_plural,
)
from polyprag.augment.writing.subjects import headings_of, subject_of
from polyprag.augment.writing.targets import NUMBER_WORDS, AskedSpan, targets_of
from sharding.corpus.passages import Passage

_MOST_WORDS = 60  # of a sentence
_FEWEST_WORDS = 4  # of a clause that is asked for alone
_FEWEST_OTHERS = 2  # words beside the span
_MOST_KEYWORDS = 14
_SMALL = (
    AUXILIARIES
    | DETERMINERS
    | PREPOSITIONS
    | PRONOUNS
    | frozenset(
        "be been being am i this that these those and or but if when while not no do does did"  # noqa: SIM905
        " there here who which what where also only very so then up out than one too just its"
        " it's".split()
    )
)
_PREPOSITION = re.compile(
    r"\b(?P<word>on|in|at|by|until|till|from|since|before|after|for|within|to)(?: the)? $", re.I
)
_REASON = re.compile(r"\b(?:because|so that|in order to) $", re.I)
_CONDITION = re.compile(r"\b(?:if|when|unless|whenever) $", re.I)
_DUTY = re.compile(r"\b(?:must|should|may|cannot|required to)(?: not)? $", re.I)
_OF_SOMEBODY = re.compile(r"(?:he|she|it|they|his|her|its|their|this|these|that|those)\b", re.I)
_ARTICLE = re.compile(r"\b(?:an?|the|its|their|\d+) $", re.I)
# The last word of what has two capitals and isn't a person.
_NO_PERSON = re.compile(
    r"\b(?:Academy|America|Area|Awards?|Bay|Bridge|Cathedral|Center|Centre|Championships?|Church"
    r"|City|Club|College|Committee|Company|Corporation|Council|County|Cup|Department|District"
    r"|Division|Empire|Festival|Foundation|Games|Group|Hall|Hospital|House|Institute"
    r"|Islands?|Kingdom|Lake|Law|League|Library|Medal|Mountains?|Museum|Music|Netherlands|Ocean"
    r"|Office|Olympics|Orchestra|Park|Party|Peninsula|Prize|Province|Records|Republic|River|Road"
    r"|School|Sea|Series|Society|Square|States?|Station|Street|Studios|Team|Theatre|Theater|Tower"
    r"|Trophy|Union|University|Valley|War|Works)$"
)
_OPENS, _CLOSES = tuple('"“«'), tuple('"”»')
_CLOCK = re.compile(r"\d{1,2}:\d\d|\d ?[ap]\.?m\b", re.I)
_AMOUNT = re.compile(r"[\d.,/–-]*\d|\w+")
# A word of an amount that has no plural: of a number, or a unit.
_IS_AMOUNT = re.compile(
    rf"\W*\d\S*|\W+|(?:{NUMBER_WORDS})(?:-\w+)*|million|billion|thousand|per|cent|percent|°?[CF]"
    r"|[A-Z]{3}|(?:k|c|m|µ)?(?:m|g|l|s|W|V|A|Hz|B|Pa)[²³]?|[MGT]B|kWh|h|min|ft|lb|\w+/\w+"
)
_TIME = re.compile(rf"\b(?:{TIME_UNIT}|h|min|s)\b")
_LENGTH = re.compile(rf"{LENGTH}|yards?|nautical miles?")
_OF_A_RANGE = re.compile(r"\d ?(?:to|and|or|–|-) ?$")
_NAMED_BEFORE = re.compile(r"(?P<start>^\W*)?\b(?P<word>[A-Z]\w*[a-z]\w*) $")
_RANGE_AFTER = re.compile(r"^ ?(?:to|and|or|–|-) ?\d")
_ENDS_CLAUSE = re.compile(r"[,;:()–—]| - ")
_KEYWORD = re.compile(r"[\w'’€%°./-]*\w[\w'’€%°/-]*")


class _Gap(NamedTuple):
    """Question words for a span.

    Attributes:
        words: `how many hours`, `on which date`.
        taken: how many characters before the span they take the place of.
    """

    words: str
    taken: int = 0


def gap_questions(passage: Passage) -> list[ProseFact]:
    """Returns what can be asked by putting question words in the place of a span.

    Args:
        passage: of English text.

    Returns:
        A fact for each span that is worth asking about, every sentence's best one before any
        sentence's second; up to three wordings each, the whole sentence first.
    """
    headings, subject = headings_of(passage.title), subject_of(passage) or ""
    found = []
    for target in targets_of(passage.text, title=passage.title):
        span = _narrowed(target)
        at = _place_of(span, target.context)
        if at is None or len(target.context.split()) > _MOST_WORDS:
            continue
        before, after = target.context[:at], target.context[at + len(span) :]
        if before[-1:] in _OPENS and after[:1] in _CLOSES:
            before, after = before[:-1], after[1:]
        if _is_torn(target.kind, span, before, after) or target.context.endswith("?"):
            continue
        if len(headings) > 1 and target.sentence == 0 and _OF_SOMEBODY.match(target.context):
            continue  # of the heading, or of what stood before it
        wordings = _wordings(_gaps(target.kind, span, before), before, after, headings, subject)
        if distinct := tuple(dict.fromkeys(wordings)):
            found.append(ProseFact(distinct, span, target.context))
    return found


def _place_of(span: str, context: str) -> int | None:
    """Returns where a span begins: not inside of a word or another number ("5 h" in "2.5 h")."""
    match = re.search(rf"(?<!\w)(?<!\w[.,-]){re.escape(span)}(?!\w)", context) if span else None
    return match.start() if match else None


def _narrowed(target: AskedSpan) -> str:
    """Returns a span without what isn't its own: "Tell Ada Lund", "Ada Lund's"."""
    span = target.text
    if target.kind == "name":
        first, _, rest = span.partition(" ")
        if target.context.startswith(span) and first.casefold() in BASES:
            span = rest
        return re.sub(r"['’]s$", "", span)
    if target.kind == "number":
        words = span.split()
        plural = next((at for at, word in enumerate(words) if at and is_plural(word)), 0)
        amount = next((at for at, word in enumerate(words) if not _IS_AMOUNT.fullmatch(word)), None)
        return " ".join(words[: plural + 1] if plural else words[:amount])
    return span.removeprefix("of ") if target.kind == "clause" else span


def _is_torn(kind: str, span: str, before: str, after: str) -> bool:
    """Tells whether a span is only a part of what is meant: "10" of "10 to 25 °C"."""
    if kind == "name":  # or a remark in parentheses: "(British English)"
        return before.endswith(("& ", "(")) or bool(re.match(r" &| ?\d|-\w|:", after))
    if kind == "number":
        is_numbering = not before.strip() and bool(re.match(r"[.)]? [A-Z]", after))
        # SO-2190, 12:45, 8th
        is_of_a_word = re.search(r"\w-$|\d[:.,]$", before) or re.match(r"\w", after)
        is_of_a_name = span[:1].isdigit() and _is_named_by(before)
        is_of_a_range = _OF_A_RANGE.search(before) or _RANGE_AFTER.match(after)
        return is_numbering or bool(is_of_a_word or is_of_a_name or is_of_a_range)
    return False


def _is_named_by(before: str) -> bool:
    """Tells whether what stands before a number makes it a part of a name: "Lumet 5", "Room 12"."""
    match = _NAMED_BEFORE.search(before)
    if match is None:
        return False
    word = match["word"].casefold()
    is_first = match["start"] is not None
    return not (is_first and (word in _SMALL or word in BASES or word.endswith("ly")))


def _wordings(
    gaps: Sequence[_Gap], before: str, after: str, headings: Sequence[str], subject: str
) -> Iterator[str]:
    """Yields the whole sentence, its clause under a heading, and its words without the small ones.

    What names nothing is said to be of the passage's subject; where it has none, nothing is asked.
    """
    first, last = gaps[0], gaps[-1]
    head = before[: len(before) - first.taken]
    if len(_KEYWORD.findall(f"{head} {after}")) < _FEWEST_OTHERS:
        return
    whole = _question(head, first.words, after)
    is_named = names_something(whole) and not _OF_SOMEBODY.match(whole)
    if not is_named and not subject:
        return
    yield whole if is_named else f"{subject}: {whole}"
    words = [word for word in _KEYWORD.findall(f"{head} {after}") if word.casefold() not in _SMALL]
    if not is_named or len(words) < _FEWEST_WORDS:
        words = [*_KEYWORD.findall(subject), *words]
    head, tail = before[: len(before) - last.taken], after
    clause = _ENDS_CLAUSE.split(head)[-1], _ENDS_CLAUSE.split(tail)[0]
    if len(" ".join(clause).split()) >= _FEWEST_WORDS:
        head, tail = clause
    about = next(reversed(headings), "") if is_named else subject
    yield _question(f"{about}: {head}" if about else head, last.words, tail)
    yield _question(first.words, *words[:_MOST_KEYWORDS])


def _question(*parts: str) -> str:
    text = " ".join(" ".join(parts).split()).rstrip(" .!;:,")
    text = re.sub(r"(?<=\() | (?=[,.;:)])", "", text)
    return f"{text[:1].upper()}{text[1:]}?"


def _gaps(kind: str, span: str, before: str) -> list[_Gap]:
    """Returns question words for a span, the most exact first."""
    match = _PREPOSITION.search(before)
    word = match["word"].lower() if match else ""
    taken = len(before) - match.start() if match else 0
    if kind == "date":
        return _when(span, word, taken)
    if kind == "number":
        return _how_many(span, word, taken)
    if kind == "name":
        if word in ("in", "at"):
            return [_Gap("where", taken), _Gap(f"{word} which place", taken)]
        if re.fullmatch(PERSON, span) and not (_NO_PERSON.search(span) or _ARTICLE.search(before)):
            return [_Gap("who"), _Gap("which person")]
        return [_Gap("what"), _Gap("which")]
    if kind == "clause":
        return _why(span, before, word, taken)
    return [_Gap("what")]


def _when(span: str, word: str, taken: int) -> list[_Gap]:
    exact = "what time" if _CLOCK.search(span) else "which date"
    if match := re.fullmatch(r"(?P<month>[A-Z][a-z]+ )?\d{4}(?P<decade>s)?", span):
        exact = f"which {'month' if match['month'] else 'decade' if match['decade'] else 'year'}"
    if word in ("on", "in", "at"):
        return [_Gap(f"{word} {exact}", taken), _Gap("when", taken)]
    if word:
        return [_Gap(f"{word} {exact}", taken), _Gap(f"{word} when", taken)]
    return [_Gap(exact), _Gap("when")]


def _how_many(span: str, word: str, taken: int) -> list[_Gap]:
    if re.search(r"[€$£¥]|\b(?:[A-Z]{3}|euros?|dollars?|pounds?)\b", span):
        return [_Gap("how much"), _Gap("what price")]
    if re.search(r"%|\bper ?cent\b", span):
        return [_Gap("what percentage"), _Gap("how many percent")]
    if re.search(r"°|\bdegrees?\b", span):
        return [_Gap("what temperature"), _Gap("how many degrees")]
    amount = _AMOUNT.match(span)
    unit = span[amount.end() :].strip() if amount else ""
    if not unit:
        return [_Gap("how many"), _Gap("which number")]
    if unit.startswith("-"):
        return [_Gap("what")]
    many = _Gap(f"how many {unit}")
    if _TIME.search(unit):
        return [many, _Gap("for how long", taken) if word == "for" else _Gap("how long")]
    if _LENGTH.fullmatch(unit):
        return [many, _Gap("how far")]
    return [many]


def _why(span: str, before: str, word: str, taken: int) -> list[_Gap]:
    if match := _REASON.search(before):
        return [_Gap("why", len(before) - match.start())]
    if match := _CONDITION.search(before):
        return [_Gap("when", len(before) - match.start())]
    if _DUTY.search(before):
        return [_Gap("do what")]
    if word == "by" and re.match(r"\w+ing\b", span):
        return [_Gap("how", taken)]
    if word in ("until", "before", "after"):
        return [_Gap(f"{word} what", taken), _Gap("when", taken)]
    return [_Gap("what")]
