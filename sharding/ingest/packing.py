"""Number what is to stay of parsed input and write it as partitions, on a pool of workers."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sharding.corpus.manifest import Partition
from sharding.ingest.numbering import pack_plan
from sharding.ingest.pack_task import PackTask, pack
from sharding.ingest.parse_task import SplitInfo
from sharding.shown_progress import ShowProgress
from sharding.task_pool import TaskPool


def write_partitions(
    corpus_dir: str,
    work_dir: str,
    splits: Sequence[SplitInfo],
    *,
    left_out: NDArray[np.int64],
    partition_size: int,
    pool: TaskPool,
    show: ShowProgress,
    first_partition: int = 0,
    first_id: int = 0,
) -> tuple[Partition, ...]:
    """Writes the shards, keeping those of a stopped run; no manifest names them yet.

    Args:
        corpus_dir: where they go.
        work_dir: where the splits are, and notes of what is written.
        splits: of the whole input, in order.
        left_out: positions over all splits of passages that don't stay, ascending.
        partition_size: passages in a shard; the last may have less.
        pool: who does the work.
        show: shows how far it is.
        first_partition: the first shard's number: how many the corpus has before.
        first_id: the first passage's id, likewise.
    """
    sizes = [split.num_passages for split in splits]
    plan = pack_plan(
        sizes,
        left_out,
        partition_size=partition_size,
        pack_size=max(1, sum(sizes) // max(1, len(sizes))),
        first_partition=first_partition,
        first_id=first_id,
    )

    def tasks() -> Iterator[PackTask]:
        for part in plan:
            pieces = [(splits[p.split].url, splits[p.split].key, p.passages) for p in part.pieces]
            yield PackTask(
                corpus_dir, work_dir, part.first_partition, part.first_id, part.sizes, pieces
            )

    partitions: list[Partition] = []
    with show(sum(sizes) - len(left_out), "writing partitions", unit="passages") as advance:
        for written in pool.map(pack, tasks()):
            partitions += written
            advance(sum(partition.num_passages for partition in written))
    return tuple(partitions)
