"""How even a plan is, and what its checkpoints rewrite: pure functions of integers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sharding.stream.plan import lane_sizes, lanes_of_worker


@dataclass(frozen=True, slots=True)
class Balance:
    """What an epoch's steps have room for, and what they hold.

    Attributes:
        steps: of an epoch.
        examples: of an epoch.
        slots: examples that the steps have room for: steps x lanes x microbatch.
        worker_slots: the examples of each step's busiest worker, times the workers, summed over
            the steps. A step lasts as long as that worker needs.
    """

    steps: int
    examples: int
    slots: int
    worker_slots: int

    @property
    def empty_slots(self) -> float:
        """The share of lane slots that stay empty because their lane has no data left."""
        return 1 - self.examples / self.slots if self.slots else 0.0

    @property
    def idle_workers(self) -> float:
        """The share of the workers' time in which they wait for the busiest one."""
        return 1 - self.examples / self.worker_slots if self.worker_slots else 0.0


def balance(
    examples_per_partition: Sequence[int], *, num_lanes: int, world_size: int, microbatch: int
) -> Balance:
    """Returns how evenly a corpus fills the lanes and workers of an epoch.

    Args:
        examples_per_partition: by partition index.
        num_lanes: of the whole stream.
        world_size: workers, at most `num_lanes`.
        microbatch: examples that a lane gives a step.
    """
    sizes = np.array(lane_sizes(examples_per_partition, num_lanes=num_lanes), np.int64)
    owner = np.empty(num_lanes, np.int64)
    for rank in range(world_size):
        owner[lanes_of_worker(rank, world_size=world_size, num_lanes=num_lanes)] = rank
    steps = int((-(-sizes // microbatch)).max())
    # Between these steps every lane gives the same number of examples a step.
    changes = np.unique(np.concatenate([[0, steps], sizes // microbatch, sizes // microbatch + 1]))
    changes = changes[changes <= steps]
    busiest = 0
    for start, end in zip(changes[:-1].tolist(), changes[1:].tolist(), strict=True):
        of_lanes = np.clip(sizes - start * microbatch, 0, microbatch)
        of_workers = np.bincount(owner, weights=of_lanes, minlength=world_size)
        busiest += int(of_workers.max()) * (end - start)
    return Balance(
        steps=steps,
        examples=int(sizes.sum()),
        slots=steps * num_lanes * microbatch,
        worker_slots=busiest * world_size,
    )


def times_rewritten(
    sizes_in_order: Sequence[int], *, microbatch: int, every_steps: int
) -> list[int]:
    """Counts an epoch's checkpoints that find each partition of a lane changed since the last.

    Args:
        sizes_in_order: the examples of the lane's partitions, in `partition_order`.
        microbatch: examples that the lane gives a step.
        every_steps: steps between checkpoints; there is one at the epoch's end too.

    Returns:
        A count for each partition, in the same order; 0 where it has no examples.
    """
    between = microbatch * every_steps
    counts, start = [], 0
    for size in sizes_in_order:
        end = start + size
        counts.append((end - 1) // between - start // between + 1 if size else 0)
        start = end
    return counts
