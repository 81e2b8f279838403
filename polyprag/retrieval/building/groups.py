"""Groups of partitions: what one task of an index build reads, encodes and counts.

Groups follow from the passages alone, not from who works on them, so a build that goes on with
other workers finds the parts that were finished.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from polyprag.retrieval.parts.span import Span, span_of
from sharding.corpus.manifest import Partition

_MIN_PASSAGES, _MAX_PASSAGES = 4096, 65536  # of a group: a task's memory, and its resume unit
_GROUPS = 16  # of a segment between these: work for as many workers


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive partitions, at least one."""

    partitions: tuple[Partition, ...]

    @property
    def span(self) -> Span:
        """Its passages' ids."""
        return span_of(self.partitions)


def groups_of(partitions: Sequence[Partition]) -> list[Group]:
    """Divides consecutive partitions, at least one, into groups of about equal size."""
    num_passages = span_of(partitions).num_passages
    size = min(max(num_passages // _GROUPS, _MIN_PASSAGES), _MAX_PASSAGES)
    groups: list[Group] = []
    taken: list[Partition] = []
    count = 0
    for partition in partitions:
        taken.append(partition)
        count += partition.num_passages
        if count >= size:
            groups.append(Group(tuple(taken)))
            taken, count = [], 0
    if taken:
        groups.append(Group(tuple(taken)))
    return groups


def group_ranges(groups: Sequence[Group], *, max_passages: int) -> list[list[int]]:
    """Returns ranges of consecutive groups with at most so many passages each, or of one group.

    A group goes by its number.
    """
    ranges: list[list[int]] = []
    count = 0
    for i, group in enumerate(groups):
        if ranges and count + group.span.num_passages <= max_passages:
            ranges[-1].append(i)
        else:
            ranges.append([i])
            count = 0
        count += group.span.num_passages
    return ranges
