"""Rows of tables as questions, and lines of the kind `Label: value`."""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from polyprag.augment.prose.prose_fact import ProseFact
from polyprag.augment.prose.sentences import sentences_in, without_stop
from polyprag.augment.prose.words import BASES, DETERMINERS, PARTICIPLES, VERBS, is_plural

_PIPES = re.compile(r"\s*\|\s*")
_RULE = re.compile(r"[\s|:+=-]+")
_PAIRS = re.compile(r"^[^:;]{1,60}(?:: [^;]{1,200})?(?:; [^:;]{1,60}: [^;]{1,200})+$")
_NO_NOUN = re.compile(
    r"(?:^(?:is|are|was|has|can|may|must|do|does|where|when|what|who|which|how|why|if|to|in|on"
    r"|at|for|from|by|with|based"
    r"|used|made|valid|starts?|ends?|goes|comes?|runs?|sits?|repair starts|lasts?|costs?)\b"
    r"|\b(?:in|on|at|for|from|by|with"
    r"|to|of|within|is|are|starts?|ends?|goes|comes?|runs?|lasts?|costs?)$)",
    re.I,
)
_PERSONS = re.compile(r"^(?:name|person|who|employee|member|contact|author|trainer)s?$", re.I)
_ROLE_HEADER = re.compile(r"^(?:role|job|position|function|title|task|post)$", re.I)
_PRICE = re.compile(r"(?:price|cost|fee|charge)s?\b", re.I)
# What a bare number can be said to be.
_NUMBERED = re.compile(
    r"^(?:price|cost|fee|charge|number|year|age|weight|length|height|width|depth|page|room|floor"
    r"|default|value|score|total"
    r"|loss|size|rate|limit|amount|quantity|count|distance|speed|temperature|area|population"
    r"|extension|code)\b",
    re.I,
)
_LABEL = re.compile(r"^(?P<label>[A-Z0-9][\w'’./ &()%-]{1,50}?): (?P<value>\S.+)$")
_REMARK = re.compile(r"^(?:not|no|never|only)\b|\b(?:note|example|see|tip|warning)\b", re.I)
_IS_CLAUSE = re.compile(r"\b(?:is|are|was|were|has|have|can|must|may|will|should)\b")
_ATTENDANCE = re.compile(
    r"(?:Present|Apologies|Absent|In attendance|Attendees|Participants)\b", re.I
)
_MOST_LABEL, _MOST_ANSWER, _MOST_PRESENT = 7, 16, 40


def table_rows(lines: Sequence[str]) -> tuple[list[list[tuple[str, str]]], list[str]]:
    """Takes the rows of tables out of a passage's lines.

    Returns:
        The rows as pairs of header and value, and the lines that aren't rows.
    """
    rows: list[list[tuple[str, str]]] = []
    others: list[str] = []
    header: list[str] | None = None
    for at, line in enumerate(lines):
        cells = _cells(line)
        if cells is None:
            header = None
            pairs = _pairs(line)
            if pairs:
                rows.append(pairs)
            else:
                others.append(line)
        elif header is None:
            following = lines[at + 1] if at + 1 < len(lines) else ""
            header = cells if _RULE.fullmatch(following) or _cells(following) else []
        elif not _RULE.fullmatch(line) and header:
            rows.append(list(zip(header, cells, strict=False)))
    return rows, others


def _cells(line: str) -> list[str] | None:
    if line.count("|") < 2:
        return None
    return [cell.strip() for cell in _PIPES.split(line.strip().strip("|").strip())]


def _pairs(line: str) -> list[tuple[str, str]]:
    """Returns the pairs of `Plan: Basic; Price: 9 EUR.`; the first may be a value alone."""
    text = line.rstrip(".")
    if not _PAIRS.match(text):
        return []
    pairs = []
    for part in text.split("; "):
        header, colon, value = part.partition(": ")
        pairs.append((header, value) if colon else ("", header))
    return pairs


def asked_of_rows(rows: Sequence[Sequence[tuple[str, str]]]) -> Iterator[ProseFact]:
    """Yields what each cell is asked by: its column and the row's first cell."""
    seen = Counter(row[0][1] for row in rows if row)
    values = Counter((header, value) for row in rows for header, value in row[1:])
    for row in rows:
        if len(row) < 2 or not row[0][1] or seen[row[0][1]] > 1:
            continue
        first_header, first = row[0]
        said = "; ".join(f"{header}: {value}" if header else value for header, value in row)
        for header, value in row[1:]:
            if (
                not re.search(r"[A-Za-z]{2}", header)
                or not value
                or value in ("-", "–", "—")
                or len(value.split()) > _MOST_ANSWER
            ):
                continue
            yield ProseFact(tuple(_cell_questions(first_header, first, header, value)), value, said)
            is_name = re.search(r"[A-Za-z]{3}", value) and len(value.split()) <= 8
            if first_header and values[(header, value)] == 1 and is_name:
                yield from _reversed(first_header, first, header, value, said)


