"""The out-of-core table against one dense array, in any order, with slow and failing storage."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharding.corpus.manifest import Partition
from sharding.errors import FileError
from sharding.rows import table as table_module
from sharding.rows.arena import Held, RowArena
from sharding.rows.part import RowPartition, init_rows
from sharding.rows.table import RowTable

SHAPE = (2, 3)


class Sgd:
    """Rows minus rate times gradient: simple enough to be repeated on a dense array."""

    def update(
        self,
        rows: Any,
        exp_avg: Any,
        exp_avg_sq: Any,
        steps: Any,
        *,
        index: Any,
        grad: Any,
        lr: float | None = None,
    ) -> None:
        rows[index] -= np.float32(lr) * grad
        exp_avg[index] = grad
        steps[index] += 1


@dataclass(frozen=True)
class File:
    """A file as the storage below knows it."""

    name: tuple[int, int]  # partition, step


class Storage:
    """Files in memory, which take a random time to be read and written."""

    def __init__(self, partitions: list[Partition], *, delay: float = 0.0) -> None:
        self.files: dict[tuple[int, int], RowPartition] = {}
        self.loaded: list[int] = []
        self.fail: Callable[[int], bool] = lambda index: False
        self._partitions, self._delay = partitions, delay
        self._random, self._lock = random.Random(0), threading.Lock()

    def load(self, index: int, latest: File | None) -> RowPartition:
        self._sleep()
        with self._lock:
            self.loaded.append(index)
            if latest is None:
                return initial(self._partitions[index])
            return copied(self.files[latest.name])

    def save(self, part: RowPartition, step: int) -> File:
        self._sleep()
        if self.fail(part.index):
            raise FileError(f"partition {part.index}: no space left; make room")
        with self._lock:
            self.files[part.index, step] = copied(part)
        return File((part.index, step))

    def _sleep(self) -> None:
        if self._delay:
            time.sleep(self._random.random() * self._delay)


def initial(partition: Partition) -> RowPartition:
    return init_rows(partition, sites=SHAPE[0], experts=SHAPE[1], std=1.0, seed=0)


def copied(part: RowPartition) -> RowPartition:
    return RowPartition(
        part.index,
        part.first_id,
        part.rows.copy(),
        part.exp_avg.copy(),
        part.exp_avg_sq.copy(),
        part.steps.copy(),
    )


def partitions_of(sizes: list[int]) -> list[Partition]:
    parts, first = [], 0
    for index, size in enumerate(sizes):
        parts.append(Partition(index, first, size, f"part-{index:05d}-{'a' * 12}.tar", 1, "a" * 64))
        first += size
    return parts


def dense_of(partitions: list[Partition]) -> np.ndarray:
    return np.concatenate([initial(part).rows for part in partitions])


def table_over(partitions: list[Partition], storage: Storage, **options: Any) -> RowTable[File]:
    return RowTable(
        partitions,
        shape=SHAPE,
        load=storage.load,
        save=storage.save,
        optimizer=Sgd(),
        **options,
    )


class Run:
    """A table and a dense array that are trained alike, step by step, epoch by epoch."""

    def __init__(self, sizes: list[int], *, lanes: int, seed: int, delay: float = 0.0) -> None:
        self.partitions = partitions_of(sizes)
        self.storage = Storage(self.partitions, delay=delay)
        self.dense = dense_of(self.partitions)
        self.counts = np.zeros(len(self.dense), np.int64)
        self.random = np.random.default_rng(seed)
        self.lanes, self.step = lanes, 0

    def epoch(self, table: RowTable[File], *, take: int, each_step: Callable[[], None]) -> None:
        """Every lane reads its partitions in a random order, `take` passages a step."""
        orders = {
            lane: self.random.permutation(range(lane, len(self.partitions), self.lanes)).tolist()
            for lane in range(self.lanes)
        }
        table.begin(orders)
        streams = {
            lane: [
                (position, passage)
                for position, index in enumerate(order)
                for passage in self._shuffled(index)
            ]
            for lane, order in orders.items()
        }
        while any(streams.values()):
            taken = {lane: stream[:take] for lane, stream in streams.items()}
            ids = np.unique([passage for rows in taken.values() for _, passage in rows])
            np.testing.assert_array_equal(table.gather(ids), self.dense[ids])
            grad = self.random.standard_normal((len(ids), *SHAPE)).astype(np.float32)
            table.update(ids, grad, rate=0.5)
            self.dense[ids] -= np.float32(0.5) * grad
            self.counts[ids] += 1
            self.step += 1
            for lane in orders:
                streams[lane] = streams[lane][take:]
                left = streams[lane]
                position = left[0][0] if left else len(orders[lane])
                table.advance(lane, position, step=self.step)
            each_step()

    def _shuffled(self, index: int) -> list[int]:
        part = self.partitions[index]
        ids = np.arange(part.first_id, part.first_id + part.num_passages)
        return self.random.permutation(np.repeat(ids, 2)).tolist()  # two examples a passage


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=9),
    lanes=st.integers(1, 4),
    take=st.integers(1, 7),
    epochs=st.integers(1, 3),
    every=st.integers(1, 6),
    seed=st.integers(0, 2**16),
)
def test_any_order_equals_one_dense_table_and_every_checkpoint_its_step(
    sizes: list[int], lanes: int, take: int, epochs: int, every: int, seed: int
) -> None:
    run = Run(sizes, lanes=lanes, seed=seed, delay=0.0005)
    named: dict[int, File] = {}  # as a manifest names them
    with table_over(run.partitions, run.storage) as table:

        def checkpoint() -> None:
            if run.step % every:
                return
            files, superseded = table.checkpoint(run.step).result()
            named.update(files)
            for file in superseded:
                del run.storage.files[file.name]
            for index, part in enumerate(run.partitions):
                expected = run.dense[part.first_id : part.first_id + part.num_passages]
                found = run.storage.files[named[index].name] if index in named else initial(part)
                np.testing.assert_array_equal(found.rows, expected)

        for _ in range(epochs):
            run.epoch(table, take=take, each_step=checkpoint)
        table.checkpoint(run.step).result()
        read = [table.read(part.index) for part in run.partitions]
    np.testing.assert_array_equal(np.concatenate([part.rows for part in read]), run.dense)
    np.testing.assert_array_equal(np.concatenate([part.steps for part in read]), run.counts)


def test_a_checkpoint_holds_its_own_step_although_training_goes_on() -> None:
    run = Run([4, 4, 4, 4], lanes=2, seed=1, delay=0.01)
    taken: list[tuple[np.ndarray, Any]] = []
    with table_over(run.partitions, run.storage) as table:
        run.epoch(
            table,
            take=1,
            each_step=lambda: taken.append((run.dense.copy(), table.checkpoint(run.step))),
        )
    assert len(taken) > 8
    named: dict[int, File] = {}
    for dense, written in taken:  # read only now: every file must still be of its own step
        named.update(written.result()[0])
        for part in run.partitions:
            expected = dense[part.first_id : part.first_id + part.num_passages]
            file = named.get(part.index)
            found = run.storage.files[file.name] if file else initial(part)
            np.testing.assert_array_equal(found.rows, expected)


class CountingArena(RowArena):
    """Knows how many partitions are in all arenas."""

    now = most = 0
    lock = threading.Lock()

    def place(self, part: RowPartition) -> Held | None:
        held = super().place(part)
        with self.lock:
            CountingArena.now += held is not None
            CountingArena.most = max(CountingArena.most, CountingArena.now)
        return held

    def free(self, slot: int) -> None:
        super().free(slot)
        with self.lock:
            CountingArena.now -= 1


def test_memory_holds_two_partitions_a_lane_and_those_on_their_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table_module, "RowArena", CountingArena)
    CountingArena.now = CountingArena.most = 0
    run = Run([3] * 60, lanes=2, seed=0, delay=0.002)
    with table_over(run.partitions, run.storage, max_writes=3) as table:
        for _ in range(2):
            run.epoch(table, take=2, each_step=lambda: None)
    assert 2 * 2 <= CountingArena.most <= 2 * 2 + 3 + 1  # one more while training waits
    assert len(run.storage.loaded) >= 100  # of 2 x 60: what was let go of was read again


def test_next_partition_is_loaded_while_the_one_before_is_trained() -> None:
    run = Run([4] * 6, lanes=1, seed=0)
    ready: list[int] = []
    with table_over(run.partitions, run.storage) as table:

        def look() -> None:
            time.sleep(0.01)
            ready.append(len(run.storage.loaded))

        run.epoch(table, take=1, each_step=look)
    assert ready[0] == 2  # in the first partition's first step the second is there
    assert ready[-1] == 6  # each was read once


def test_bytes_that_move_are_counted() -> None:
    run = Run([4] * 6, lanes=1, seed=0)
    with table_over(run.partitions, run.storage) as table:
        run.epoch(table, take=1, each_step=lambda: None)
        once = 6 * 4 * (3 * 6 + 1) * 4  # 24 rows: a row and its moments of 2 x 3, and a count
        assert table.take_moved() == (once, once)
        assert table.take_moved() == (0, 0)


def test_failed_write_is_raised_by_gather_and_by_the_checkpoint() -> None:
    run = Run([2] * 8, lanes=1, seed=0)
    run.storage.fail = lambda index: True
    with (
        table_over(run.partitions, run.storage) as table,
        pytest.raises(FileError, match=r"partition \d: no space left"),
    ):
        run.epoch(table, take=2, each_step=lambda: time.sleep(0.01))
    with table_over(run.partitions, run.storage) as table:
        table.begin({0: [3]})
        table.gather(np.array([6]))
        table.update(np.array([6]), np.ones((1, *SHAPE), np.float32), rate=1.0)
        written = table.checkpoint(1)
        with pytest.raises(FileError, match="partition 3: no space left"):
            written.result()


def test_unreadable_rows_are_raised_by_the_step_that_needs_them() -> None:
    partitions = partitions_of([2, 2])

    def load(index: int, latest: File | None) -> RowPartition:
        if index == 1:
            raise FileError("rows-00001: damaged")
        return initial(partitions[index])

    storage = Storage(partitions)
    with RowTable(partitions, shape=SHAPE, load=load, save=storage.save, optimizer=Sgd()) as table:
        table.begin({0: [0, 1]})
        table.gather(np.array([0]))
        table.advance(0, 1, step=1)
        with pytest.raises(FileError, match="rows-00001: damaged"):
            table.gather(np.array([2]))


def test_no_passages_need_no_partition() -> None:
    partitions = partitions_of([2])
    storage = Storage(partitions)
    with table_over(partitions, storage) as table:
        table.begin({0: []})
        assert table.gather(np.array([], np.int64)).shape == (0, *SHAPE)
    assert storage.loaded == []
