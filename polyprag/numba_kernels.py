"""Python loops that numba compiles, and threads to run them in."""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Any

from sharding.task_pool import num_cores


def machine_code(function: Callable[..., Any], *signatures: Any, **options: Any) -> Any:
    """Returns a function as machine code that runs without the GIL.

    It is kept for the next process in `__pycache__` beside the function's file, or in the user's
    cache directory; where neither can be written to, every process compiles it.

    Args:
        function: a loop over arrays.
        signatures: compiled at once; without any each is compiled when it is first called.
        options: of `numba.njit`.
    """
    import numba  # half a second, and only who calls this needs it

    compiler: Any = numba.njit
    arguments = [list(signatures)] if signatures else []
    try:
        return compiler(*arguments, nogil=True, cache=True, **options)(function)
    except (OSError, RuntimeError):
        return compiler(*arguments, nogil=True, **options)(function)


def in_threads(run: Callable[[int, int], None], count: int, *, at_least: int) -> None:
    """Does things in consecutive ranges, one in each of as many threads as are worth it.

    The threads are as many as there are cores, or `OMP_NUM_THREADS` where that is fewer.

    Args:
        run: does those from its first argument up to its second; machine code, without the GIL.
        count: how many there are to do.
        at_least: how many are worth a thread.
    """
    worth = count // max(at_least, 1)
    threads = min(_cores(), worth) if worth > 1 else 1
    if threads == 1:
        run(0, count)
        return
    bounds = [count * i // threads for i in range(threads + 1)]
    pool = _threads(os.getpid())
    others = [pool.submit(run, *each) for each in pairwise(bounds[:-1])]
    try:
        run(bounds[-2], bounds[-1])
    finally:
        wait(others)
    for other in others:
        other.result()


@functools.cache
def _threads(_process: int) -> ThreadPoolExecutor:
    """Threads that wait for work: a process that was forked has none of its parent's."""
    return ThreadPoolExecutor(max(1, num_cores() - 1), thread_name_prefix="machine-code")


def _cores() -> int:
    cores = num_cores()
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(limit)) if limit.isdecimal() and int(limit) else cores
