"""Which passages of an index are looked up in its parts, and how a disagreement is reported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from polyprag.retrieval.parts.manifest import IndexManifest, Segment
from polyprag.retrieval.parts.part import IndexPart
from polyprag.retrieval.remedy import REMEDY
from sharding.checks.problem import Problem
from sharding.corpus.passages import Passage
from sharding.storage.files import join

_PROBES = 48  # passages of an index
_LEAST = 6  # of a segment, which may be a small part of the index


@dataclass(frozen=True, slots=True)
class SegmentSample:
    """Living passages of one segment, and its parts on this machine.

    Attributes:
        index_url: RUN/index.
        segment: whose they are.
        directories: those of the segment's parts on this machine, by the parts' names.
        passages: as the corpus has them where it is there, else as the index has them; ascending.
    """

    index_url: str
    segment: Segment
    directories: Mapping[str, Sequence[Path]]
    passages: Sequence[Passage]

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Of the passages, (m,)."""
        return np.array([passage.id for passage in self.passages], np.int64)

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """Of the passages in the segment, (m,)."""
        return self.ids - self.segment.first_id

    def part(self, name: str, passage_id: int, *, sizes: Sequence[int]) -> IndexPart:
        """Returns the part of a kind that has a passage.

        Args:
            name: passages, bm25 or another kind.
            passage_id: one of the segment's.
            sizes: passages of each of the segment's parts of that kind.
        """
        ends = np.cumsum(sizes)
        at = int(np.searchsorted(ends, passage_id - self.segment.first_id, side="right"))
        return self.segment.parts[name][at]

    def problem(self, part: IndexPart, what: str, *, delete_too: str = "") -> Problem:
        """Reports a part that is wrong though its files are as they were written.

        Args:
            part: one of the segment's.
            what: is wrong; names the passage, what it should have and what it has.
            delete_too: what else in RUN/index is to be made again with it.
        """
        url = join(self.index_url, part.directory)
        both = f" and {join(self.index_url, delete_too)}" if delete_too else ""
        # Building keeps a part that is as it was written, so it must go first.
        remedy = f"delete {url}{both} and {REMEDY}"
        return Problem(url, f"{url}: {what}; {remedy}")

    def of_sample(self, num_wrong: int) -> str:
        """Returns how many of the sample disagree, for the end of a sentence."""
        return f" ({num_wrong} of {len(self.passages)} passages looked up disagree)"


def sampled_ids(manifest: IndexManifest) -> list[npt.NDArray[np.int64]]:
    """Returns evenly spaced ids of passages that are there, ascending, of each segment."""
    chosen = []
    for segment in manifest.segments:
        gone = segment.span.positions(manifest.removed)
        num_living = segment.num_passages - len(gone)
        share = round(_PROBES * segment.num_passages / manifest.num_passages)
        count = min(num_living, max(_LEAST, share))
        ranks = np.linspace(0, max(num_living - 1, 0), count).round().astype(np.int64)
        # Before the living passage of a rank are as many removed ones as have fewer living ones
        # before them.
        before = np.searchsorted(gone - np.arange(len(gone)), ranks, side="right")
        chosen.append(segment.first_id + ranks + before)
    return chosen
