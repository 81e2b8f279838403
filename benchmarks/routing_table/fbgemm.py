"""FBGEMM's table-batched embedding, which torchrec trains with, for the benchmark.

Its CPU operators have no Adam ("Optimizer adam is not supported in CPU mode"); exact Adagrad,
fused into the backward pass, keeps and touches one moment where Adam has two. Bags of one row each,
because that is its faster way.
"""

import logging
from pathlib import Path
from typing import Any

import torch

logging.getLogger().setLevel(logging.ERROR)  # it warns of each operator that has no GPU

from fbgemm_gpu.split_embedding_configs import EmbOptimType  # noqa: E402
from fbgemm_gpu.split_table_batched_embeddings_ops_common import (  # noqa: E402
    EmbeddingLocation,
    PoolingMode,
)
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (  # noqa: E402
    ComputeDevice,
    SplitTableBatchedEmbeddingBagsCodegen,
)

from routing_table.stream import Ids, Step, Stream  # noqa: E402


class Table:
    """All rows and one moment in memory; only the rows of a step are updated."""

    def __init__(
        self, stream: Stream, *, sites: int, experts: int, grad: Any, directory: Path
    ) -> None:
        del directory
        size = (stream.num_whole, sites * experts)
        self._rows = SplitTableBatchedEmbeddingBagsCodegen(
            [(*size, EmbeddingLocation.HOST, ComputeDevice.CPU)],
            optimizer=EmbOptimType.EXACT_ADAGRAD,
            pooling_mode=PoolingMode.SUM,
            learning_rate=0.1,
        )
        for weights in self._rows.split_embedding_weights():
            weights.zero_()  # pages that are there before the first step
        self._offsets = torch.arange(len(grad) + 1)
        self._grad = torch.from_numpy(grad).view(len(grad), -1)

    def prepare(self, steps: int, *, cold: bool) -> None:
        """Nothing lies on disk."""

    def begin(self, orders: list[Ids]) -> None:
        """Every row is there."""

    def step(self, step: Step) -> None:
        """Gathers the rows; the backward pass updates them."""
        self._rows(torch.from_numpy(step.ids), self._offsets).backward(self._grad)

    def close(self) -> None:
        """Nothing is open."""
