"""nn.Embedding with Adam, for the benchmark of the routing table."""

from pathlib import Path
from typing import Any

import torch

from routing_table import torch_sparse
from routing_table.stream import Stream


class Table(torch_sparse.Table):
    """All rows, gradients and moments in memory, and all of them touched by every step."""

    def __init__(
        self, stream: Stream, *, sites: int, experts: int, grad: Any, directory: Path
    ) -> None:
        del directory
        weight = torch.zeros(stream.num_whole, sites * experts)
        self._rows = torch.nn.Embedding(*weight.shape, _weight=weight)
        self._optimizer = torch.optim.Adam(self._rows.parameters(), lr=0.1, fused=True)
        self._grad = torch.from_numpy(grad).view(len(grad), -1)
