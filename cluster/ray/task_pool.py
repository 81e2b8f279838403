"""Run the data plane's tasks on all nodes of a Ray cluster."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from cluster.ray.room import Demand, living_resources
from cluster.ray.session import cluster_resource
from cluster.ray.waiting import await_machines, await_turn
from polyprag.config import ClusterConfig
from polyprag.errors import PolypragError, RunError
from polyprag.streams import notice
from sharding.task_pool import in_order, no_bytes

T = TypeVar("T")
R = TypeVar("R")

_TASK = Demand("task", 1, cpus=1)
_GPU_TASK = Demand("task", 1, cpus=1, gpus=1)


class RayPool:
    """Runs tasks on Ray, one CPU each; inside a `ray_session`.

    See `sharding.task_pool.TaskPool`. Files that tasks name must be visible to every node.
    """

    def __init__(
        self, num_workers: int | None = None, *, config: ClusterConfig | None = None
    ) -> None:
        """Prepares; nothing is asked of the cluster yet.

        Args:
            num_workers: CPUs to use; by default all that the cluster has now.
            config: says how long to wait for machines where there is none.
        """
        room = max(1, cluster_resource("CPU"))
        _tell_of_fewer(num_workers, room, "CPU")  # further tasks wait in Ray's queue
        self.num_workers = num_workers or room
        self._config = config or ClusterConfig()

    def map(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        *,
        num_bytes: Callable[[T], int] = no_bytes,
    ) -> Iterator[R]:
        """See `TaskPool.map`. Ray runs a task again whose node was lost.

        Raises:
            RunError: Ray could not run a task, or has no room for one.
        """
        remote: Any = _run  # its types can't say that it takes any function
        await_machines(_TASK, self._config)
        await_turn([remote.remote(no_bytes, None)], _TASK)

        def end(begun: set[Any]) -> None:
            for reference in begun:
                ray.cancel(reference, force=True)

        begin = partial(remote.remote, function)
        yield from _results(begin, tasks, self.num_workers, num_bytes, end)


class RayGpuPool:
    """Runs tasks on actors with a GPU each, which keep what they have loaded from task to task.

    An actor that is lost with its node is started again elsewhere and its task run again.
    """

    def __init__(
        self, num_workers: int | None = None, *, config: ClusterConfig | None = None
    ) -> None:
        """Prepares; nothing is asked of the cluster yet.

        Args:
            num_workers: GPUs to use; by default all that the cluster has now, each beside a CPU.
            config: says how long to wait for machines where there is none.

        Raises:
            RunError: it has no GPU.
        """
        if not num_gpus():
            raise RunError("the Ray cluster has no GPU: leave the work to its CPUs")
        room = max(1, _GPU_TASK.room_on(living_resources()))
        _tell_of_fewer(num_workers, room, "GPU")
        self.num_workers = min(num_workers or room, room)
        self._config = config or ClusterConfig()

    def map(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        *,
        num_bytes: Callable[[T], int] = no_bytes,
    ) -> Iterator[R]:
        """See `TaskPool.map`.

        Raises:
            RunError: Ray could not run a task, or has no room for one.
        """
        await_machines(_GPU_TASK, self._config)
        actor: Any = _Actor  # its types can't say that it takes any function
        actors = [actor.remote() for _ in range(self.num_workers)]
        coming = {each.run.remote(no_bytes, None): each for each in actors}
        at_work: deque[Any] = deque()

        def begin(task: T) -> Any:
            """Leaves actors alone whose GPU is still in use by others."""
            for reference in (
                ray.wait([*coming], num_returns=len(coming), timeout=0)[0] if coming else ()
            ):
                at_work.append(coming.pop(reference))
            at_work.rotate(-1)
            return at_work[-1].run.remote(function, task)

        def end(begun: set[Any]) -> None:
            for each in actors:
                ray.kill(each)

        try:
            await_turn([*coming], _GPU_TASK)
        except BaseException:
            end(set())
            raise
        yield from _results(begin, tasks, self.num_workers, num_bytes, end)


def _results(
    begin: Callable[[T], Any],
    tasks: Iterable[T],
    num_workers: int,
    num_bytes: Callable[[T], int],
    end: Callable[[set[Any]], None],
) -> Iterator[Any]:
    """Yields the tasks' results in their order.

    In the end, be it an error's, `end` takes back the rest.

    Args:
        begin: hands a task to Ray; returns the reference to its result.
        tasks: see `TaskPool.map`.
        num_workers: that can work at the same time.
        num_bytes: see `TaskPool.map`.
        end: is given the references of the tasks that were begun and not waited for.
    """
    begun: set[Any] = set()

    def submit(task: T) -> Callable[[], Any]:
        reference = begin(task)
        begun.add(reference)
        return partial(_result, reference, begun)

    try:
        yield from in_order(submit, tasks, num_workers=num_workers, num_bytes=num_bytes)
    finally:
        end(begun)


def _tell_of_fewer(wanted: int | None, room: int, unit: str) -> None:
    if wanted is not None and wanted > room:
        notice(
            f"asked for {wanted} workers; the Ray cluster has room for {room}, with a {unit} each, "
            "now: so many work at the same time"
        )


def num_gpus() -> int:
    """Returns the GPUs that the Ray cluster has now."""
    return cluster_resource("GPU")


@ray.remote(num_gpus=1, num_cpus=1, max_restarts=-1, max_task_retries=-1)
class _Actor:
    def run(self, function: Callable[[T], R], task: T) -> R | PolypragError:
        return _run_here(function, task)


@ray.remote(num_cpus=1)
def _run(function: Callable[[T], R], task: T) -> R | PolypragError:
    return _run_here(function, task)


def _run_here(function: Callable[[T], R], task: T) -> R | PolypragError:
    """Returns a result, or a user's error as a value: Ray would add a traceback to its text."""
    try:
        return function(task)
    except PolypragError as error:
        return error


def _result(reference: Any, begun: set[Any]) -> Any:
    try:
        result = ray.get(reference)
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        raise RunError(
            f"Ray could not run a task ({error}); run the same command again: what is done is kept"
        ) from error
    finally:
        begun.discard(reference)
    if isinstance(result, PolypragError):
        raise result
    return result
