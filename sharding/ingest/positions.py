"""Passages by their position in the order of the input: file and line, key, body."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from msgspec.json import decode
from numpy.typing import NDArray

from sharding.errors import CorpusError
from sharding.ingest.document_groups import place_in_group
from sharding.ingest.parse_input import ParsedFile
from sharding.ingest.rows import BadRow
from sharding.ingest.splits import Split, SplitInfo, load_split


class Place(NamedTuple):
    """Where a passage comes from."""

    file: str
    line: int
    key: str


def bodies_at(
    splits: Sequence[SplitInfo], positions: NDArray[np.int64]
) -> Iterator[tuple[int, bytes]]:
    """Positions and the passages' JSON without ids; each split is read once.

    Args:
        splits: of the whole input, in order.
        positions: over all splits, ascending.

    Raises:
        CorpusError: a split was lost or damaged since it was written.
    """
    begin = 0
    for split in splits:
        first, last = np.searchsorted(positions, [begin, begin + split.num_passages])
        if first < last:
            whole = _load(split)
            offsets = whole.body_offsets()
            for position in positions[first:last].tolist():
                at = position - begin
                yield position, whole.bodies[offsets[at] : offsets[at + 1]]
        begin += split.num_passages


def place_of(parsed: Sequence[ParsedFile], position: int) -> Place:
    """Returns where the passage at a position comes from; its split is read."""
    for index, file in enumerate(parsed):
        lines_before = 0
        for split in file.splits:
            if position < split.num_passages:
                whole = _load(split)
                begin, end = whole.body_offsets()[position : position + 2].tolist()
                line = lines_before + int(whole.columns["lines"][position])
                if file.file.is_document:  # of a group, whose split is the first one's
                    number, line = place_in_group(line)
                    file = parsed[index + number]
                return Place(file.file.url, line, decode(whole.bodies[begin:end])["key"])
            position -= split.num_passages
            lines_before += split.num_lines
    raise ValueError(f"position {position} is behind the last passage")


def error_at(parsed: Sequence[ParsedFile], position: int, reason: str) -> CorpusError:
    """Returns the error for a passage that can't be used, with its file, line and key."""
    place = place_of(parsed, position)
    return BadRow(place.line, reason, repr(place.key)).error(place.file)


def _load(split: SplitInfo) -> Split:
    whole = load_split(split.url, key=split.key)
    if whole is None:
        raise CorpusError(f"{split.url}: lost or damaged; run the same command again")
    return whole
