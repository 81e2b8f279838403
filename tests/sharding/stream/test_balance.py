"""How even a plan is, against walks through its steps one by one."""

from hypothesis import given
from hypothesis import strategies as st

from sharding.stream.balance import balance, times_rewritten

sizes = st.lists(st.integers(0, 12), min_size=1, max_size=14)


@given(sizes, st.integers(1, 7), st.integers(1, 4), st.data())
def test_slots_and_busiest_workers_are_those_of_a_walk_through_the_steps(
    examples: list[int], num_lanes: int, microbatch: int, data: st.DataObject
) -> None:
    world_size = data.draw(st.integers(1, num_lanes))
    left = [0] * num_lanes
    for partition, size in enumerate(examples):
        left[partition % num_lanes] += size
    steps = busiest = 0
    while any(left):
        of_workers = [0] * world_size
        for lane in range(num_lanes):
            taken = min(microbatch, left[lane])
            left[lane] -= taken
            of_workers[lane % world_size] += taken
        steps += 1
        busiest += max(of_workers)

    found = balance(examples, num_lanes=num_lanes, world_size=world_size, microbatch=microbatch)
    assert (found.steps, found.examples) == (steps, sum(examples))
    assert found.slots == steps * num_lanes * microbatch
    assert found.worker_slots == busiest * world_size
    assert 0 <= found.idle_workers < 1 and 0 <= found.empty_slots < 1
    if world_size == 1:
        assert found.idle_workers == 0


@given(sizes, st.integers(1, 4), st.integers(1, 9))
def test_checkpoints_rewrite_the_partitions_that_a_walk_touches(
    in_order: list[int], microbatch: int, every_steps: int
) -> None:
    walk = [position for position, size in enumerate(in_order) for _ in range(size)]
    between = microbatch * every_steps
    expected = [0] * len(in_order)
    for start in range(0, len(walk), between):
        for position in set(walk[start : start + between]):
            expected[position] += 1
    assert times_rewritten(in_order, microbatch=microbatch, every_steps=every_steps) == expected
