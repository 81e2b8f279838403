from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharding.errors import CorpusError
from sharding.stream.plan import (
    Cursor,
    LaneCursor,
    example_order,
    lane_cursor_at,
    lane_sizes,
    lanes_of_worker,
    partition_order,
    partitions_of_lane,
    partitions_of_worker,
    steps_per_epoch,
)

lane_counts = st.integers(1, 12)
seeds = st.integers(0, 2**40)
sizes = st.lists(st.integers(0, 9), max_size=12)


@given(lane_counts, st.data())
def test_workers_share_every_lane_once_and_evenly(num_lanes: int, data: st.DataObject) -> None:
    world_size = data.draw(st.integers(1, num_lanes))
    shares = [
        lanes_of_worker(rank, world_size=world_size, num_lanes=num_lanes)
        for rank in range(world_size)
    ]
    assert sorted(lane for share in shares for lane in share) == list(range(num_lanes))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.integers(0, 40), lane_counts)
def test_every_partition_belongs_to_one_lane(num_partitions: int, num_lanes: int) -> None:
    for lane in range(num_lanes):
        assert partitions_of_lane(lane, num_partitions=num_partitions, num_lanes=num_lanes) == [
            partition for partition in range(num_partitions) if partition % num_lanes == lane
        ]


@given(st.integers(0, 60), lane_counts, st.data())
def test_every_partition_belongs_to_one_worker_whatever_divides(
    num_partitions: int, num_lanes: int, data: st.DataObject
) -> None:
    world_size = data.draw(st.integers(1, num_lanes))
    owners: dict[int, list[int]] = {partition: [] for partition in range(num_partitions)}
    for rank in range(world_size):
        partitions = partitions_of_worker(
            rank, world_size=world_size, num_partitions=num_partitions, num_lanes=num_lanes
        )
        assert partitions == sorted(partitions)
        lanes = lanes_of_worker(rank, world_size=world_size, num_lanes=num_lanes)
        assert {partition % num_lanes for partition in partitions} <= set(lanes)
        for partition in partitions:
            owners[partition].append(rank)
    assert all(len(ranks) == 1 for ranks in owners.values())


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 8), lane_counts, st.data())
def test_equal_partitions_leave_workers_within_a_microbatch_in_every_step(
    num_partitions: int, size: int, missing: int, num_lanes: int, data: st.DataObject
) -> None:
    """To the epoch's last step; the last partition may be smaller."""
    world_size = data.draw(st.integers(1, num_lanes))
    microbatch = data.draw(st.integers(1, 4))
    examples = [size] * (num_partitions - 1) + [max(1, size - missing)]
    steps = steps_per_epoch(examples, num_lanes=num_lanes, microbatch=microbatch)
    left = lane_sizes(examples, num_lanes=num_lanes)
    for _ in range(steps):
        microbatches = [
            sum(
                left[lane] > 0
                for lane in lanes_of_worker(rank, world_size=world_size, num_lanes=num_lanes)
            )
            for rank in range(world_size)
        ]
        assert 1 <= max(microbatches) <= min(microbatches) + 1
        left = [max(0, count - microbatch) for count in left]
    assert not any(left)


@pytest.mark.parametrize("world_size", [0, 4])
def test_workers_without_a_lane_are_refused(world_size: int) -> None:
    with pytest.raises(CorpusError, match=r"3 lanes .* 1 to 3 workers"):
        lanes_of_worker(0, world_size=world_size, num_lanes=3)


def test_a_cursor_in_a_huge_corpus_takes_no_longer_than_its_lane_is_long() -> None:
    """21 M passages, 150 M examples: nothing is read or replayed, however far the step."""
    in_order = [57_344] * 10
    step = 10 * 57_344 // 4 - 1
    assert lane_cursor_at(step, in_order, microbatch=4) == LaneCursor(9, 57_340)
    assert lane_cursor_at(step + 1, in_order, microbatch=4) == LaneCursor(10, 0)


@given(seeds, st.integers(0, 50), st.integers(0, 30))
def test_orders_are_permutations_and_repeatable(seed: int, epoch: int, count: int) -> None:
    partitions = list(range(3, 3 + count))
    order = partition_order(seed, epoch, lane=1, partitions=partitions)
    assert sorted(order) == partitions
    assert order == partition_order(seed, epoch, lane=1, partitions=partitions)
    examples = example_order(seed, epoch, partition=1, num_examples=count)
    assert sorted(examples) == list(range(count))
    again = example_order(seed, epoch, partition=1, num_examples=count)
    np.testing.assert_array_equal(examples, again)


def test_every_seed_epoch_partition_and_use_has_an_order_of_its_own() -> None:
    orders = [
        tuple(example_order(seed, epoch, partition=partition, num_examples=50))
        for seed in range(4)
        for epoch in range(4)
        for partition in range(4)
    ] + [
        tuple(partition_order(seed, epoch, lane=lane, partitions=range(50)))
        for seed in range(4)
        for epoch in range(4)
        for lane in range(4)
    ]
    assert len(set(orders)) == len(orders)


def test_orders_stay_the_same_from_release_to_release() -> None:
    """A checkpoint's cursor means another example when these change."""
    assert partition_order(7, 2, lane=1, partitions=range(6)) == [0, 3, 4, 5, 2, 1]
    order = example_order(7, 2, partition=1, num_examples=6)
    assert order.tolist() == [4, 5, 2, 1, 3, 0]


@given(sizes, st.integers(1, 5), st.integers(1, 4))
def test_steps_are_those_of_the_longest_lane(
    examples: list[int], num_lanes: int, microbatch: int
) -> None:
    expected = max(
        ceil(
            sum(size for index, size in enumerate(examples) if index % num_lanes == lane)
            / microbatch
        )
        for lane in range(num_lanes)
    )
    steps = steps_per_epoch(examples, num_lanes=num_lanes, microbatch=microbatch)
    assert steps == expected


@given(sizes, st.integers(0, 40), st.integers(1, 4))
def test_a_lanes_cursor_is_where_counting_one_by_one_ends(
    in_order: list[int], step: int, microbatch: int
) -> None:
    places = [(position, i) for position, size in enumerate(in_order) for i in range(size)]
    cursor = lane_cursor_at(step, in_order, microbatch=microbatch)
    left = places[step * microbatch :]
    assert (cursor.position, cursor.offset) == (left[0] if left else (len(in_order), 0))


@given(
    st.builds(
        Cursor,
        st.integers(0, 99),
        st.integers(0, 99),
        st.lists(st.builds(LaneCursor, st.integers(0, 9), st.integers(0, 9))).map(tuple),
    )
)
def test_cursors_survive_json(cursor: Cursor) -> None:
    assert Cursor.from_json(cursor.to_json()) == cursor


@pytest.mark.parametrize(
    "fields",
    [
        None,
        {},
        {"epoch": 0, "step": 0},
        {"epoch": 0, "step": -1, "lanes": []},
        {"epoch": 0.5, "step": 0, "lanes": []},
        {"epoch": 0, "step": 0, "lanes": [[1]]},
        {"epoch": 0, "step": 0, "lanes": [[1, 2, 3]]},
        {"epoch": 0, "step": 0, "lanes": [["1", 2]]},
        {"epoch": 0, "step": 0, "lanes": [1]},
    ],
)
def test_what_is_no_cursor_is_refused(fields: Any) -> None:
    with pytest.raises(CorpusError, match="not a cursor"):
        Cursor.from_json(fields)


def test_a_negative_cursor_is_refused() -> None:
    with pytest.raises(CorpusError, match="negative"):
        LaneCursor(0, -1)
