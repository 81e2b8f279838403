"""A question-answer pair of somebody's own, and what tells its passage."""

from dataclasses import dataclass

from polyprag.errors import PolypragError
from sharding.corpus.passages import QA


class PairsError(PolypragError):
    """A file of pairs can't be used; names the file and the line or the item."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One pair.

    Attributes:
        qa: question and answers.
        where: file and line or item, for messages.
        key: the passage's own id in its source; None where it isn't given.
        text: of the passage or a part of it; None where it isn't given.
        title: of the passage; None where it isn't given.
    """

    qa: QA
    where: str
    key: str | None = None
    text: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """An item of a file that a model wrote, and that is no pair.

    Attributes:
        where: file and item, for messages.
        why: it can't be used.
    """

    where: str
    why: str
