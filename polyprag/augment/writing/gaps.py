"""Questions for what no grammar reads: a sentence with question words where a span of it stood.

"The Lumet 5 runs for 37 hours on a full battery" becomes "The Lumet 5 runs for how many hours on a
full battery?", "Battery life: The Lumet 5 runs for how long on a full battery?" and "How many hours
Lumet 5 runs full battery?". Not how people write, but every sentence that says something gets some,
and a model that is trained with them answers people's questions (docs/experiments.md).
"""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from collections.abc import Iterator, Sequence

from polyprag.augment.prose.patterns import MEASURES
from polyprag.augment.prose.prose_fact import ProseFact
from polyprag.augment.prose.sentences import ends_shortened
from polyprag.augment.prose.topic import names_something
from polyprag.augment.prose.words import BASES, DETERMINERS, VERBS, is_plural
from polyprag.augment.writing.finished import SMALL_WORDS, is_finished, places_of
from polyprag.augment.writing.gap_words import LABEL, Gap, gaps_of
from polyprag.augment.writing.leaning import Leaning, leans
from polyprag.augment.writing.subjects import headings_of, subject_of
from polyprag.augment.writing.targets import NUMBER_WORDS, AskedSpan, targets_of
from sharding.corpus.passages import Passage

_MOST_WORDS = 60  # of a sentence
_FEWEST_WORDS = 4  # of a clause that is asked for alone
_FEWEST_OTHERS = 2  # words beside the span
_MOST_KEYWORDS = 14
_OPENS, _CLOSES = tuple('"“«'), tuple('"”»')
# A word of an amount that has no plural: of a number, or a unit.
_IS_AMOUNT = re.compile(
    rf"\W*\d\S*|\W+|(?:{NUMBER_WORDS})(?:-\w+)*|million|billion|thousand|per|cent|percent|°?[CF]"
    r"|[A-Z]{3}|(?:k|c|m|µ)?(?:m|g|l|s|W|V|A|Hz|B|Pa)[²³]?|[MGT]B|kWh|h|min|ft|lb|oz|tbsp|tsp|kcal|kJ|dB|px|µg|ha|mph|ppm|rpm|bar"
    r"|\w+/\w+"
)
# A number behind one of these tells which one it is, and counts nothing.
_LABEL = re.compile(
    rf"\b(?:{LABEL}|{LABEL}s|no|nos|codes|categories|sec|tel|phone|from|the) ?\.? $",
    re.I,
)
_OF_A_LIST = re.compile(
    rf"(?<!\w)(?:\d+(?:,|,? (?:to|and|or)| ?[–-]) ?|(?:{NUMBER_WORDS}|one) (?:to|or) |\d+ ?)$"
)
_NAMED_BEFORE = re.compile(r"(?P<start>^\W*)?\b(?P<word>[A-Z]\w*[a-z]\w*) $")
_RANGE_AFTER = re.compile(
    rf"^ ?(?:to|and|or|–|-) ?\d|^ (?:to|or) (?:{NUMBER_WORDS})\b|^, \d+(?:,| and| or)|^ ?\d"
)
_CODED = re.compile(r"\b(?!EUR|USD|GBP|CHF)[A-Z]{2,6} $")
_CLAUSE_STARTS = re.compile(r"; |: | – |—| - ")
_CLAUSE_ENDS = re.compile(r"; |: |, (?!\d)| – |—| - ")
_REST_OF_FRONTED = re.compile(r", (?:because|since|so|which|where|who|and|but|as)\b")
_ATTENDANCE = re.compile(
    r"(?:Present|Apologies|Absent|Attend\w+|In attendance|Participants?)(?: for absence)?: "
)
_QUESTION_WORDS = frozenset("how many much long far what which when where why number".split())  # noqa: SIM905
_SOME_OF_THEM = re.compile(r"(?:[^,]{0,30}, )?[\w.,]+ of (?:them|these|those)\b", re.I)
_SUBORDINATE = re.compile(
    r"(?:If|When|Since|Because|As|After|Before|While|Until|Unless|Although|Once|Whoever)\b", re.I
)
_NEXT_CLAUSE = re.compile(
    r",? (?:and|but|or|so) (?=(?:you|he|she|it|they|we|I|this|that|there|nobody|not"
    r"|is|are|was|were|has|have|can|may|must|will|should)\b)"
)
_NUMBERING = re.compile(r"^(?:\d+(?:\.\d+)*\.?|[A-Z]\.|§ ?\d+) (?=\w)")
_MARKS = '()[]{}"“”«»,;:!?'


