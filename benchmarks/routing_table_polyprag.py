"""This project's out-of-core table, for the benchmark: threads read and write files of rows."""

import os
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

from routing_table_cold import forget
from routing_table_stream import Ids, Step, Stream

from polyprag.row_kernel import compiled
from polyprag.row_optimizer import RowAdam
from sharding.manifest import Partition
from sharding.row_table import RowTable
from sharding.rows import RowPartition, init_rows, load_rows, save_rows

CHECKPOINT = 500  # steps; as by default
_NO_SHA256 = "0" * 64
File = tuple[int, str, str]  # step, name, SHA-256


def warm() -> None:
    """Loads what is loaded once in a process."""
    compiled()


class Table:
    """Rows and moments as files of partitions, each written, synced and renamed when it is left."""

    def __init__(
        self, stream: Stream, *, sites: int, experts: int, grad: Any, directory: Path
    ) -> None:
        self._stream, self._sites, self._experts = stream, sites, experts
        self._grad, self._directory = grad, directory
        size = stream.partition_size
        self._partitions = [
            Partition(index, index * size, size, f"part-{index:05d}.tar", 1, _NO_SHA256)
            for index in range(stream.num_partitions)
        ]
        self._files: dict[int, File] = {}
        self._lock = Lock()
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
                file = self._save(self._untrained(index), 0)
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
            self._table.checkpoint(self._number)

    def close(self) -> None:
        """Waits for what is being written."""
        self._table.checkpoint(self._number).result()
        self._table.close()

    def _untrained(self, index: int) -> RowPartition:
        return init_rows(
            self._partitions[index], sites=self._sites, experts=self._experts, std=1.0, seed=0
        )

    def _load(self, index: int, latest: File | None) -> RowPartition:
        file = latest or self._files.get(index)
        if file is None:
            return self._untrained(index)
        return load_rows(self._directory / file[1], sha256=file[2])

    def _save(self, part: RowPartition, step: int) -> File:
        name = f"rows-{part.index:06d}-{step:08d}"
        sha256, _ = save_rows(self._directory / name, part)
        file = step, name, sha256
        with self._lock:
            before = self._files.get(part.index)
            newest = file if before is None else max(before, file)
            self._files[part.index] = newest
        for old in (before, file):
            if old is not None and old[1] != newest[1]:
                os.remove(self._directory / old[1])
        return file
