"""How many passages there are, how long they are, and how many have each term: over all of a base.

BM25's scores are exact however a base is divided only if every part is scored by these.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from polyprag.errors import RunError
from polyprag.retrieval.lexical.term_counts import TermCounts
from polyprag.retrieval.lexical.term_hashes import TermHashes
from polyprag.retrieval.remedy import REMEDY
from sharding.storage.array_files import map_array
from sharding.storage.files import read_json, write_json

_TERMS_AT_ONCE = 1 << 25  # of several groups, 16 bytes each, that are merged at a time


@dataclass(frozen=True, slots=True)
class TermStatistics:
    """Of all passages of a base.

    Attributes:
        num_passages: N.
        mean_length: terms of a passage.
        hashes: (V,) uint64, the terms' hashes, rising.
        num_with: (V,) int64, how many passages have each term.
    """

    num_passages: int
    mean_length: float
    hashes: TermHashes
    num_with: npt.NDArray[np.int64]

    @classmethod
    def of(cls, groups: Iterable[TermCounts]) -> Self:
        """Adds up the groups of a base; memory is bounded by its vocabulary."""
        waiting: list[tuple[TermHashes, npt.NDArray[np.int64]]] = []
        num_passages = num_terms = num_waiting = 0
        for counts in groups:
            num_passages += counts.num_passages
            num_terms += int(counts.lengths.sum(dtype=np.int64))
            waiting.append((counts.hashes, counts.num_with))
            num_waiting += len(counts.hashes)
            if num_waiting > _TERMS_AT_ONCE and len(waiting) > 1:
                waiting = [_added(waiting)]
                num_waiting = 0
        hashes, num_with = _added(waiting)
        return cls(num_passages, num_terms / max(num_passages, 1), hashes, num_with)

    def save(self, directory: Path) -> None:
        """Writes it into an existing directory."""
        np.save(directory / "hashes.npy", self.hashes, allow_pickle=False)
        np.save(directory / "num-with.npy", self.num_with, allow_pickle=False)
        write_json(
            directory / "totals.json",
            {"num_passages": self.num_passages, "mean_length": self.mean_length},
        )

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Maps what `save` wrote.

        Raises:
            RunError: it is damaged.
        """
        totals = read_json(directory / "totals.json")
        try:
            hashes = map_array(directory / "hashes.npy", dtypes=[np.uint64], ndim=1)
            num_with = map_array(directory / "num-with.npy", dtypes=[np.int64], ndim=1)
            opened = cls(
                int(totals["num_passages"]), float(totals["mean_length"]), hashes, num_with
            )
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise RunError(f"{directory}: not readable ({error}); {REMEDY}") from error
        if (
            len(hashes) != len(num_with)
            or np.any(hashes[1:] <= hashes[:-1])
            or np.any((num_with < 1) | (num_with > opened.num_passages))
            or not isfinite(opened.mean_length)
        ):
            raise RunError(f"{directory}: its files don't fit together; {REMEDY}")
        return opened


def _added(
    parts: list[tuple[TermHashes, npt.NDArray[np.int64]]],
) -> tuple[TermHashes, npt.NDArray[np.int64]]:
    """Returns the union of several vocabularies, and the sums of their terms' counts."""
    hashes = np.concatenate([part for part, _ in parts])
    num_with = np.concatenate([counts for _, counts in parts])
    if not len(hashes):
        return hashes, num_with
    order = np.argsort(hashes, kind="stable")
    hashes, num_with = hashes[order], num_with[order]
    first = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]]))
    return hashes[first], np.add.reduceat(num_with, first)