def _cell_questions(first_header: str, first: str, header: str, value: str) -> Iterator[str]:
    name = _lowered(header)
    if not first_header:  # the first column has what is compared, the header what has it
        yield f'What is given for "{first}" under "{header}"?'
        yield f'For "{header}", what is given as "{first}"?'
        return
    is_number = re.fullmatch(r"[\d.,]+", value) is not None
    if re.fullmatch(r"[\d.,]+", first):
        first = f"{first} ({_lowered(first_header)})"
    elif not re.fullmatch(r"[\w'’&. -]+", first) or len(first.split()) > 5:
        first = f'"{first}"'
    if is_number and re.fullmatch(r"[A-Za-z]+s", header) and is_plural(header):
        yield f"How many {name} are given for {first}?"
        yield f"What is the number of {name} for {first}?"
    elif _PRICE.match(header) and _is_noun(header):
        yield f"What is the {name.removesuffix('s')} of {first}?"
        yield (
            f"How much does {first} cost?"
            if header.lower() in ("price", "cost")
            else f"What {name} is given for {first}?"
        )
    elif _is_noun(header) and not (is_number and not _NUMBERED.search(header)):
        yield f"What is the {name} of {first}?"
        yield f"What {name} is given for {first}?"
    else:
        yield f'What is given as "{header}" for {first}?'
        yield f'What does {first} have under "{header}"?'


def _reversed(
    first_header: str, first: str, header: str, value: str, said: str
) -> Iterator[ProseFact]:
    if _PERSONS.match(first_header) and _ROLE_HEADER.match(header):
        yield ProseFact(
            (f"Who is the {_lowered(value)}?", f"Who has the role of {_lowered(value)}?"),
            first,
            said,
        )
    elif _is_noun(header) and _is_noun(first_header):
        kind = _lowered(first_header)
        yield ProseFact((f'Which {kind} has "{value}" as its {_lowered(header)}?',), first, said)


def asked_of_label(line: str, *, is_item: bool) -> Iterator[ProseFact]:
    """Yields what a line `Mobile phone: a flat rate of 18 euros a month` answers."""
    match = _LABEL.match(line)
    if not match:
        return
    label, value = match["label"].strip(), without_stop(sentences_in(match["value"])[0])
    if _ATTENDANCE.match(label):
        who = "was present" if label.casefold() == "present" else f'is listed under "{label}"'
        if value.count("(") == value.count(")") and len(value.split()) <= _MOST_PRESENT:
            yield ProseFact((f"Who {who}?",), value, line, is_named=False)
        return
    value = re.split(r"; ", value)[0]
    if not _is_label(label) or not _is_value(value):
        return
    if not is_item and _IS_CLAUSE.search(f"{label} {value}"):
        return
    name = _lowered(label)
    yield ProseFact(
        (f'What is said about "{name}"?', f'What is given for "{name}"?'),
        value,
        sentences_in(line)[0],
    )


def _is_label(label: str) -> bool:
    """Tells whether what stands before a colon names something: no clause, no order, no remark."""
    words = label.lower().split()
    return (
        len(words) <= _MOST_LABEL
        and label.count("(") == label.count(")")
        and not _NO_NOUN.search(label)
        and not _REMARK.search(label)
        and not any(word in VERBS and word not in PARTICIPLES for word in words[1:])
        and not (words[0] in BASES and len(words) > 1)
        and not (len(words) == 1 and (words[0] in PARTICIPLES or words[0].endswith("ed")))
    )


def _is_value(value: str) -> bool:
    """Tells whether what stands after a colon is short, and whole."""
    return (
        len(value.split()) <= _MOST_ANSWER
        and value.count("(") == value.count(")")
        and "[" not in value
        and re.search(r"\w{2}|\d", value) is not None
        and not re.match(r"(?:it|this|they|the following)\b", value, re.IGNORECASE)
    )


def _is_noun(header: str) -> bool:
    """Tells whether a column's name is one thing: "Assembly point", not "Based in", "Measures"."""
    words = header.lower().split()
    return (
        re.fullmatch(r"[A-Za-z][a-z]+(?:[ -][a-z]+){0,3}", header) is not None
        and not _NO_NOUN.search(header)
        and not is_plural(words[-1])
        and words[-1] not in PARTICIPLES
        and words[0]
        not in DETERMINERS
        | PARTICIPLES
        | {"new", "old", "good", "same", "true", "whole", "full", "more"}
        and (words[0] not in VERBS or VERBS[words[0]].do == "do")
        and not words[-1].endswith(("ed", "ly", "able"))
    )


def _lowered(text: str) -> str:
    """Returns a header as it is written within a sentence."""
    first = text.split(" ")[0]
    return (
        text
        if sum(map(str.isupper, first)) > 1 or re.search(r"\d", first)
        else text[:1].lower() + text[1:]
    )
