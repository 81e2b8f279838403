"""What workers exchange, in real process groups."""

from collections.abc import Callable

import pytest
from torch import distributed

from polyprag.errors import RunError


def _exchange() -> None:
    from cluster.parallel.collectives import (
        gather_json,
        gather_numbers,
        raise_together,
        run_on_all_or_raise,
    )

    rank = distributed.get_rank()
    assert gather_numbers([rank, 2.5]).tolist() == [[0, 2.5], [1, 2.5], [2, 2.5]]
    values = gather_json({"rank": rank, "text": "é" * rank * 50, "nothing": None})
    assert [value["rank"] for value in values] == [0, 1, 2]
    assert values[2]["text"] == "é" * 100
    assert run_on_all_or_raise(lambda: rank * 10) == rank * 10
    raise_together(None)
    with pytest.raises(RunError, match="disk of worker 1"):
        raise_together(RunError("the disk of worker 1 is full") if rank == 1 else None)


@pytest.mark.slow
def test_numbers_json_and_errors_reach_every_worker(spawn: Callable[..., None]) -> None:
    spawn(_exchange, world_size=3)
