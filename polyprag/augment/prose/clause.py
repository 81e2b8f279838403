"""The main clause of a sentence: subject, verb, what follows; nothing where it isn't plain."""

import re
from dataclasses import dataclass
from itertools import pairwise

from polyprag.augment.prose.cutting import cut_clause
from polyprag.augment.prose.words import (
    ADVERBS,
    AUXILIARIES,
    BASES,
    DETERMINERS,
    EITHER,
    NEGATIVE,
    NO_SUBJECT,
    NOT_IN_SUBJECT,
    PARTICIPLES,
    PLURAL,
    PREPOSITIONS,
    PRONOUNS,
    SINGULAR,
    VERBS,
    Verb,
    is_plural,
    number_of_auxiliary,
)

_MOST_WORDS = 45  # of a sentence
_MOST_IN_SUBJECT = 10
_CONNECTIVE = re.compile(
    r"^(?:But|And|However|Also|Therefore|Thus|Moreover|In addition|In total|As a rule|At present"
    r"|Today|Still|Yet"
    r"|By default|For example|For instance|Normally|Usually|Finally|Then|Now|Currently),? "
)
_FRONTED = re.compile(
    r"^((?:In|On|At|For|From|Since|During|After|Before|Until|By|Within|Under|With|Over|Between"
    r"|Outside|Inside"
    r"|Along with|Throughout) (?:[^,;:()]{2,60}?)), (?=\S)"
)
_FRONTED_TIME = re.compile(
    r"^((?:In|Since|By) (?:1[0-9]|20)\d\d|(?:In|On|By) (?:\d{1,2} )?"
    r"(?:January|February|March|April|May|June|July|August|September|October|November"
    r"|December)(?: \d{4})?)"
    r" (?=(?:the|a|an|its|his|her|he|she|it|they|we|[A-Z]\w+) )"
)
_COUNT_ALONE = r"\d[\d.,]*|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|several|many"
# Bases that are nouns where a line begins with them.
_NO_ORDER = frozenset("have let total date state place name list range".split())  # noqa: SIM905
_TIMED = re.compile(r" (?:before|after|later|earlier|ago)\b")
_LATE_ADVERB = re.compile(rf"(?: (?:{'|'.join(sorted(ADVERBS))}))+$")
_PAREN = re.compile(r"\s*\([^()]*\)")
_GOES_WITH = dict(
    pair.split(" ")
    for pair in ["write to", "wait for", "go to", "turn to", "apply for", "talk to", "look at"]
)
_WORD = re.compile(r"[^\s]+")


@dataclass(frozen=True, slots=True)
class Clause:
    """A sentence's main clause.

    Attributes:
        subject: as the sentence has it.
        number: of the subject, `singular`, `plural` or `either`.
        auxiliary: `is`, `can`, ...; for any other verb `do`, `does` or `did`.
        verb: the infinitive that follows `do`; empty where the sentence has an auxiliary.
        takes_object: "What does X VERB?" can be asked.
        core: what follows the verb, or the auxiliary, up to where the clause ends.
        after: the rest of the sentence.
        fronted: what stood before the subject: "In 2025".
        said: how the sentence has the verb, for a statement.
    """

    subject: str
    number: str
    auxiliary: str
    verb: str
    takes_object: bool
    core: str
    after: str
    fronted: str
    said: str

    @property
    def is_being(self) -> bool:
        """Whether the verb is `be`, and no part of another."""
        if self.auxiliary not in ("is", "are", "was", "were"):
            return False
        words = [word for word in self.core.lower().split() if word not in ADVERBS]
        return not words or not (words[0] in PARTICIPLES or re.match(r"\w+(?:ed|ing)$", words[0]))


