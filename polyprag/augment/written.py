"""What a writer returns for a passage: what is kept, what was dropped and why, or its failure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sharding.corpus.passages import Augmentation, Passage


@dataclass(frozen=True, slots=True)
class Dropped:
    """An item that a writer returned and that isn't kept.

    Attributes:
        reason: duplicate | no subject | unsupported | instruction | evaluation overlap | malformed
            | over budget.
        text: the item, one line, for samples.
    """

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Written:
    """What came for one passage.

    Attributes:
        augmentation: what is kept.
        dropped: what isn't, and why.
        failure: why the passage stays open: the server's or model's own words, one line.
    """

    augmentation: Augmentation
    dropped: tuple[Dropped, ...] = ()
    failure: str | None = None


# (position in the sequence, what came), as they come, in any order.
Writer = Callable[[Sequence[Passage]], Iterator[tuple[int, Written]]]
