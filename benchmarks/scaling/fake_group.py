"""A process group whose workers are threads of one process: our collectives without a network.

It stands in for `torch.distributed` in the modules that exchange numbers and JSON, so that what
hundreds of workers tell each other is made, gathered and parsed as it is on a cluster. There is no
gradient in it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from torch import Tensor


class FakeGroup:
    """What collectives and the checkpoints' writer use of `torch.distributed`."""

    def __init__(self, workers: int) -> None:
        """Makes a group; `run` starts its workers."""
        self._workers = workers
        self._barrier = threading.Barrier(workers)
        self._given: list[Tensor | None] = [None] * workers
        self._own = threading.local()

    def get_world_size(self) -> int:
        """Its workers."""
        return self._workers

    def get_rank(self) -> int:
        """Of the worker whose thread asks."""
        return int(self._own.rank)

    def get_backend(self) -> str:
        """Tensors stay on the CPU."""
        return "gloo"

    def barrier(self) -> None:
        """Waits for all workers."""
        self._barrier.wait()

    def all_gather(self, everyone: list[Tensor], mine: Tensor) -> None:
        """Copies each worker's tensor to every worker."""
        self._given[self.get_rank()] = mine
        self._barrier.wait()
        for target, source in zip(everyone, self._given, strict=True):
            assert source is not None
            target.copy_(source)
        self._barrier.wait()

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """Runs `work(rank)` as every worker; their results by rank.

        Raises:
            Exception: the first that a worker raised by itself; the others are let go.
        """
        results: list[Any] = [None] * self._workers
        errors: list[BaseException] = []

        def worker(rank: int) -> None:
            self._own.rank = rank
            try:
                results[rank] = work(rank)
            except BaseException as error:
                if not isinstance(error, threading.BrokenBarrierError):
                    errors.append(error)
                self._barrier.abort()

        with _used(self):
            threads = [threading.Thread(target=worker, args=(r,)) for r in range(self._workers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if errors:
            raise errors[0]
        return results


@contextmanager
def _used(group: FakeGroup) -> Iterator[None]:
    import cluster.checkpoints.writer
    import cluster.parallel.collectives

    with (
        patch.object(cluster.checkpoints.writer, "distributed", group),
        patch.object(cluster.parallel.collectives, "distributed", group),
    ):
        yield
