"""Who does the work of a command that runs in parallel: this process, local ones, or Ray."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from polyprag.config import ClusterConfig
    from sharding.task_pool import TaskPool

workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="How many processes work at the same time. By default as many as there are cores, or "
    "CPUs in the Ray cluster, and only one for a few megabytes.",
)
ray_option = click.option(
    "--ray",
    "use_ray",
    is_flag=True,
    help="Work on all nodes of a Ray cluster, which must see RUN and the sources under the same "
    "names. Implied by cluster.address and by RAY_ADDRESS.",
)


_PASSAGES_WORTH_A_PROCESS = 5_000  # about what `rules` writes about while one starts


def augmenters(num_passages: int) -> int:
    """Counts the processes that have something to do where `rules` writes of so many passages."""
    return max(1, num_passages // _PASSAGES_WORTH_A_PROCESS)


def is_on_ray(config: "ClusterConfig", use_ray: bool) -> bool:
    """Returns whether the work goes to a Ray cluster."""
    return bool(use_ray or config.address or os.environ.get("RAY_ADDRESS"))


@contextmanager
def task_pool(
    config: "ClusterConfig", workers: int | None, *, on_ray: bool, at_most: int | None = None
) -> "Iterator[TaskPool]":
    """The workers, for the length of the block.

    Args:
        config: where the Ray cluster is.
        workers: how many; None for what there is.
        on_ray: see `is_on_ray`.
        at_most: local processes that have something to do, where `workers` doesn't say.
    """
    if on_ray:
        from cluster.ray.session import ray_session
        from cluster.ray.task_pool import RayPool

        with ray_session(config):
            yield RayPool(workers, config=config)
        return
    with local_pool(workers, at_most=at_most) as pool:
        yield pool


@contextmanager
def writing_pool(
    config: "ClusterConfig", workers: int | None, *, backend: str, on_ray: bool, num_passages: int
) -> "Iterator[TaskPool]":
    """Workers that write about passages, for the length of the block.

    Args:
        config: where the Ray cluster is.
        workers: how many; None for what there is.
        backend: `augment.backend`; an endpoint is asked by this process alone.
        on_ray: see `is_on_ray`.
        num_passages: about which something is to be written.
    """
    from sharding.task_pool import InlinePool

    if backend not in ("rules", "hf"):
        yield InlinePool()
        return
    # Local processes would each load the model: one, unless the user says how many.
    at_most = augmenters(num_passages) if backend == "rules" else 1
    with task_pool(config, workers, on_ray=on_ray, at_most=at_most) as pool:
        gpus = gpu_pool(config, workers) if on_ray and backend == "hf" else None
        yield gpus or pool


@contextmanager
def local_pool(workers: int | None, *, at_most: int | None = None) -> "Iterator[TaskPool]":
    """Workers on this machine, for the length of the block; see `task_pool`."""
    from sharding.task_pool import InlinePool, ProcessPool, num_cores

    if workers is None:
        workers = min(num_cores(), at_most or num_cores())
    if workers == 1:
        yield InlinePool()
        return
    with ProcessPool(workers) as pool:
        yield pool


def gpu_pool(config: "ClusterConfig", workers: int | None) -> "TaskPool | None":
    """Actors with a GPU each on the Ray cluster that `task_pool` joined; None where it has none."""
    from cluster.ray.task_pool import RayGpuPool, num_gpus

    return RayGpuPool(workers, config=config) if num_gpus() else None
