"""nn.Embedding(sparse=True) with SparseAdam, for the benchmark of the routing table."""

from pathlib import Path
from typing import Any

import torch

from routing_table.stream import Ids, Step, Stream


class Table:
    """All rows and moments in memory; only the rows of a step are updated."""

    def __init__(
        self, stream: Stream, *, sites: int, experts: int, grad: Any, directory: Path
    ) -> None:
        del directory
        weight = torch.zeros(stream.num_whole, sites * experts)
        self._rows = torch.nn.Embedding(*weight.shape, sparse=True, _weight=weight)
        self._optimizer = torch.optim.SparseAdam(self._rows.parameters(), lr=0.1)
        self._grad = torch.from_numpy(grad).view(len(grad), -1)

    def prepare(self, steps: int, *, cold: bool) -> None:
        """Nothing lies on disk."""

    def begin(self, orders: list[Ids]) -> None:
        """Every row is there."""

    def step(self, step: Step) -> None:
        """Gathers the rows and updates them."""
        self._rows(torch.from_numpy(step.ids)).backward(self._grad)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def close(self) -> None:
        """Nothing is open."""
