"""A lane's microbatches in their fixed order, from any cursor, read ahead in the background."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Self, TypeVar

from sharding.errors import CorpusError
from sharding.files import join
from sharding.manifest import CorpusManifest, Partition
from sharding.partitions import read_partition
from sharding.passages import Record
from sharding.plan import (
    LaneCursor,
    example_order,
    partition_order,
    partitions_of_lane,
    settled_cursor,
)
from sharding.prefetch import Prefetch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LaneBatch(Generic[T]):
    """What a lane adds to one global step.

    Attributes:
        items: At most `microbatch` examples.
        partitions: The partitions that they come from, in reading order.
        cursor: Where the lane goes on after this batch.
    """

    items: tuple[T, ...]
    partitions: tuple[int, ...]
    cursor: LaneCursor


class LaneStream(Iterator[LaneBatch[T]]):
    """Iterates over one lane's microbatches of one epoch; ends when the lane has no data left.

    All examples of a partition are held at once and shuffled; a microbatch may span partitions.
    Close it (or use it as a context manager) to stop the thread that reads ahead.
    """

    def __init__(
        self,
        corpus_dir: str | Path,
        manifest: CorpusManifest,
        lane: int,
        *,
        num_lanes: int,
        seed: int,
        epoch: int,
        microbatch: int,
        expand: Callable[[Record], Sequence[T]],
        num_examples: Callable[[Partition], int],
        cursor: LaneCursor | None = None,
        prefetch: int = 2,
    ) -> None:
        """Starts reading.

        Args:
            corpus_dir: Where the shards lie.
            manifest: Of that directory.
            lane: Which of the `num_lanes`.
            num_lanes: Of the whole stream.
            seed: Decides the order, with epoch and lane.
            epoch: From 0.
            microbatch: Examples in a batch; the lane's last may have fewer.
            expand: A record's examples; must give the same ones every time.
            num_examples: How many examples a partition has, as the plan counted them.
            cursor: Where to go on; the epoch's start by default.
            prefetch: Batches kept ready.

        Raises:
            CorpusError: The cursor doesn't fit this corpus.
        """
        partitions = partitions_of_lane(
            lane, num_partitions=len(manifest.partitions), num_lanes=num_lanes
        )
        order = partition_order(seed, epoch, lane=lane, partitions=partitions)
        sizes = [num_examples(manifest.partitions[index]) for index in order]
        start = cursor or LaneCursor()
        _check_fits(start, sizes, lane)

        def load(position: int) -> list[T]:
            partition, size = manifest.partitions[order[position]], sizes[position]
            examples = _examples_of(corpus_dir, partition, expand=expand, expected=size)
            shuffled = example_order(seed, epoch, partition=partition.index, num_examples=size)
            return [examples[i] for i in shuffled]

        batches = _batches(order, sizes, start=start, load=load, microbatch=microbatch)
        self._prefetch = Prefetch(batches, size=prefetch, name=f"lane-{lane}")

    def __next__(self) -> LaneBatch[T]:
        """The next microbatch.

        Raises:
            CorpusError: A shard is damaged, or holds another number of examples than planned.
        """
        return next(self._prefetch)

    def close(self) -> None:
        """Stops reading ahead and waits for the thread; the stream has ended then."""
        self._prefetch.close()

    def __enter__(self) -> Self:
        """Nothing to do: reading began when it was made."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Closes."""
        self.close()


def _batches(
    order: Sequence[int],
    sizes: Sequence[int],
    *,
    start: LaneCursor,
    load: Callable[[int], list[T]],
    microbatch: int,
) -> Iterator[LaneBatch[T]]:
    """The lane's batches from `start` on; `load` gives the shuffled examples at a position."""
    items: list[T] = []
    touched: list[int] = []
    for position in range(start.position, len(order)):
        examples = load(position)
        taken = start.offset if position == start.position else 0
        while taken < len(examples):
            fresh = examples[taken : taken + microbatch - len(items)]
            taken += len(fresh)
            items += fresh
            touched.append(order[position])
            if len(items) == microbatch:
                after = settled_cursor(position, taken, sizes)
                yield LaneBatch(tuple(items), tuple(touched), after)
                items, touched = [], []
    if items:
        yield LaneBatch(tuple(items), tuple(touched), LaneCursor(len(order), 0))


def _examples_of(
    corpus_dir: str | Path,
    partition: Partition,
    *,
    expand: Callable[[Record], Sequence[T]],
    expected: int,
) -> list[T]:
    records = read_partition(corpus_dir, partition, verify=True)
    examples = [example for record in records for example in expand(record)]
    if len(examples) != expected:
        raise CorpusError(
            f"{join(corpus_dir, partition.file)}: gives {len(examples)} examples where the "
            f"manifest counts {expected}; run `polyprag augment` again to renew its counts"
        )
    return examples


def _check_fits(cursor: LaneCursor, sizes: Sequence[int], lane: int) -> None:
    end = len(sizes)
    if cursor.position < end:
        fits = cursor.offset <= sizes[cursor.position]
    else:
        fits = cursor == LaneCursor(end, 0)
    if not fits:
        raise CorpusError(
            f"lane {lane}: {cursor} lies outside its {end} partitions: the checkpoint belongs to "
            "another corpus or other data.lanes; resume with the corpus and config it was made with"
        )
