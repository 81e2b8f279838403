"""Why, under what condition, and what one must or may do, as questions."""

import re
from collections.abc import Iterator

from polyprag.augment.prose.asker import Asker
from polyprag.augment.prose.clause import parse_clause
from polyprag.augment.prose.prose_fact import ProseFact
from polyprag.augment.prose.words import BASES, MODALS, NEGATIVE, POINTING, VERBS, WHO_ACT

_REASON = re.compile(r"^,? ?because (?!of\b)(?P<a>[^;:()]+?)(?=, (?:and|but|so)\b|$)")
_REASON_OF = re.compile(r"(?:^,? ?| )(?:because of|due to|owing to|thanks to) (?P<a>[^;:(),]+)$")
_SINCE = re.compile(r"^, since (?!\d|then|the \d)(?P<a>[^;:()]+?)$")
_PURPOSE = re.compile(r"^,? ?(?P<a>(?:so that|in order to) [^;:()]+?)$")
_CONDITION = re.compile(
    r"^,? ?(?P<a>(?:(?:only )?(?:if|when)|unless|until|as soon as|as long as|once(?! an?\b"
    r"| per\b)) [^;:()]+?)$"
)
_BEFORE = re.compile(r"^,? ?(?P<a>(?:before|after) (?!\d)[^,;:()]+)$")
_WHEN_TO = re.compile(r"(?P<a>.+?) (?P<when>(?:before|after|during|in case of) (?!\d)[^,;]+)$")
_REFERRING = re.compile(r"\b(?:it|they|them|this|these|those|that|so)\b")
_IF = re.compile(
    r"(?P<if>(?:If|When|As soon as|In case of|In an emergency)\b[^,;:()]*?)"
    r"(?:, |(?<=emergency) )(?!and |but |or |then )(?P<a>[^;:]+?)\.?$"
)
_PAST = frozenset("was were had did".split())  # noqa: SIM905
_PRESENT = frozenset("is are be been has have".split())  # noqa: SIM905
_MOST_CONDITION, _MOST_THEN = 14, 16


def reasons(asker: Asker) -> Iterator[ProseFact]:
    """Yields why, and when or under what condition."""
    clause, after = asker.clause, asker.clause.after
    body = clause.core
    is_negative = bool(NEGATIVE.search(body))
    if is_negative and not re.match(r"(?:not|never) ", body):
        return
    negated, plain = is_negative, re.sub(r"^(?:not|never) ", "", body)
    if NEGATIVE.search(plain) or (negated and body.startswith("never")):
        return
    for pattern in (_REASON, _REASON_OF, _SINCE, _PURPOSE):
        match = pattern.search(after)
        if match:
            questions = [asker.question("Why", plain, negated=negated)]
            if not negated:
                questions.append(asker.question("For what reason", plain))
            yield from asker.asked(questions, match["a"], most=20)
            return
    if _REASON_OF.search(body) and (match := _REASON_OF.search(body)):
        questions = [asker.question("Why", body[: match.start()])]
        yield from asker.asked(questions, match["a"], most=20)
        return
    match = _CONDITION.match(after)
    is_rule = clause.auxiliary in MODALS or clause.auxiliary in ("is", "are")
    if match and is_rule and not negated:
        condition = match["a"]
        ask = "Until when" if condition.startswith("until") else "When"
        questions = [asker.question(ask, plain)]
        if ask == "When":
            questions.append(asker.question("Under what condition", plain))
        yield from asker.asked(questions, condition, most=18)


def rule(asker: Asker) -> Iterator[ProseFact]:
    """Yields what somebody must, may or can do at some time or under some condition."""
    clause, core = asker.clause, asker.clause.core
    if clause.verb or clause.auxiliary not in ("must", "may", "can", "should") or not asker.own:
        return
    who = asker.subject.split()[-1].lower()
    if who not in WHO_ACT and not re.search(r"(?:ers|ees|ors|ants)$", who):
        return
    tail = asker.fronted or _condition(asker)
    if not tail and (when := _WHEN_TO.match(core)):
        core, tail = when["a"], when["when"]
    if not tail or core.startswith(("be ", "have ", "also ", "not ")) or len(core.split()) < 2:
        return
    # "they" in the condition are those who are asked about.
    if not asker.is_good(re.sub(r"\bthey\b", "", tail)) or _REFERRING.search(core):
        return
    yield from asker.asked([f"What {clause.auxiliary} {asker.subject} do {tail}?"], core)


def asked_of_condition(sentence: str) -> Iterator[ProseFact]:
    """Yields what to do, or what happens, "if ..." or "when ...", where that begins a sentence."""
    match = _IF.match(sentence)
    if not match or POINTING.search(match["if"]) or len(match["if"].split()) > _MOST_CONDITION:
        return
    then = match["a"]
    if len(then.split()) > _MOST_THEN or then.count("(") != then.count(")"):
        return
    low = match["if"][:1].lower() + match["if"][1:]
    words = set(match["if"].lower().split())
    is_past = bool(words & _PAST) or any(
        VERBS[word].do == "did" for word in words if word in VERBS and not words & _PRESENT
    )
    if then.split(" ")[0] in BASES:
        asks: tuple[str, ...] = ("What should you do", "What is to be done")
    elif match["if"].startswith(("If", "When")) and parse_clause(then) is not None:
        asks = ("What happened" if is_past else "What happens",)
    else:
        return
    yield ProseFact(tuple(f"{ask} {low}?" for ask in asks), then, sentence)


def _condition(asker: Asker) -> str:
    clause = asker.clause
    match = _CONDITION.match(clause.after) or _BEFORE.match(clause.after)
    return match["a"] if match else ""