def parse_clause(sentence: str) -> Clause | None:
    """Returns the main clause of a sentence; None where its subject or verb isn't plain.

    Args:
        sentence: on one line, with its full stop.
    """
    text = sentence.rstrip(' .!"”')
    if sentence.endswith("?") or len(text.split()) > _MOST_WORDS or '"' in text or "“" in text:
        return None
    text = _CONNECTIVE.sub("", text, count=1)
    fronted = ""
    if match := _FRONTED.match(text) or _FRONTED_TIME.match(text):
        fronted, text = match.group(1), text[match.end() :]
        if not _is_adjunct(fronted):
            return None
    text = _PAREN.sub("", text)
    found = _verb_at(text)
    if found is None:
        return None
    start, end, verb = found
    subject = _LATE_ADVERB.sub("", _PAREN.sub("", text[:start]).strip(" ,"))
    number = _number(subject)
    if number is None or NEGATIVE.search(subject):
        return None
    rest = text[end:].strip()
    core, after = cut_clause(rest)
    word = text[start:end].strip().lower()
    if verb is None or (
        word in AUXILIARIES and (word not in ("has", "have", "had") or _is_perfect(core))
    ):
        auxiliary, infinitive, takes = word, "", False
    else:
        auxiliary, infinitive, takes = verb.do, verb.base, verb.takes_object
    return Clause(subject, number, auxiliary, infinitive, takes, core, after, fronted, word)


POINTING_FRONT = re.compile(
    r"\b(?:it|them|this|these|those|that|such|case|cases|which|who|when|where|if|addition|fact"
    r"|general|course"
    r"|example|instance|particular|contrast|comparison|short|there|what|contrary|turn|so|is|are"
    r"|was|were|has|have)\b",
    re.I,
)


def parse_order(sentence: str) -> Clause | None:
    """Returns what a sentence in the imperative says that one should do: "you should ..."."""
    text = sentence.rstrip(" .!")
    if sentence.endswith("?") or len(text.split()) > _MOST_WORDS or '"' in text or "“" in text:
        return None
    text = re.sub(r"^(?:Please|Then|Always|First|Afterwards|Finally|Now),? ", "", text)
    fronted = ""
    if match := re.match(
        r"^((?:To|Before|After|In|On|At|For|Within|With) [^,;:()]{2,60}), (?=[a-z])", text
    ):
        fronted, text = match.group(1), text[match.end() :]
        if POINTING_FRONT.search(fronted):
            return None
    first, _, rest = text.partition(" ")
    base = first.lower()
    if base not in BASES or base in _NO_ORDER:
        return None
    second = rest.split(" ", 1)[0].lower()
    is_object = second in DETERMINERS or (is_plural(second) and second not in BASES)
    if not is_object and _GOES_WITH.get(base) != second:
        return None
    core, after = cut_clause(rest)
    return Clause("you", PLURAL, "should", "", False, f"{base} {core}", after, fronted, "should")


def _is_adjunct(fronted: str) -> bool:
    """Tells whether what stands before the first comma is a time or a place, and no clause."""
    words = fronted.lower().split()
    return len(words) <= 7 and not (
        POINTING_FRONT.search(fronted)
        or any(
            word in VERBS
            and word not in ("have", "report", "order")
            and before not in DETERMINERS | PREPOSITIONS
            for before, word in pairwise(words)
        )
    )


def _is_perfect(core: str) -> bool:
    """Tells whether "has ..." goes on with a participle: "has been closed"."""
    words = [word.strip(",.") for word in core.lower().split()]
    if words[:1] == ["once"] and words[1:2] == ["again"]:
        return True
    while words and (words[0] in ADVERBS or words[0] in ("not", "never")):
        words = words[1:]
    return bool(words) and (words[0] in PARTICIPLES or words[0] == "to" or words[0].endswith("ed"))


