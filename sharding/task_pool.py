"""Run tasks in order on this process, on local processes or on whatever else has this interface."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Protocol, TypeVar

from sharding.errors import PolypragError

T = TypeVar("T")
R = TypeVar("R")

# Tasks that carry data (blocks of a file) wait for a worker in at most this much memory.
_MAX_BYTES_WAITING = 1 << 30
_TASKS_PER_WORKER = 3  # begun or waiting: enough that no worker waits for the one that hands out


class TaskPool(Protocol):
    """Workers that run tasks.

    Attributes:
        num_workers: how many tasks run at the same time.
    """

    num_workers: int

    def map(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        *,
        num_bytes: Callable[[T], int] = ...,
    ) -> Iterator[R]:
        """Returns the tasks' results, in the order of the tasks.

        What a task raises is raised in its turn.

        Args:
            function: of a module, so that workers find it.
            tasks: taken one after another, only as far ahead as keeps all workers busy.
            num_bytes: the data that a task carries.
        """
        ...


def no_bytes(task: object) -> int:
    """For tasks that carry no data."""
    return 0


class InlinePool:
    """Runs each task here when its result is asked for."""

    num_workers = 1

    def map(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        *,
        num_bytes: Callable[[T], int] = no_bytes,
    ) -> Iterator[R]:
        """See `TaskPool.map`."""
        return map(function, tasks)


class ProcessPool:
    """Runs tasks in processes of this machine, which end with the `with` block or with us.

    They are started afresh (spawn), so that threads of this process are no danger. Each waits on
    a pipe whose other end only this process holds: when that closes, be it that the block was
    left by an error or that this process was killed, they end at once. Ctrl-C is left to us.
    """

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers

    def __enter__(self) -> "ProcessPool":
        context = multiprocessing.get_context("spawn")
        theirs, self._lifeline = context.Pipe(duplex=False)
        self._executor = ProcessPoolExecutor(
            self.num_workers, mp_context=context, initializer=_begin, initargs=(theirs,)
        )
        self._theirs = theirs
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._lifeline.close()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._lifeline.close()
        self._theirs.close()

    def map(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        *,
        num_bytes: Callable[[T], int] = no_bytes,
    ) -> Iterator[R]:
        """See `TaskPool.map`.

        Raises:
            PolypragError: a worker was killed.
        """

        def submit(task: T) -> Callable[[], R]:
            # A worker that is started for the task inherits the mask: Ctrl-C is not for it.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                return self._executor.submit(function, task).result
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

        try:
            yield from in_order(submit, tasks, num_workers=self.num_workers, num_bytes=num_bytes)
        except BrokenProcessPool as broken:
            raise PolypragError(
                "a worker process was killed, most likely because memory ran out; run the same "
                "command again with fewer --workers: what is done is kept"
            ) from broken


def in_order(
    submit: Callable[[T], Callable[[], R]],
    tasks: Iterable[T],
    *,
    num_workers: int,
    num_bytes: Callable[[T], int],
) -> Iterator[R]:
    """Keeps workers busy with tasks, and gives their results in the tasks' order.

    Args:
        submit: begins a task; what it returns waits for the task's result.
        tasks: taken only as far ahead as workers and memory allow.
        num_workers: that can work at the same time.
        num_bytes: the data that a task carries.
    """
    begun: deque[tuple[Callable[[], R], int]] = deque()
    waiting = 0
    for task in tasks:
        size = num_bytes(task)
        while begun and (
            len(begun) >= num_workers * _TASKS_PER_WORKER or waiting + size > _MAX_BYTES_WAITING
        ):
            result, freed = begun.popleft()
            waiting -= freed
            yield result()
        begun.append((submit(task), size))
        waiting += size
    while begun:
        yield begun.popleft()[0]()


def _begin(lifeline: Connection) -> None:
    """What a worker process does first."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    try:
        lifeline.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)


def num_cores() -> int:
    """Returns the cores that this process may use."""
    return len(os.sched_getaffinity(0))
