"""Rows of tables as questions, and lines of the kind `Label: value`."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from polyprag.augment.prose.asked import Asked
from polyprag.augment.prose.words import VERBS

_PIPES = re.compile(r"\s*\|\s*")
_RULE = re.compile(r"[\s|:+=-]+")
_PAIRS = re.compile(r"^[^:;]{1,60}(?:: [^;]{1,200})?(?:; [^:;]{1,60}: [^;]{1,200})+$")
_NO_NOUN = re.compile(
    r"(?:^(?:is|are|was|has|can|may|must|do|does|where|when|what|who|which|how|why|if|to|in|on|at|for|from|by|with|based"
    r"|used|made|valid|starts?|ends?|goes|comes?|runs?|sits?|repair starts|lasts?|costs?)\b|\b(?:in|on|at|for|from|by|with"
    r"|to|of|within|is|are|starts?|ends?|goes|comes?|runs?|lasts?|costs?)$)",
    re.I,
)
_PERSONS = re.compile(r"^(?:name|person|who|employee|member|contact|author|trainer)s?$", re.I)
_ROLE_HEADER = re.compile(r"^(?:role|job|position|function|title|task|post)$", re.I)
_LABEL = re.compile(r"^(?P<label>[A-Z0-9][\w'’./ &()%-]{1,50}?): (?P<value>\S.+)$")  # noqa: RUF001
_MOST_LABEL, _MOST_ANSWER = 7, 16


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


def asked_of_rows(rows: Sequence[Sequence[tuple[str, str]]]) -> Iterator[Asked]:
    """Yields what each cell is asked by: its column and the row's first cell."""
    seen = Counter(row[0][1] for row in rows if row)
    values = Counter((header, value) for row in rows for header, value in row[1:])
    for row in rows:
        if len(row) < 2 or not row[0][1] or seen[row[0][1]] > 1:
            continue
        first_header, first = row[0]
        said = "; ".join(f"{header}: {value}" if header else value for header, value in row)
        for header, value in row[1:]:
            if not header or not value or value in ("-", "–", "—") or len(value.split()) > _MOST_ANSWER:
                continue
            yield Asked(tuple(_cell_questions(first_header, first, header, value)), value, said)
            is_name = re.search(r"[A-Za-z]{3}", value) and len(value.split()) <= 8
            if first_header and values[(header, value)] == 1 and is_name:
                yield from _reversed(first_header, first, header, value, said)


def _cell_questions(first_header: str, first: str, header: str, value: str) -> Iterator[str]:
    name = _lowered(header)
    if not first_header:  # the first column has what is compared, the header what has it
        yield f'What is given for "{first}" under {header}?'
        yield f'For {header}, what is given as "{first}"?'
        return
    if re.fullmatch(r"[\d.,]+", first):
        first = f"{first} ({_lowered(first_header)})"
    is_number = re.fullmatch(r"[\d.,]+", value) is not None
    is_bare_number = is_number and not re.search(
        r"s$|^(?:price|cost|fee|charge|number|year|age|weight|length|height|width|depth|page|room|floor)\b", header, re.I
    )
    if is_bare_number or "," in header or _is_no_noun(header) or (not is_number and re.fullmatch(r"[A-Za-z]+s", header) and not header.endswith("ss")):
        yield f'What is given as "{header}" for {first}?'
        yield f'For {first}, what stands under "{header}"?'
    elif re.fullmatch(r"[\d.,]+", value) and re.fullmatch(r"[A-Za-z]+s", header) and not header.endswith("ss"):
        yield f"How many {name} are given for {first}?"
        yield f"What is the number of {name} for {first}?"
    elif re.search(r"^(?:price|cost|fee|charge)s?\b", header, re.I):
        yield f"What is the {name.removesuffix('s')} of {first}?"
        yield f"How much does {first} cost?" if header.lower() in ("price", "cost") else f"For {first}, what is the {name}?"
    else:
        yield f"What is the {name} of {first}?"
        yield f"For {first}, what is the {name}?" if " " in name else f"What {name} is given for {first}?"


def _reversed(first_header: str, first: str, header: str, value: str, said: str) -> Iterator[Asked]:
    if _PERSONS.match(first_header) and _ROLE_HEADER.match(header):
        yield Asked((f"Who is the {_lowered(value)}?", f"Who has the role of {_lowered(value)}?"), first, said)
    elif not (_is_no_noun(header) or _is_no_noun(first_header) or re.search(r"[^s]s$", header)):
        kind = _lowered(first_header)
        yield Asked((f'Which {kind} has "{value}" as its {_lowered(header)}?',), first, said)


def asked_of_label(line: str, *, is_item: bool) -> Iterator[Asked]:
    """Yields what a line `Mobile phone: a flat rate of 18 euros a month` answers."""
    match = _LABEL.match(line)
    if not match:
        return
    label, value = match["label"].strip(), match["value"].split(". ")[0].rstrip(".")
    value = re.split(r"; ", value)[0]
    words = label.split()
    if label.count("(") != label.count(")") or value.count("(") != value.count(")"):
        return
    if len(words) > _MOST_LABEL or _NO_NOUN.search(label) or re.search(r"\b(?:note|example|see|tip|warning)\b", label, re.I):
        return
    if len(value.split()) > _MOST_ANSWER or not re.search(r"\w{2}", value) or re.match(r"(?:it|this|they|the following)\b", value, re.I):
        return
    if not is_item and re.search(r"\b(?:is|are|was|were|has|have|can|must|may|will|should)\b", f"{label} {value}"):
        return
    name = _lowered(label)
    yield Asked((f'What is said about "{name}"?', f'What is given for "{name}"?'), value, line.split(". ")[0])


def _is_no_noun(header: str) -> bool:
    """Tells whether a column's name is more than a noun: "Based in", "Measures"."""
    verb = VERBS.get(header.lower())
    return bool(_NO_NOUN.search(header)) or (verb is not None and verb.do == "does")


def _lowered(text: str) -> str:
    """Returns a header as it is written within a sentence."""
    first = text.split(" ")[0]
    return text if sum(map(str.isupper, first)) > 1 or re.search(r"\d", first) else text[:1].lower() + text[1:]
