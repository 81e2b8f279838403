"""Ranges of passage ids: of a segment, a group, a store."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sharding.corpus.manifest import Partition


@dataclass(frozen=True, slots=True)
class Span:
    """A range of passage ids."""

    first_id: int
    num_passages: int

    def positions(self, ids: Sequence[int]) -> npt.NDArray[np.int64]:
        """Returns those of ascending ids that lie in the range, counted from its beginning."""
        end = self.first_id + self.num_passages
        inside = ids[bisect_left(ids, self.first_id) : bisect_left(ids, end)]
        return np.asarray(inside, dtype=np.int64) - self.first_id


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """A segment as a search sees it.

    Attributes:
        span: its passages.
        hidden: ascending positions in it of passages that were removed after it was built.
    """

    span: Span
    hidden: npt.NDArray[np.int64]


def span_of(partitions: Sequence[Partition]) -> Span:
    """Returns the ids of consecutive partitions, of which there is at least one."""
    return Span(partitions[0].first_id, sum(part.num_passages for part in partitions))
