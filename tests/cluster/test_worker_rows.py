"""A worker's rows against one dense table."""

import numpy as np
import torch

from cluster.worker_rows import WorkerRows
from polyprag.row_optimizer import RowAdam
from sharding.manifest import CorpusManifest, Partition
from sharding.rows import RowPartition, init_rows


def manifest_of(sizes: list[int]) -> CorpusManifest:
    parts, first = [], 0
    for index, size in enumerate(sizes):
        parts.append(Partition(index, first, size, f"part-{index:05d}-{'a' * 12}.tar", 1, "a" * 64))
        first += size
    return CorpusManifest(["x"], first, max(sizes), tuple(parts))


def test_gather_and_update_equal_those_of_one_table() -> None:
    manifest = manifest_of([3, 1, 4])
    loaded: list[int] = []

    def load(index: int) -> RowPartition:
        loaded.append(index)
        return init_rows(manifest.partitions[index], sites=2, experts=3, std=1.0, seed=0)

    rows = WorkerRows(manifest, shape=(2, 3), load=load, optimizer=RowAdam(lr=0.1))
    whole = [init_rows(p, sites=2, experts=3, std=1.0, seed=0) for p in manifest.partitions]
    dense = torch.from_numpy(np.concatenate([part.rows for part in whole])).requires_grad_()
    adam = torch.optim.Adam([dense], lr=0.1)

    ids = np.array([1, 3, 6, 7])
    assert torch.equal(rows.gather(ids), dense.detach()[ids])
    grad = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    rows.update(ids, grad, rate=0.1)
    dense.grad = torch.zeros_like(dense)
    dense.grad[ids] = grad
    adam.step()
    torch.testing.assert_close(rows.gather(ids), dense.detach()[ids], atol=1e-6, rtol=0)
    assert sorted(loaded) == [0, 1, 2]  # each once
    assert [part.index for part in rows.take_dirty()] == [0, 1, 2]
    assert rows.take_dirty() == []
    rows.update(np.array([3]), grad[:1], rate=0.1)
    assert [part.index for part in rows.take_dirty()] == [1]


def test_no_passages_need_no_partition() -> None:
    manifest = manifest_of([2])
    rows = WorkerRows(manifest, shape=(2, 3), load=lambda _: 1 / 0, optimizer=RowAdam())  # type: ignore[arg-type, return-value]
    assert rows.gather(np.array([], np.int64)).shape == (0, 2, 3)