def _verb_at(text: str) -> tuple[int, int, Verb | None] | None:
    """Returns where the finite verb is, and the verb; None for the verb of an auxiliary."""
    depth_end = 0
    chosen: tuple[int, int, Verb | None] | None = None
    for count, match in enumerate(_WORD.finditer(text)):
        if match.start() < depth_end:
            continue
        raw = match.group()
        if raw.startswith("(") and ")" in text[match.start() :]:
            depth_end = text.index(")", match.start()) + 1
            continue
        word = raw.strip(",.").lower()
        if chosen is not None and count > _MOST_IN_SUBJECT + 6:
            break
        following = text[match.end() :].split(" ", 2)[1:2]
        is_noun = word not in AUXILIARIES and bool(following) and following[0] in AUXILIARIES
        is_noun = is_noun or raw[0].isupper()
        if count and not is_noun and _is_finite(word, text[: match.start()]):
            verb = VERBS.get(word)
            found = (
                match.start(),
                match.end(),
                None if word in AUXILIARIES - {"has", "have", "had"} else verb,
            )
            if chosen is not None and not _is_noun_too(verb):
                return found  # the first one was a participle: "Probes made before 2020 have ..."
            if chosen is None and (verb is None or not verb.may_be_participle):
                return found
            chosen = chosen or found
        elif chosen is None and (
            raw[-1] in ",;:" or (count and word in NOT_IN_SUBJECT) or count > _MOST_IN_SUBJECT
        ):
            return None
        if (
            chosen is not None
            and chosen[0] != match.start()
            and (raw[-1] in ",;:" or word in NOT_IN_SUBJECT)
        ):
            break
    return chosen


def _is_noun_too(verb: Verb | None) -> bool:
    """Tells whether a form is as likely a noun: "served in the state ..."."""
    return verb is not None and verb.do == "do" and verb.base not in ("have", "need", "cost")


def _is_finite(word: str, before: str) -> bool:
    if word not in AUXILIARIES and word not in VERBS:
        return False
    number = _number(_PAREN.sub("", before).strip(" ,"))
    if number is None:
        return False
    wanted = number_of_auxiliary(word) if word in AUXILIARIES else VERBS[word].number
    return wanted in (EITHER, number) or number == EITHER


def _number(subject: str) -> str | None:
    """Returns a subject's number; None for what can't be one."""
    words = subject.split()
    if not words or len(words) > _MOST_IN_SUBJECT or not re.match(r"[\w€$£]", subject):
        return None
    first = words[0].lower()
    if first in PRONOUNS:
        return (SINGULAR if first in ("he", "she", "it") else PLURAL) if len(words) == 1 else None
    if len(words) == 1 and re.fullmatch(_COUNT_ALONE, first):
        return None  # "Two registered nurses sign": the verb comes later
    if first in NO_SUBJECT or first in PREPOSITIONS or first in AUXILIARIES or first.endswith("ly"):
        return None
    if any(word.strip(",").lower() in NOT_IN_SUBJECT for word in words[1:]):
        return None
    if words[-1].lower() in PREPOSITIONS | DETERMINERS | {"and"} or re.search(r"[,;:]", subject):
        return None
    if len(words) > 1 and first in BASES and words[1].lower() in PREPOSITIONS | DETERMINERS:
        return None  # an order: "Wait until ..."
    if first in ("a", "an", "the", "your", "our", "each", "every") and len(words) == 1:
        return None
    head = next(
        (
            words[at - 1]
            for at, word in enumerate(words)
            if at
            and (
                word.lower() in PREPOSITIONS
                or (word in PARTICIPLES and words[at - 1].lower() not in DETERMINERS)
            )
        ),
        words[-1],
    )
    if _TIMED.search(subject) and not PARTICIPLES & set(words):
        return None  # "Five minutes before the end it ..."
    if first in ("everyone", "everybody", "each", "every", "a", "an"):
        return SINGULAR
    if " and " in f" {subject} " and not re.search(
        r"\b(?:of|for|in|between|with) .* and ", subject
    ):
        return PLURAL
    if len(words) == 1 and head[:1].isupper() and is_plural(head):
        return EITHER  # "Wages are", "Leeds is"
    if head is words[0]:
        head = head[:1].lower() + head[1:]
    if not head[:1].isupper() and is_plural(head):
        return PLURAL
    if head[:1].isupper() and is_plural(head) and first in ("the", "our", "all", "these"):
        return PLURAL
    if len(words) == 1 and is_plural(head):
        return PLURAL
    return SINGULAR
