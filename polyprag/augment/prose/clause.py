"""The main clause of a sentence: subject, verb, and what follows; nothing where that isn't plain."""

import re
from itertools import pairwise
from dataclasses import dataclass

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
    r"^(?:But|And|However|Also|Therefore|Thus|Moreover|In addition|In total|As a rule|At present|Today|Still|Yet"
    r"|By default|For example|For instance|Normally|Usually|Finally|Then|Now|Currently),? "
)
_FRONTED = re.compile(
    r"^((?:In|On|At|For|From|Since|During|After|Before|Until|By|Within|Under|With|Over|Between|Outside|Inside"
    r"|Along with|Throughout) (?:[^,;:()]{2,60}?)), (?=\S)"
)
# Where the first clause ends: what comes after has verbs or a subject of its own.
_AND_NOUN = re.compile(r" (?:and|or) (?:the|a|an|its|their|his|her|in|on|at) ")
_AND = (" and ", " but ", " or ")
_CLAUSE_END = re.compile(
    r"[;()]|:(?!\d)| [–—-] |—|, ?(?![A-Z0-9])|, (?=(?:He|She|It|They|We|I|In|The)\b)"
    r"| (?=(?:and|but|or) (?:is|are|was|were|has|have|had|can|may|must|will|should|does|do|did|it|he|she|they"
    r"|we|you|the|a|an|this|that|there|then|not|so|also|later|its|their|his|her|in|on|at|nor|never|no|\w+ed)\b)"
    r"| (?=(?:because|although|though|while|whereas|unless|whether|if|when|where|which|who|whose|whom|what|how"
    r"|why|that|so that|so as|in order to|even|rather than|as well as|as|since (?!\d|(?:January|February|March|April"
    r"|May|June|July|August|September|October|November|December|the|then)\b))\b)"
    r"| (?=(?:and|but|or) (?!early|daily|weekly|monthly|yearly|family|only)\w+ly )"
    r"|,? (?:and|but|or) (?=\w+s\b|\w+ed\b)"
    r"| (?=(?:until|before|after|once) (?:it|he|she|they|we|you|the|a|an|his|her|their|your|our|\w+ing)\b)"
)
_FRONTED_TIME = re.compile(
    r"^((?:In|Since|By) (?:1[0-9]|20)\d\d|(?:In|On|By) (?:\d{1,2} )?"
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December)(?: \d{4})?)"
    r" (?=(?:the|a|an|its|his|her|he|she|it|they|we|[A-Z]\w+) )"
)
_PAREN = re.compile(r"\s*\([^()]*\)")
_NOT_IN_LIST = frozenset("which who that because if when not so where while without with as then too only".split())  # noqa: SIM905
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
    text = sentence.rstrip(" .!\"”")
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
    subject = _PAREN.sub("", text[:start]).strip(" ,")
    number = _number(subject)
    if number is None or NEGATIVE.search(subject):
        return None
    rest = text[end:].strip()
    core, after = _cut(rest)
    word = text[start:end].strip().lower()
    if verb is None or (word in AUXILIARIES and (word not in ("has", "have", "had") or _is_perfect(core))):
        auxiliary, infinitive, takes = word, "", False
    else:
        auxiliary, infinitive, takes = verb.do, verb.base, verb.takes_object
    return Clause(subject, number, auxiliary, infinitive, takes, core, after, fronted, word)


POINTING_FRONT = re.compile(
    r"\b(?:it|them|this|these|those|that|such|case|cases|which|who|when|where|if|addition|fact|general|course"
    r"|example|instance|particular|contrast|comparison|short|there|what|contrary|turn|so|is|are|was|were|has|have)\b",
    re.I,
)


