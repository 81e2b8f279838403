"""The logits of PEFT's Poly layers with Adam, for the benchmark of the routing table.

Each layer has a router with logits for every task, here for every passage. What the router does
with a task's logits afterwards is left out.
"""

from pathlib import Path
from typing import Any

import torch
from peft import PolyConfig
from peft.tuners.poly.router import PolyRouter

from routing_table.stream import Ids, Step, Stream


class Table:
    """All rows, gradients and moments in memory, and all of them touched by every step."""

    def __init__(
        self, stream: Stream, *, sites: int, experts: int, grad: Any, directory: Path
    ) -> None:
        del directory
        config = PolyConfig(n_tasks=stream.num_whole, n_skills=experts, n_splits=1)
        self._routers = torch.nn.ModuleList(PolyRouter(config) for _ in range(sites))
        for logits in self._routers.parameters():
            torch.nn.init.zeros_(logits)
        self._optimizer = torch.optim.Adam(self._routers.parameters(), lr=0.1, fused=True)
        self._grads = torch.from_numpy(grad).unbind(1)

    def prepare(self, steps: int, *, cold: bool) -> None:
        """Nothing lies on disk."""

    def begin(self, orders: list[Ids]) -> None:
        """Every row is there."""

    def step(self, step: Step) -> None:
        """Gathers the rows at every layer and updates them."""
        ids = torch.from_numpy(step.ids)
        rows = [router.module_logits[ids] for router in self._routers]
        torch.autograd.backward(rows, self._grads)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def close(self) -> None:
        """Nothing is open."""
