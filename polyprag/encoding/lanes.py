"""Lanes that stay empty because a corpus has fewer partitions: what that costs and what to set."""

from polyprag.config import Config
from sharding.stream.plan import lanes_of_worker


def empty_lanes(config: Config, *, num_passages: int, num_partitions: int) -> str | None:
    """Returns a line about lanes without a partition; None where each has one.

    Args:
        config: of the run.
        num_passages: of its corpus.
        num_partitions: likewise.
    """
    lanes, microbatch, workers = config.data.lanes, config.data.microbatch, config.cluster.workers
    if not 0 < num_partitions < lanes:
        return None
    said = (
        f"{lanes - num_partitions} of {lanes} lanes have no partition: a step has "
        f"{num_partitions * microbatch} examples at most, instead of {lanes * microbatch}"
    )
    idle = _idle_workers(workers, lanes=lanes, num_partitions=num_partitions)
    if idle:
        said += f", and workers without any work: {idle} of {workers}"
    of_lanes = [
        f"data.lanes={num_partitions}",
        f"data.microbatch={-(-lanes * microbatch // num_partitions)}",
    ]
    if workers > num_partitions:
        of_lanes.append(f"cluster.workers={num_partitions}")
    ways = [f"encode with {' '.join(of_lanes)}"]
    size = _partition_size(num_passages, lanes)
    if -(-num_passages // size) > num_partitions:
        ways.insert(0, f"prepare anew (--overwrite) with data.partition_size={size}")
    return f"{said}; {', or '.join(ways)}"


def _idle_workers(workers: int, *, lanes: int, num_partitions: int) -> int:
    """Counts the workers all of whose lanes are empty; the first lanes have the partitions."""
    if workers > lanes:
        return 0  # which is refused
    shares = [lanes_of_worker(rank, world_size=workers, num_lanes=lanes) for rank in range(workers)]
    return sum(min(share) >= num_partitions for share in shares)


def _partition_size(num_passages: int, lanes: int) -> int:
    """Returns the size of partitions with which each lane has one, about as large as any other."""
    even = -(-num_passages // lanes)
    if -(-num_passages // even) >= lanes:
        return even
    return max(1, num_passages // lanes)
