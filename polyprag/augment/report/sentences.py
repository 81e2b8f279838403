"""The sentences of a passage, and which of them a question asks about."""

import re
from collections.abc import Sequence

from polyprag.augment.worded import holds, worded
from sharding.corpus.passages import QA

_END = re.compile(
    r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[A-Z0-9ÀÁÂÄÅÆÇÈÉÖØÜ])|(?<=[。！？])|\n+"  # noqa: RUF001
)
# A full stop after these ends no sentence.
_SHORTENED = re.compile(
    r"(?:\b[A-Z]|\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|No|Nos|Fig|vs|etc|approx|ca?|b|d|Inc|Ltd|Co"
    r"|e\.g|i\.e|U\.S|U\.K))\.$"
)
_MIN_WORDS = 3  # of what counts as a sentence: a heading's number or a list's mark says nothing
_SHARE = 0.5  # of a sentence's longer words in a question and its answer, where none quotes it
_LONGER = 4  # letters: function words are shorter, in most languages that have them


def sentences_of(text: str) -> list[str]:
    """Returns a text's sentences; lines end one, too."""
    found: list[str] = []
    joined = ""
    for part in _END.split(text):
        joined = f"{joined} {part}".strip()
        if joined and not _SHORTENED.search(joined):
            found.append(joined)
            joined = ""
    if joined:
        found.append(joined)
    return [each for each in found if len(worded(each).split()) >= _MIN_WORDS]


def asked_about(sentences: Sequence[str], qas: Sequence[QA]) -> set[int]:
    """Returns the numbers of the sentences that a question asks about.

    A question asks about one sentence: of those that hold its answer, word for word, the one that
    shares most words with the question (the first of several); where none holds it, the one of
    whose longer words at least half are in the question and its full answer.
    """
    texts = [worded(each) for each in sentences]
    words = [set(each.split()) for each in texts]
    found = set()
    for qa in qas:
        asking = set(worded(qa.question).split())
        answer = worded(qa.answer)
        holding = [number for number, text in enumerate(texts) if holds(text, answer)]
        if holding:
            found.add(max(holding, key=lambda number: (len(words[number] & asking), -number)))
            continue
        said = asking | set(worded(qa.full_answer).split()) | set(answer.split())
        shares = [_share(each, said) for each in words]
        if shares and max(shares) >= _SHARE:
            found.add(shares.index(max(shares)))
    return found


def _share(words: set[str], said: set[str]) -> float:
    longer = {word for word in words if len(word) >= _LONGER} or words
    return len(longer & said) / len(longer) if longer else 0.0
