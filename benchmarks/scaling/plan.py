"""A corpus of millions of passages that has no text, and who reads what of it.

Nothing here is a model of the product: the manifest, the plan, the lanes' orders and the cursors
are the ones that training uses.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.plan.encode_plan import EncodePlan
from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.stream.plan import example_order, lanes_of_worker, partitions_of_worker

BYTES_A_PASSAGE = 3072  # of a shard, with a rewrite and three questions; nothing depends on it
_LEFT_OUT = 97  # one passage of so many has no question: partitions are unequal, as written ones


@dataclass(frozen=True, slots=True)
class Segment:
    """Steps that one group of workers trains before it is stopped, and another goes on.

    Attributes:
        first: global steps before it.
        last: global steps after it.
        workers: of the group.
    """

    first: int
    last: int
    workers: int


def synthetic_manifest(num_passages: int, *, partition_size: int, qas: int) -> CorpusManifest:
    """The manifest of an augmented corpus: a rewrite and `qas` questions for nearly each passage.

    Args:
        num_passages: of the corpus.
        partition_size: passages of each partition but the last.
        qas: questions of a passage that has some.
    """
    parts = []
    for index, first in enumerate(range(0, num_passages, partition_size)):
        size = min(partition_size, num_passages - first)
        digest = hashlib.sha256(b"shard %d" % index).hexdigest()
        bare = (size + index % _LEFT_OUT) // _LEFT_OUT
        asked = qas * (size - bare)
        counts = {
            "passage_qa": 2 * asked,
            "qa": asked,
            "passage": 2 * size,
            "bare_passage": 2 * bare,
        }
        name = f"part-{index:05d}-{digest[:12]}.tar"
        num_bytes = size * BYTES_A_PASSAGE
        parts.append(Partition(index, first, size, name, num_bytes, digest, True, counts))
    return CorpusManifest(["psgs_w100.tsv"], num_passages, partition_size, tuple(parts))


def segments(plan: EncodePlan, workers: Sequence[int]) -> list[Segment]:
    """The plan's first epoch cut into one stretch for each number of workers, none of them even."""
    cuts = [plan.steps_per_epoch * (7 * i + 3) // (7 * len(workers)) for i in range(len(workers))]
    cuts = [0, *cuts[1:], plan.steps_per_epoch]
    return [
        Segment(first, last, of)
        for first, last, of in zip(cuts[:-1], cuts[1:], workers, strict=True)
    ]


def times_read(plan: EncodePlan, stretches: Sequence[Segment]) -> dict[str, int]:
    """Reads an epoch as all workers of all stretches would, and counts every example.

    Each worker has its lanes from its rank, each lane its order and its cursors before and after
    the stretch; what lies between is read.

    Returns:
        The examples, and how many of them were read never, and how many more than once; the most
        partitions of which two workers of one stretch have both read something.
    """
    offsets = np.concatenate([[0], np.cumsum(plan.examples)])
    read: dict[int, list[tuple[int, int]]] = {}
    shared = 0
    for stretch in stretches:
        before = plan.cursor_at(stretch.first).lanes
        # The cursor behind an epoch's last step is that of the next one's first.
        ends = stretch.last == plan.steps_per_epoch
        after = None if ends else plan.cursor_at(stretch.last).lanes
        owners: dict[int, int] = {}
        for rank in range(stretch.workers):
            for lane in lanes_of_worker(rank, world_size=stretch.workers, num_lanes=plan.num_lanes):
                order = plan.lane_order(lane, epoch=0)
                start = before[lane]
                stop = (len(order), 0) if after is None else _pair(after[lane])
                for position in range(start.position, min(stop[0] + 1, len(order))):
                    index = order[position]
                    begin = start.offset if position == start.position else 0
                    end = stop[1] if position == stop[0] else plan.examples[index]
                    if end > begin:
                        read.setdefault(index, []).append((begin, end))
                        shared += owners.setdefault(index, rank) != rank
    seen = np.zeros(offsets[-1], np.uint8)
    for index, ranges in read.items():
        order = example_order(plan.seed, 0, partition=index, num_examples=plan.examples[index])
        of_partition = seen[offsets[index] : offsets[index + 1]]
        for begin, end in ranges:
            of_partition[order[begin:end]] += 1
    return {
        "examples": int(offsets[-1]),
        "never": int((seen == 0).sum()),
        "more_than_once": int((seen > 1).sum()),
        "partitions_with_two_readers": shared,
    }


def _pair(cursor: Any) -> tuple[int, int]:
    return cursor.position, cursor.offset


def touched(plan: EncodePlan, lane: int, *, epoch: int, first: int, last: int) -> list[int]:
    """The partitions of which a lane reads something in an epoch's steps from `first` to `last`."""
    begin, end = first * plan.microbatch, last * plan.microbatch
    found, start = [], 0
    for index in plan.lane_order(lane, epoch=epoch):
        stop = start + plan.examples[index]
        if start < end and begin < stop:
            found.append(index)
        start = stop
    return found


def time_of_shares(plan: EncodePlan, *, workers: int) -> float:
    """The most seconds that a worker takes to know its partitions, lane orders and cursor."""
    longest = 0.0
    for rank in range(workers):
        started = time.perf_counter()
        partitions_of_worker(
            rank, world_size=workers, num_partitions=len(plan.examples), num_lanes=plan.num_lanes
        )
        plan.cursor_at(plan.steps_per_epoch // 2)
        for lane in lanes_of_worker(rank, world_size=workers, num_lanes=plan.num_lanes):
            plan.lane_order(lane, epoch=0)
        longest = max(longest, time.perf_counter() - started)
    return longest