def parse_order(sentence: str) -> Clause | None:
    """Returns what a sentence in the imperative says that one should do: "you should ..."."""
    text = sentence.rstrip(" .!")
    if sentence.endswith("?") or len(text.split()) > _MOST_WORDS or '"' in text or "“" in text:
        return None
    text = re.sub(r"^(?:Please|Then|Always|First|Afterwards|Finally|Now),? ", "", text)
    fronted = ""
    if match := re.match(r"^((?:To|Before|After|In|On|At|For|Within|With) [^,;:()]{2,60}), (?=[a-z])", text):
        fronted, text = match.group(1), text[match.end() :]
        if POINTING_FRONT.search(fronted):
            return None
    first, _, rest = text.partition(" ")
    base = first.lower()
    if base not in BASES or base in ("have", "let", "total", "date", "state", "place", "name", "list", "range"):
        return None
    second = rest.split(" ", 1)[0].lower()
    goes_with = {"write": "to", "wait": "for", "go": "to", "turn": "to", "apply": "for", "talk": "to", "look": "at"}
    if second not in DETERMINERS and goes_with.get(base) != second:
        if not (is_plural(second) and second not in BASES):
            return None
    core, after = _cut(rest)
    return Clause("you", PLURAL, "should", "", False, f"{base} {core}", after, fronted, "should")


def _is_adjunct(fronted: str) -> bool:
    """Tells whether what stands before the first comma is a time or a place, and no clause."""
    words = fronted.lower().split()
    return len(words) <= 7 and not (
        POINTING_FRONT.search(fronted)
        or any(
            word in VERBS and word not in ("have", "report", "order") and before not in DETERMINERS | PREPOSITIONS
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


def _cut(rest: str) -> tuple[str, str]:
    """Divides what follows the verb into the clause's own and what comes after it."""
    list_end = 0
    for match in _CLAUSE_END.finditer(rest):
        if match.start() < list_end:
            continue
        if match.group().endswith(_AND):
            verb = VERBS.get(rest[match.end() :].split(" ", 1)[0].lower())
            if verb is None or verb.do == "do":
                continue
            return rest[: match.start()].strip(" ,"), rest[match.start() :].strip()
        if match.start() == 0 and rest[:1] not in ";:(,":
            continue
        piece = match.group()
        if piece.startswith("(") or piece == ")":
            return rest[: match.start()].strip(), rest[match.start() :].strip()
        if piece.startswith(",") and (end := _list_end(rest, match.start())):
            list_end = end
            continue
        if _AND_NOUN.match(rest, match.start()) and not _has_verb(rest[match.end() :]):
            continue
        return rest[: match.start()].strip(" ,"), rest[match.start() :].strip()
    return rest.strip(), ""


def _has_verb(text: str) -> bool:
    """Tells whether what follows "and" is a clause, by a finite verb in it."""
    words = re.split(r"[;,]", text, maxsplit=1)[0].lower().split()[1:]
    return any(word in AUXILIARIES or (word in VERBS and VERBS[word].do != "do") for word in words)


def _list_end(rest: str, comma: int) -> int:
    """Returns where the list ends that a comma divides ("acidity, oxygen and conductivity"), or 0."""
    after = rest[comma + 1 :]
    item = r"(?:(?:a|an|the|one|two|three|four|\d+) )?[\w'’/&-]+(?: (?:of (?:the |a )?)?[\w'’/&-]+){0,4}"  # noqa: RUF001
    found = re.match(rf"^ (?:{item}, )*(?:{item},? )?(?:and|or) ({item})(?=$|[.;:]|, (?:which|but|so)| [–—])", after)
    if not found:
        return 0
    inside = {word.strip(",.").lower() for word in found.group().split()}
    is_list = not inside & (AUXILIARIES | PRONOUNS | _NOT_IN_LIST)
    return comma + 1 + found.end() if is_list else 0


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
        if count and not is_noun and _is_finite(word, text[: match.start()]):
            verb = VERBS.get(word)
            found = (match.start(), match.end(), None if word in AUXILIARIES - {"has", "have", "had"} else verb)
            if chosen is not None:
                return found  # the first one was a participle: "Probes made before 2020 have ..."
            if verb is None or not verb.may_be_participle:
                return found
            chosen = found
        elif chosen is None and (
            raw[-1] in ",;:" or (count and word in NOT_IN_SUBJECT) or count > _MOST_IN_SUBJECT
        ):
            return None
        if chosen is not None and chosen[0] != match.start() and (raw[-1] in ",;:" or word in NOT_IN_SUBJECT):
            break
    return chosen


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
            if at and (word.lower() in PREPOSITIONS or (word in PARTICIPLES and words[at - 1].lower() not in DETERMINERS))
        ),
        words[-1],
    )
    if first in ("everyone", "everybody", "each", "every", "a", "an"):
        return SINGULAR
    if " and " in f" {subject} " and not re.search(r"\b(?:of|for|in|between|with) .* and ", subject):
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
