import os
import signal
import time
from collections.abc import Iterator

import pytest

from sharding.errors import CorpusError, PolypragError
from sharding.task_pool import InlinePool, ProcessPool, TaskPool, in_order


def square(number: int) -> int:
    time.sleep(0.01 * (number % 3))
    return number * number


def fail_at_5(number: int) -> int:
    if number >= 5:
        raise CorpusError(f"number {number}: too large")
    return number


def killed(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPool]:
    with ProcessPool(2) as pool:
        yield pool


@pytest.mark.parametrize("kind", ["inline", "processes"])
def test_results_and_errors_come_in_the_order_of_the_tasks(
    kind: str, processes: ProcessPool
) -> None:
    pool: TaskPool = processes if kind == "processes" else InlinePool()
    assert list(pool.map(square, range(20))) == [number * number for number in range(20)]
    found = []
    with pytest.raises(CorpusError, match=r"^number 5: too large$"):
        for number in pool.map(fail_at_5, range(20)):
            found.append(number)
    assert found == [0, 1, 2, 3, 4]


def test_a_killed_worker_is_an_error_with_a_remedy() -> None:
    with (
        pytest.raises(PolypragError, match=r"a worker process was killed.*fewer --workers"),
        ProcessPool(1) as pool,
    ):
        list(pool.map(killed, [1]))


@pytest.mark.parametrize(
    ("num_workers", "num_bytes", "at_most"), [(2, 0, 6), (1, 0, 3), (50, 1 << 28, 4)]
)
def test_tasks_are_taken_only_as_far_ahead_as_workers_and_memory_allow(
    num_workers: int, num_bytes: int, at_most: int
) -> None:
    taken = given = ahead = 0

    def tasks() -> Iterator[int]:
        nonlocal taken, ahead
        for number in range(100):
            yield number
            taken += 1
            ahead = max(ahead, taken - given)

    for number in in_order(
        lambda number: lambda: number,
        tasks(),
        num_workers=num_workers,
        num_bytes=lambda _: num_bytes,
    ):
        assert number == given
        given += 1
    assert given == 100
    assert ahead == at_most
