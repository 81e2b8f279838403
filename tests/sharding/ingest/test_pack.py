import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sharding.ingest.pack import pack_plan


@given(
    st.data(),
    st.lists(st.integers(0, 9), min_size=1, max_size=8),
    st.integers(1, 7),
    st.integers(1, 20),
)
def test_passages_that_stay_are_numbered_in_order_and_fill_partitions(
    data: st.DataObject, sizes: list[int], partition_size: int, pack_size: int
) -> None:
    everything = [(split, at) for split, size in enumerate(sizes) for at in range(size)]
    left_out = (
        sorted(data.draw(st.sets(st.sampled_from(range(len(everything)))))) if everything else []
    )
    stays = [p for i, p in enumerate(everything) if i not in left_out]
    plan = list(
        pack_plan(
            sizes, np.array(left_out, np.int64), partition_size=partition_size, pack_size=pack_size
        )
    )
    found = [
        (piece.split, int(at)) for pack in plan for piece in pack.pieces for at in piece.passages
    ]
    assert found == stays
    partitions = [size for pack in plan for size in pack.sizes]
    assert all(size == partition_size for size in partitions[:-1])
    assert sum(partitions) == len(stays) and all(0 < size <= partition_size for size in partitions)
    first_id = first_partition = 0
    for pack in plan:
        assert (pack.first_id, pack.first_partition) == (first_id, first_partition)
        assert sum(pack.sizes) == sum(len(piece.passages) for piece in pack.pieces)
        assert sum(pack.sizes) >= pack_size or pack is plan[-1]
        first_id += sum(pack.sizes)
        first_partition += len(pack.sizes)