def gap_questions(passage: Passage) -> list[ProseFact]:
    """Returns what can be asked by putting question words in the place of a span.

    Args:
        passage: of English text.

    Returns:
        A fact for each span that is worth asking about, every sentence's best one before any
        sentence's second; up to three wordings each, the whole sentence first.
    """
    headings = [_NUMBERING.sub("", heading) for heading in headings_of(passage.title)]
    subject = _NUMBERING.sub("", subject_of(passage) or "")
    leaning = Leaning(passage)
    found = []
    for target in targets_of(passage.text, title=passage.title):
        if len(target.context.split()) > _MOST_WORDS or target.context.endswith("?"):
            continue
        if _ATTENDANCE.match(target.context):
            continue
        parts = _around(target)
        if parts is None:
            continue
        before, span, after = parts
        gaps = gaps_of(target.kind, span, before, after)
        if _SOME_OF_THEM.match(f"{before}{span}{after}"):
            continue
        if not gaps or _is_part(target.kind, span, before, after, gaps[0]):
            continue
        resolved = leaning.resolved(before, target.sentence)
        if resolved is None:
            continue  # of somebody or something that nothing here names
        before = resolved
        wordings = [
            wording
            for wording in _wordings(gaps, before, after, headings, subject)
            if is_finished(wording, span, target.context, about=(subject, *headings[-1:]))
        ]
        if distinct := tuple(dict.fromkeys(wordings)):
            found.append(ProseFact(distinct, span, target.context))
    return found


def _around(target: AskedSpan) -> tuple[str, str, str] | None:
    """Returns what of a sentence stands before a span, the span, and what stands behind it.

    Of several clauses with semicolons only the span's own is looked at, if it is whole.
    """
    span, context = _narrowed(target), target.context
    at = next((at for at in places_of(span, context) if _is_apart(context, at, len(span))), None)
    if at is None:
        return None
    before, after = context[:at], context[at + len(span) :]
    if before[-1:] in _OPENS and after[:1] in _CLOSES:
        before, after = before[:-1], after[1:]
    if after.startswith(".") and len(after) > 1 and ends_shortened(span):
        span, after = f"{span}.", after[1:]
    if target.kind == "clause" and span.startswith("be "):
        before, span = f"{before}be ", span.removeprefix("be ")
    if target.kind != "cell":
        start, end = before.rfind("; ") + 1, after.find(";")
        own = before[start:].lstrip(), after if end < 0 else after[:end]
        if "; " in context and len(" ".join(own).split()) >= _FEWEST_OTHERS and not leans(own[0]):
            before, after = own
    return before, span, after


def _is_apart(context: str, at: int, length: int) -> bool:
    """Tells whether a span isn't inside of a word or another number: "5 h" in "2.5 h"."""
    before, after = context[max(0, at - 2) : at], context[at + length : at + length + 1]
    return not (re.search(r"\w$|\w[.,-]$", before) or re.match(r"\w", after))


def _narrowed(target: AskedSpan) -> str:
    """Returns a span without what isn't its own: "Tell Ada Lund", "Ada Lund's"."""
    span = target.text
    if target.kind == "name":
        first, _, rest = span.partition(" ")
        if target.context.startswith(span) and first.casefold() in BASES:
            span = rest
        return re.sub(r"^(?:It|That|There|Here)['’]s |['’]s$", "", span)
    if target.kind == "number":
        words = span.split()
        plural = next(
            (at for at, word in enumerate(words) if at and is_plural(word) and word != "data"), 0
        )
        amount = next((at for at, word in enumerate(words) if not _IS_AMOUNT.fullmatch(word)), None)
        return " ".join(words[: plural + 1] if plural else words[:amount])
    if target.kind == "clause":
        return _NEXT_CLAUSE.split(span.removeprefix("of "))[0]
    return span


def _is_part(kind: str, span: str, before: str, after: str, gap: Gap) -> bool:
    """Tells whether a span is only a part of what is meant: "10" of "10 to 25 °C"."""
    if before.count('"') % 2 or before.count("“") > before.count("”"):
        return True  # of a quotation
    if kind == "name":  # or a remark in parentheses: "(British English)"
        is_of_list = re.search(r"\d, $|[A-ZÀ-Þ][\w.'’-]*, $", before)
        return before.endswith(("& ", "(")) or bool(is_of_list or re.match(r" &| ?\d|-\w|:", after))
    if kind == "number" and not gap.words.startswith("which "):
        is_numbering = not before.strip() and bool(re.match(r"[.)]? [A-Z]", after))
        # SO-2190, 12:45, 8th
        is_of_a_word = re.search(r"\w-$|\d[:.,]$|\d (?:h|hours?|minutes?|min\.?|feet) $", before)
        is_of_a_word = is_of_a_word or re.match(r"[\w'’]", after)
        is_of_a_name = span[:1].isdigit() and (_is_named_by(before) or _CODED.search(before))
        is_of_a_name = is_of_a_name or re.match(r"0\d", span)
        is_a_label = _LABEL.search(before) and not _is_counted(before, f"{span}{after}")
        is_of_a_range = _OF_A_LIST.search(before) or _RANGE_AFTER.match(after)
        return is_numbering or bool(is_of_a_word or is_of_a_name or is_of_a_range or is_a_label)
    if kind == "clause":  # cut off where it is long
        return re.match(r" (?!because|so|and|but|or|unless)", after) is not None
    if kind == "series":
        return span.split()[0] in VERBS or span.split()[0] in SMALL_WORDS - DETERMINERS
    return False


