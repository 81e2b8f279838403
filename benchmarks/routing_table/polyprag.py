"""This project's out-of-core table, for the benchmark: threads read and write files of rows."""

from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from polyprag.method.rows.kernel import compiled
from polyprag.method.rows.optimizer import RowAdam
from routing_table.cold import forget
from routing_table.stream import Ids, Step, Stream
from sharding.corpus.manifest import Partition
from sharding.rows.file import load_rows, save_rows
from sharding.rows.part import RowPartition, init_rows
from sharding.rows.table import RowTable
from sharding.rows.traffic import RowsWritten
from sharding.storage.files import sync

CHECKPOINT = 500  # steps; as by default
_NO_SHA256 = "0" * 64
File = tuple[int, str, str]  # step, name, SHA-256


def warm() -> None:
    """Loads what is loaded once in a process."""
    compiled()


class Table:
    """Rows and moments as files of partitions; those that a checkpoint names are synced."""

    def __init__(
        self, stream: Stream, *, sites: int, experts: int, grad: Any, directory: Path
    ) -> None:
        self._stream, self._sites, self._experts = stream, sites, experts
        self._grad, self._directory = grad, directory
        size = stream.partition_size
        self._partitions = [
            Partition(index, index * size, size, f"part-{index:05d}.tar", 1, _NO_SHA256, False, {})
            for index in range(stream.num_partitions)
        ]
        self._named: dict[int, File] = {}  # by the last checkpoint
        self._checkpoints = ThreadPoolExecutor(1)
        self._table: RowTable[File] = RowTable(
            self._partitions,
            shape=(sites, experts),
            load=self._load,
            save=self._save,
            optimizer=RowAdam(),
        )
        self._lanes: tuple[int, ...] = ()
        self._number = 0

    def prepare(self, steps: int, *, cold: bool) -> None:
        """Writes the partitions that so many steps read, as an earlier epoch would have."""
        order, read = self._stream.orders(0), 0
        for step in islice(self._stream.steps(0), steps):
            read = max(read, *step.positions)
        for lane in order:
            for index in lane[: read + 2].tolist():
                file = self._named[index] = self._save(self._untrained(index), 0)
                if cold:
                    forget(self._directory / file[1])

    def begin(self, orders: list[Ids]) -> None:
        """Starts an epoch."""
        self._table.begin({lane: order.tolist() for lane, order in enumerate(orders)})
        self._lanes = (0,) * len(orders)

    def step(self, step: Step) -> None:
        """Gathers the rows and updates them, and says where the lanes go on."""
        self._table.gather(step.ids)
        self._table.update(step.ids, self._grad, rate=0.1)
        self._number += 1
        for lane, (before, now) in enumerate(zip(self._lanes, step.positions, strict=True)):
            if now != before:
                self._table.advance(lane, now, step=self._number)
        self._lanes = step.positions
        if self._number % CHECKPOINT == 0:
            self._checkpoint()

    def close(self) -> None:
        """Waits for what is being written."""
        self._checkpoint().result()
        self._table.close()
        self._checkpoints.shutdown()

    def _checkpoint(self) -> Future[None]:
        return self._checkpoints.submit(self._sync, self._table.checkpoint(self._number))

    def _sync(self, written: RowsWritten[File]) -> None:
        files, superseded = written.result()
        sync(self._directory / name for _, name, _ in files.values())
        replaced = [*superseded, *(self._named[i] for i in files if i in self._named)]
        self._named.update(files)
        for name in {name for _, name, _ in replaced} - {name for _, name, _ in files.values()}:
            (self._directory / name).unlink()

    def _untrained(self, index: int) -> RowPartition:
        return init_rows(
            self._partitions[index], sites=self._sites, experts=self._experts, std=1.0, seed=0
        )

    def _load(self, index: int, latest: File | None) -> RowPartition:
        file = latest or self._named.get(index)
        if file is None:
            return self._untrained(index)
        return load_rows(self._directory / file[1], sha256=file[2])

    def _save(self, part: RowPartition, step: int) -> File:
        name = f"rows-{part.index:06d}-{step:08d}"
        sha256, _ = save_rows(self._directory / name, part, durable=False)
        return step, name, sha256
