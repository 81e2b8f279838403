"""A partition's examples in their shuffled order, made piece by piece when they are wanted."""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sharding.corpus.manifest import Partition
from sharding.corpus.passages import Record
from sharding.corpus.reader import Corpus
from sharding.errors import CorpusError
from sharding.stream.plan import example_order

T = TypeVar("T")


class Expander(Protocol[T]):
    """How records become examples; several threads use it at once."""

    def count(self, record: Record) -> int:
        """Returns how many examples a record has; quick, for it is asked of every record."""

    def make(self, wanted: Sequence[tuple[Record, int]]) -> list[T]:
        """Returns examples, each given as its record and its number among the record's examples.

        The same pair must always give the same example.
        """


class ShuffledPartition(Generic[T]):
    """A partition's records, and where in them each example of the shuffled order is.

    It is parsed as a whole, which takes microseconds a record; tokenisation takes a hundred times
    as long, and is only done for the examples asked for.
    """

    def __init__(
        self,
        corpus: Corpus,
        partition: Partition,
        *,
        expand: Expander[T],
        num_examples: int,
        seed: int,
        epoch: int,
    ) -> None:
        """Reads and checks the shard.

        Args:
            corpus: to read from.
            partition: one of its.
            expand: makes the examples.
            num_examples: how many the partition must have.
            seed: decides the order, with epoch and partition.
            epoch: from 0.

        Raises:
            CorpusError: the shard is damaged, or has another number of examples.
        """
        self._records, self._expand = corpus.records(partition), expand
        counts = np.fromiter(map(expand.count, self._records), np.int64, len(self._records))
        if (found := int(counts.sum())) != num_examples:
            raise CorpusError(
                f"{corpus.url(partition)}: gives {found} examples where the manifest counts "
                f"{num_examples}; run `polyprag augment` again to renew its counts"
            )
        order = example_order(seed, epoch, partition=partition.index, num_examples=num_examples)
        record_of = np.repeat(np.arange(len(counts)), counts)[order]
        number = order - (np.cumsum(counts) - counts)[record_of]
        self._record_of: NDArray[np.int32] = record_of.astype(np.int32)
        self._number: NDArray[np.int32] = number.astype(np.int32)

    def examples(self, start: int, stop: int) -> list[T]:
        """Returns the examples from `start` up to `stop` in the shuffled order."""
        records = self._records
        wanted = [
            (records[at], number)
            for at, number in zip(
                self._record_of[start:stop].tolist(),
                self._number[start:stop].tolist(),
                strict=True,
            )
        ]
        made = self._expand.make(wanted)
        if len(made) != len(wanted):
            raise ValueError(f"{len(made)} examples were made where {len(wanted)} were wanted")
        return made