def _is_counted(before: str, after: str) -> bool:
    """Tells whether "the 12" or "from 5" is a count: of what follows at once."""
    word = re.match(r"[\w.,]+ ?([^\W\d]+|[°%€$£])", after)
    if word is None or not re.search(
        r"\b(?:from|the|rules?|week|day|position|key) $", before, re.I
    ):
        return bool(word and not word[1][0].isalpha())
    return is_plural(word[1]) or not word[1][0].isalpha() or word[1] in MEASURES


def _is_named_by(before: str) -> bool:
    """Tells whether what stands before a number makes it a part of a name: "Lumet 5", "Room 12"."""
    match = _NAMED_BEFORE.search(before)
    if match is None:
        return False
    word = match["word"].casefold()
    is_first = match["start"] is not None
    return not (is_first and (word in SMALL_WORDS or word in BASES or word.endswith("ly")))


def _wordings(
    gaps: Sequence[Gap], before: str, after: str, headings: Sequence[str], subject: str
) -> Iterator[str]:
    """Yields the whole sentence, its clause under a heading, and its words without the small ones.

    What names nothing is said to be of the passage's subject; where it has none, nothing is asked.
    """
    first, last = gaps[0], gaps[-1]
    head = before[: len(before) - first.taken]
    others = _words_of(f"{head} {after}")
    said = {word.casefold() for word in (*others, *first.words.split())}
    if len(others) < _FEWEST_OTHERS or said <= SMALL_WORDS | _QUESTION_WORDS:
        return
    whole = _question(head, first, after)
    is_named = names_something(whole) and not leans(whole)
    if not is_named and not subject:
        return
    yield whole if is_named else f"{subject}: {whole}"
    words = [word for word in others if word.casefold() not in SMALL_WORDS]
    if not is_named or len(words) < _FEWEST_WORDS:
        words = [*_words_of(subject), *words]
    head = before[: len(before) - last.taken]
    clause = _CLAUSE_STARTS.split(head)[-1], _clause_end(head, after)
    is_short = len(" ".join(clause).split()) < _FEWEST_WORDS
    if is_short or not clause[0].strip() or _SUBORDINATE.match(clause[0].strip()):
        clause = head, after
    about = next(reversed(headings), "") if is_named else subject
    asked = _question(clause[0], last, clause[1])
    yield f"{about}: {asked}" if about else asked
    yield _asked(first.words, *words[:_MOST_KEYWORDS])


def _clause_end(head: str, after: str) -> str:
    """Returns what of a clause stands behind a span: not up to within a bracket or a quotation."""
    for match in _CLAUSE_ENDS.finditer(after):
        piece = f"{head}{after[: match.start()]}"
        if piece.count("(") == piece.count(")") and piece.count('"') % 2 == 0:
            return after[: match.start()]
    return after


def _words_of(text: str) -> list[str]:
    """Returns a text's words, numbers and addresses whole, without the marks around them."""
    words = (word.strip(_MARKS) for word in text.split())
    return [
        word if ends_shortened(word.rstrip(".")) else word.rstrip(".")
        for word in words
        if any(map(str.isalnum, word))
    ]


def _question(head: str, gap: Gap, tail: str) -> str:
    """Returns a question; what would stand before the subject, as "In which year", comes last."""
    words = gap.words
    if not head.strip() and gap.taken and words not in ("what", "which", "who"):
        head, tail = tail.lstrip(" ,").rstrip(" .!"), ""
        if rest := _REST_OF_FRONTED.search(head):
            head = head[: rest.start()]
    if words in ("who", "what") and (possessive := re.match(r"['’]s (?=\w)", tail)):
        words, tail = "whose", tail[possessive.end() :]
    return _asked(head, words, tail)


def _asked(*parts: str) -> str:
    text = " ".join(" ".join(parts).split())
    text = re.sub(r"(?<=\() | (?=[,.;:)])", "", text)
    bare = text.rstrip(" .!;:,")
    bare = f"{bare}." if ends_shortened(bare) and f"{bare}." in text else bare
    return f"{bare[:1].upper()}{bare[1:]}?"
