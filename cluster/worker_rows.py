"""The routing rows of the passages that one worker streams: the only copy that trains."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polyprag.row_optimizer import RowAdam
from sharding.manifest import CorpusManifest
from sharding.rows import RowPartition


class WorkerRows:
    """Rows and Adam moments of the partitions that this worker has touched.

    Nobody else touches them, so nothing here is ever communicated.
    """

    def __init__(
        self,
        manifest: CorpusManifest,
        *,
        shape: tuple[int, int],
        load: Callable[[int], RowPartition],
        optimizer: RowAdam,
    ) -> None:
        """Starts empty.

        Args:
            manifest: of the corpus.
            shape: (S, K) of a row.
            load: gives a partition's rows the first time that they are needed.
            optimizer: updates them.
        """
        self._first_ids = np.array([part.first_id for part in manifest.partitions], np.int64)
        self._shape = shape
        self._load = load
        self._optimizer = optimizer
        self._parts: dict[int, RowPartition] = {}
        self._dirty: set[int] = set()

    def part(self, index: int) -> RowPartition:
        """A partition's rows and moments, as they are now."""
        if index not in self._parts:
            self._parts[index] = self._load(index)
        return self._parts[index]

    def _by_partition(self, ids: npt.NDArray[np.int64]) -> list[tuple[int, npt.NDArray[np.intp]]]:
        """(partition, positions in `ids`) for every partition that has some of them."""
        owners = np.searchsorted(self._first_ids, ids, side="right") - 1
        return [(int(owner), np.flatnonzero(owners == owner)) for owner in np.unique(owners)]

    def gather(self, ids: npt.NDArray[np.int64]) -> Tensor:
        """The rows of passages, a copy.

        Args:
            ids: (M,) int64, unique.

        Returns:
            float32 (M, S, K) on the CPU.
        """
        gathered = np.empty((len(ids), *self._shape), np.float32)
        for owner, at in self._by_partition(ids):
            part = self.part(owner)
            gathered[at] = part.rows[ids[at] - part.first_id]
        return torch.from_numpy(gathered)

    def update(self, ids: npt.NDArray[np.int64], grad: Tensor, *, rate: float) -> None:
        """One Adam step on the rows of passages.

        Args:
            ids: (M,) int64, unique.
            grad: float32 (M, S, K) on the CPU.
            rate: learning rate.
        """
        for owner, at in self._by_partition(ids):
            part = self.part(owner)
            self._optimizer.update(
                part.rows,
                part.exp_avg,
                part.exp_avg_sq,
                part.steps,
                index=ids[at] - part.first_id,
                grad=grad[torch.from_numpy(at)],
                lr=rate,
            )
            self._dirty.add(owner)

    def take_dirty(self) -> list[RowPartition]:
        """The partitions that changed since the last call, in order."""
        dirty, self._dirty = sorted(self._dirty), set()
        return [self._parts[index] for index in dirty]
