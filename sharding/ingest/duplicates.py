"""Find passages that came before, over the whole input: by 64-bit hashes, in NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sharding.ingest.splits import Hashes, SplitInfo

_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Positions in the order of the input, ascending, of passages whose like came before.

    Attributes:
        ids: those with an id that an earlier one has.
        texts: those of other ids with title and text of an earlier one.
        made: those without an id of their own, whose title and text give one that was made before.
    """

    ids: NDArray[np.int64]
    texts: NDArray[np.int64]
    made: NDArray[np.int64]

    def all(self) -> NDArray[np.int64]:
        """Returns all of them, ascending."""
        return np.unique(np.concatenate([self.ids, self.texts, self.made]))


def find_duplicates(splits: Sequence[SplitInfo]) -> Duplicates:
    """Returns what to leave out so that each id, and each text if asked for, is there once."""
    if not splits:
        nothing = np.zeros(0, np.int64)
        return Duplicates(nothing, nothing, nothing)
    keys = [split.keys for split in splits]
    sources = [split.sources for split in splits if split.sources is not None]
    count = sum(map(len, keys))
    if sources:
        ids = _duplicate_rows(splits, np.concatenate(sources))
        # An id such as a#1 may be the source's own and also a cut text's.
        left = _others(count, ids)
        ids = np.sort(np.concatenate([ids, left[repeated([np.concatenate(keys)[left]])]]))
    else:
        ids = repeated(keys)
    # Those with the same made id have the same title and text.
    is_made = np.concatenate([np.full(len(split.keys), split.has_made_ids) for split in splits])
    made, ids = ids[is_made[ids]], ids[~is_made[ids]]
    texts = [split.texts for split in splits if split.texts is not None]
    if not texts:
        return Duplicates(ids, np.zeros(0, np.int64), made)
    left = _others(count, np.union1d(ids, made))
    return Duplicates(ids, left[repeated([np.concatenate(texts)[left]])], made)


def repeated(parts: Sequence[Hashes]) -> NDArray[np.int64]:
    """Returns the positions, over all parts, of values that came before, ascending.

    Takes as much memory again as the parts, where only few of the values come again.
    """
    ordered = np.concatenate(parts)
    ordered.sort()
    values = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    if not len(values):
        return np.zeros(0, np.int64)
    positions, found = [], []
    begin = 0
    for part in parts:
        for at in range(0, len(part), _AT_ONCE):
            piece = part[at : at + _AT_ONCE]
            nearest = np.minimum(np.searchsorted(values, piece), len(values) - 1)
            several = np.flatnonzero(values[nearest] == piece)
            positions.append(begin + at + several)
            found.append(piece[several])
        begin += len(part)
    _, first = np.unique(np.concatenate(found), return_index=True)
    return np.delete(np.concatenate(positions), first)


def _duplicate_rows(splits: Sequence[SplitInfo], sources: Hashes) -> NDArray[np.int64]:
    """Returns the passages of every row whose own id an earlier row has."""
    begins = np.concatenate(
        [
            _row_begins(split.rows, split.sources)
            for split in splits
            if split.rows is not None and split.sources is not None
        ]
    )
    row_of = np.cumsum(begins) - 1
    bad = np.zeros(int(begins.sum()), bool)
    bad[repeated([sources[begins]])] = True
    return np.flatnonzero(bad[row_of])


def _row_begins(lines: NDArray[np.uint32], sources: Hashes) -> NDArray[np.bool_]:
    """Returns where the passages of another row begin, or of another one of the same line."""
    begins = np.ones(len(lines), bool)
    begins[1:] = (lines[1:] != lines[:-1]) | (sources[1:] != sources[:-1])
    return begins


def _others(count: int, left_out: NDArray[np.int64]) -> NDArray[np.int64]:
    stays = np.ones(count, bool)
    stays[left_out] = False
    return np.flatnonzero(stays)
