"""Which rows each step of the routing table's benchmark touches: the pattern of a training epoch.

Every lane reads its partitions in a shuffled order. While a partition is read, each of its rows
is touched once in each of `EXAMPLES` passes, in an order of its own. The lanes are out of step
with each other, as they are when partitions have unequal numbers of examples.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LANES = 8
ROWS_A_LANE = 64  # of one step
ROWS_A_STEP = LANES * ROWS_A_LANE
EXAMPLES = 8  # of a passage: PRAG's augmentation makes nine

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Step:
    """The rows of a step, ascending, and where each lane's order of partitions goes on after it."""

    ids: Ids
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Stream:
    """Epochs over a table.

    Attributes:
        num_rows: N, rounded up to equally many partitions for each lane.
        partition_size: Rows of a partition, a multiple of `ROWS_A_LANE`.
        seed: Of all orders.
        shuffled: Whether a step's rows are drawn from all of the table instead, as by a data loader
            that knows no partitions.
    """

    num_rows: int
    partition_size: int
    seed: int
    shuffled: bool = False

    @property
    def partitions_a_lane(self) -> int:
        """At least two, so that there is something to load ahead."""
        return max(2, -(-self.num_rows // (self.partition_size * LANES)))

    @property
    def num_partitions(self) -> int:
        """Of all lanes."""
        return LANES * self.partitions_a_lane

    @property
    def num_whole(self) -> int:
        """The rows that the partitions have."""
        return self.num_partitions * self.partition_size

    def orders(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """Each lane's partitions in reading order; partition p belongs to lane p mod `LANES`."""
        generator = np.random.default_rng((self.seed, epoch))
        count = self.partitions_a_lane
        return [generator.permutation(count) * LANES + lane for lane in range(LANES)]

    def steps(self, epoch: int) -> Iterator[Step]:
        """An epoch: every row at least once, and `EXAMPLES` times but for the lanes' ends."""
        if self.shuffled:
            yield from self._shuffled_steps(epoch)
            return
        orders = self.orders(epoch)
        generator = np.random.default_rng((self.seed, epoch, 1))
        a_pass = self.partition_size // ROWS_A_LANE  # steps of a lane
        a_partition = a_pass * EXAMPLES
        starts = [lane * EXAMPLES // LANES * a_pass for lane in range(LANES)]
        end = self.partitions_a_lane * a_partition
        permutations = [np.empty(0, np.int64)] * LANES
        for number in range(end - max(starts)):
            ids = np.empty((LANES, ROWS_A_LANE), np.int64)
            positions = []
            for lane, start in enumerate(starts):
                position, at = divmod(start + number, a_partition)
                at %= a_pass
                if at == 0:
                    permutations[lane] = generator.permutation(self.partition_size)
                mine = permutations[lane][at * ROWS_A_LANE : (at + 1) * ROWS_A_LANE]
                ids[lane] = mine + orders[lane][position] * self.partition_size
                positions.append((start + number + 1) // a_partition)
            if number == end - max(starts) - 1:
                positions = [self.partitions_a_lane] * LANES
            yield Step(np.sort(ids, axis=None), tuple(positions))

    def _shuffled_steps(self, epoch: int) -> Iterator[Step]:
        generator = np.random.default_rng((self.seed, epoch, 2))
        stays = (0,) * LANES
        for _ in range(self.num_whole * EXAMPLES // ROWS_A_STEP):
            ids = np.unique(generator.integers(0, self.num_whole, 2 * ROWS_A_STEP))
            yield Step(np.sort(generator.permutation(ids)[:ROWS_A_STEP]), stays)
