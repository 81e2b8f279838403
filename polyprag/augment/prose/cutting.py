"""Where the first clause of a sentence ends, after its verb."""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re

from polyprag.augment.prose.words import AUXILIARIES, PARTICIPLES, PREPOSITIONS, PRONOUNS, VERBS

# Where the first clause ends: what comes after has verbs or a subject of its own.
_AND_NOUN = re.compile(r" (?:and|or) (?:the|a|an|its|their|his|her|in|on|at) ")
_AND = (" and ", " but ", " or ")
# "saw", "left", "felt" are nouns and adjectives as well, which need no care here.
_IRREGULAR = "|".join(
    sorted(word for word, verb in VERBS.items() if verb.do == "did" and not word.endswith("ed"))
)
_CLAUSE_END = re.compile(
    r"[;()]|:(?!\d)| [–—-] |—|, ?(?![A-Z0-9])|, (?=(?:He|She|It|They|We|I|In|The)\b)"
    r"| (?=(?:and|but|or) (?:is|are|was|were|has|have|had|can|may|must|will|should|does|do|did"
    r"|it|he|she|they"
    r"|we|you|the|a|an|this|that|there|then|not|so|also|later|its|their|his|her|in|on|at|nor"
    r"|never|no|\w+ed)\b)"
    r"| (?=(?:because|although|though|while|whereas|unless|whether|if|when|where|which|who|whose"
    r"|whom|what|how"
    r"|why|that|so that|so as|in order to|even|rather than|as well as|as|since (?!\d|(?:January"
    r"|February|March|April"
    r"|May|June|July|August|September|October|November|December|the|then)\b))\b)"
    r"| (?=(?:and|but|or) (?!early|daily|weekly|monthly|yearly|family|only)\w+ly )"
    rf"|,? (?:and|but|or) (?=\w+s\b|\w+ed\b|(?:{_IRREGULAR})\b)"
    r"| (?=(?:until|before|after|once) (?:it|he|she|they|we|you|the|a|an|his|her|their|your|our"
    r"|\w+ing)\b)"
)
_NOT_IN_LIST = frozenset(
    [
        "which",
        "who",
        "that",
        "because",
        "if",
        "when",
        "not",
        "so",
        "where",
        "while",
        "without",
        "with",
        "as",
        "then",
        "too",
        "only",
    ]
)

_TWO_PASSIVES = re.compile(r"[a-z]+ed (?:and|or) [a-z]+ed\b")

_ITEM = (
    r"(?:(?:a|an|the|one|two|three|four|\d+) )?[\w'’/&-]+(?: (?:of (?:the |a )?)?[\w'’/&-]+){0,4}"
)
_LIST = re.compile(
    rf"^ (?:{_ITEM}, )*(?:{_ITEM},? )?(?:and|or) ({_ITEM})(?=$|[.;:]|, (?:which|but|so)| [–—])"
)


def cut_clause(rest: str) -> tuple[str, str]:
    """Divides what follows the verb into the clause's own and what comes after it."""
    rest, other = _second_passive(rest)
    core, after = _cut(rest)
    return (core, f"{after} {other}".strip())


def is_participle(word: str) -> bool:
    """Tells whether a word may be a verb's passive form, regular or not."""
    return word in PARTICIPLES or word.endswith("ed")


def _second_passive(rest: str) -> tuple[str, str]:
    """Divides "written by Ann and sent in May" before its second verb.

    "cleaned and oiled every month" says both of every month, and stays one.
    """
    words = rest.split()
    if words and is_participle(words[0]):
        for match in re.finditer(r" (?=(?:and|but) ([a-z]+)\b)", rest):
            before = rest[: match.start()].split()
            is_second = is_participle(match[1]) and before[-1].lower() not in PREPOSITIONS
            if len(before) > 1 and is_second:
                return rest[: match.start()], rest[match.end() :]
    return rest, ""


def _cut(rest: str) -> tuple[str, str]:
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
        if _TWO_PASSIVES.match(rest) and match.start() == rest.index(" "):
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
    """Returns where the list ends that a comma divides ("a, b and c"), or 0."""
    after = rest[comma + 1 :]
    found = _LIST.match(after)
    if not found:
        return 0
    inside = {word.strip(",.").lower() for word in found.group().split()}
    is_list = not inside & (AUXILIARIES | PRONOUNS | _NOT_IN_LIST) and not any(
        word in VERBS and VERBS[word].do == "did" for word in inside
    )
    return comma + 1 + found.end() if is_list else 0
