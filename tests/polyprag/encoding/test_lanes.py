"""What is said of lanes without a partition: against the plan of who reads what."""

import re

from hypothesis import assume, given
from hypothesis import strategies as st

from polyprag.config import ClusterConfig, Config, DataConfig
from polyprag.encoding.lanes import empty_lanes
from sharding.stream.plan import partitions_of_worker


def config_of(*, lanes: int, microbatch: int = 4, workers: int = 1) -> Config:
    return Config(
        data=DataConfig(lanes=lanes, microbatch=microbatch), cluster=ClusterConfig(workers=workers)
    )


def test_nothing_is_said_where_every_lane_has_a_partition() -> None:
    assert empty_lanes(config_of(lanes=4), num_passages=40, num_partitions=4) is None
    assert empty_lanes(config_of(lanes=4), num_passages=0, num_partitions=0) is None


def test_a_small_corpus_in_one_partition_is_told_what_to_set() -> None:
    said = empty_lanes(
        config_of(lanes=4, microbatch=16, workers=2), num_passages=36, num_partitions=1
    )
    assert said == (
        "3 of 4 lanes have no partition: a step has 16 examples at most, instead of 64, and "
        "workers without any work: 1 of 2; prepare anew (--overwrite) with data.partition_size=9, "
        "or encode with data.lanes=1 data.microbatch=64 cluster.workers=1"
    )


def test_where_each_passage_is_a_partition_none_smaller_is_offered() -> None:
    said = empty_lanes(config_of(lanes=8), num_passages=5, num_partitions=5)
    assert said is not None and "partition_size" not in said
    assert "encode with data.lanes=5 data.microbatch=7" in said  # 7 * 5 is 32 or more


@given(st.integers(1, 300), st.integers(2, 40), st.integers(1, 40), st.integers(1, 39))
def test_what_is_said_is_so(num_passages: int, lanes: int, workers: int, partitions: int) -> None:
    assume(partitions < lanes and workers <= lanes and partitions <= num_passages)
    said = empty_lanes(
        config_of(lanes=lanes, workers=workers),
        num_passages=num_passages,
        num_partitions=partitions,
    )
    assert said is not None
    idle = sum(
        not partitions_of_worker(
            rank, world_size=workers, num_partitions=partitions, num_lanes=lanes
        )
        for rank in range(workers)
    )
    assert (f"without any work: {idle} of {workers};" in said) == (idle > 0)
    offered = re.search(r"data\.partition_size=(\d+)", said)
    if num_passages >= lanes:
        assert offered is not None
    if offered is not None:
        size = int(offered[1])
        made = -(-num_passages // size)
        assert made >= min(lanes, num_passages) and made > partitions
        # With a passage more in each there would be too few.
        assert size == 1 or -(-num_passages // (size + 1)) <= lanes
