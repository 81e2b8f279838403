"""Why, under what condition, and what one must or may do, as questions."""

import re
from collections.abc import Iterator

from polyprag.augment.prose.asked import Asked
from polyprag.augment.prose.asker import Asker
from polyprag.augment.prose.words import MODALS, NEGATIVE, PEOPLE

_REASON = re.compile(r"(?:^|,? )because (?!of\b)(?P<a>[^;:()]+?)(?=, (?:and|but|so)\b|$)")
_REASON_OF = re.compile(r"(?:^|,? )(?:because of|due to|owing to|thanks to) (?P<a>[^;:(),]+)$")
_SINCE = re.compile(r"^, since (?!\d|then|the \d)(?P<a>[^;:()]+?)$")
_PURPOSE = re.compile(r"^,? ?(?P<a>(?:so that|in order to) [^;:()]+?)$")
_CONDITION = re.compile(
    r"^,? ?(?P<a>(?:(?:only )?(?:if|when)|unless|until|as soon as|as long as|once(?! an?\b"
    r"| per\b)) [^;:()]+?)$"
)


def reasons(asker: Asker) -> Iterator[Asked]:
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
        match = pattern.search(
            f" {after}" if pattern in (_REASON, _REASON_OF) and after[:1] != "," else after
        )
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
    if match and (clause.auxiliary in MODALS or not clause.verb) and not negated:
        condition = match["a"]
        ask = "Until when" if condition.startswith("until") else "When"
        questions = [asker.question(ask, plain)]
        if ask == "When":
            questions.append(asker.question("Under what condition", plain))
        yield from asker.asked(questions, condition, most=18)


def rule(asker: Asker) -> Iterator[Asked]:
    """Yields what somebody must, may or can do."""
    clause, core = asker.clause, asker.clause.core
    if clause.verb or clause.auxiliary not in ("must", "may", "can", "should") or not asker.own:
        return
    if asker.subject.split()[-1].lower() not in PEOPLE and not re.search(
        r"(?:ers|ees|ors|ants)$", asker.subject
    ):
        return
    if (
        core.startswith(("be ", "have ", "also ", "not "))
        or len(core.split()) < 2
        or re.search(r"\b(?:it|they|them|this|these|those|that|so)\b", core)
    ):
        return
    fronted = asker.fronted
    if clause.said == "should" and not fronted:
        return  # an order without a purpose: "What should you do?" asks for nothing
    if not fronted and not _condition(asker):
        return
    tail = fronted or _condition(asker)
    question = f"What {clause.auxiliary} {asker.subject} do {tail}?"
    if asker.is_good(tail):
        yield from asker.asked([question], core)


def _condition(asker: Asker) -> str:
    match = _CONDITION.match(asker.clause.after)
    return match["a"] if match else ""
