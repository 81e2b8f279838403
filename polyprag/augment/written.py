"""What a writer returns for a passage: what is kept, what was dropped and why, or its failure."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sharding.corpus.passages import Augmentation


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
        asked: requests about a passage that stays open which were answered; another try asks the
            rest, given this.
    """

    augmentation: Augmentation
    dropped: tuple[Dropped, ...] = ()
    failure: str | None = None
    asked: int = 0


# Takes a sequence of passages, and perhaps what came of earlier tries that failed in the
# midst, by position. Yields (position, what came) as it comes, in any order.
Writer = Callable[..., Iterator[tuple[int, Written]]]
