"""What a search gives: ids, scores, routing rows and passages of many queries at once.

Q queries, k hits, S sites, K experts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt

from polyprag.retrieval.fusion import TopK
from polyprag.retrieval.parts.serving_rows import Rows
from sharding.corpus.passages import Passage

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Hits:
    """What a search found for one query, best first.

    Attributes:
        ids: (k,) int64 passage ids.
        scores: (k,) float32, falling; comparable within one search only.
        rows: (k, S, K) float32 routing rows, no gate applied; None without an encoding.
        passages: the k passages.
    """

    ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    rows: npt.NDArray[np.float32] | None
    passages: Sequence[Passage]


class LazyPassages(Sequence[Passage]):
    """Passages that are decoded from the memory map when they are looked at."""

    def __init__(self, ids: npt.NDArray[np.int64], passage: Callable[[int], Passage]) -> None:
        """Takes ids (k,) and what gives the passage of an id."""
        self._ids, self._passage = ids, passage

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, at: int) -> Passage: ...
    @overload
    def __getitem__(self, at: slice) -> "LazyPassages": ...
    def __getitem__(self, at: int | slice) -> "Passage | LazyPassages":
        if isinstance(at, slice):
            return LazyPassages(self._ids[at], self._passage)
        return self._passage(int(self._ids[at]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)


class SearchResult(Sequence[Hits]):
    """The hits of Q queries, as arrays and, one query at a time, as `Hits`.

    Attributes:
        ids: (Q, k) int64 passage ids, best first; -1 where fewer were found.
        scores: (Q, k) float32, falling; -inf where fewer were found.
    """

    def __init__(self, found: TopK, rows: Rows | None, passage: Callable[[int], Passage]) -> None:
        """Takes the arrays, the index's rows, and what gives the passage of an id."""
        self.ids, self.scores = found
        self._rows, self._passage = rows, passage

    @cached_property
    def rows(self) -> npt.NDArray[np.float32] | None:
        """(Q, k, S, K) float32 routing rows, read when they are first looked at.

        No gate is applied; zero where fewer were found; None without an encoding.
        """
        if self._rows is None:
            return None
        return self._rows.take(self.ids.ravel()).reshape(*self.ids.shape, *self._rows.row_shape)

    def rows_on(self, device: "str | torch.device") -> "torch.Tensor | None":
        """Puts the rows on a PyTorch device such as `cuda:0`, without a detour by `rows`.

        Raises:
            ConfigError: there is no such device.
        """
        if self._rows is None:
            return None
        rows_mSK = self._rows.take_on(self.ids.ravel(), device)
        return rows_mSK.reshape(*self.ids.shape, *self._rows.row_shape)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, at: int) -> Hits: ...
    @overload
    def __getitem__(self, at: slice) -> list[Hits]: ...
    def __getitem__(self, at: int | slice) -> Hits | list[Hits]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        length = int(np.count_nonzero(self.ids[at] >= 0))
        ids = self.ids[at, :length]
        return Hits(
            ids=ids,
            scores=self.scores[at, :length],
            rows=None if self.rows is None else self.rows[at, :length],
            passages=LazyPassages(ids, self._passage),
        )

    def __iter__(self) -> Iterator[Hits]:
        return (self[i] for i in range(len(self)))

    @property
    def passages(self) -> list[LazyPassages]:
        """The passages of each query's hits, decoded when they are looked at."""
        return [
            LazyPassages(ids[:length], self._passage)
            for ids, length in zip(
                self.ids, np.count_nonzero(self.ids >= 0, axis=1).tolist(), strict=True
            )
        ]
