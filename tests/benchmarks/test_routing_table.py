"""The routing table's benchmark: its stream is what it says, and systems train the same rows."""

import importlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharding.rows.file import load_rows

SITES, EXPERTS = 2, 3


def module(name: str) -> Any:
    return importlib.import_module(f"routing_table.{name}")


def small_stream(**changes: Any) -> Any:
    return module("stream").Stream(
        **({"num_rows": 3000, "partition_size": 128, "seed": 1} | changes)
    )


@pytest.mark.parametrize("epoch", [0, 1])
def test_lanes_touch_the_rows_of_the_partition_that_they_read(epoch: int) -> None:
    stream, orders = small_stream(), small_stream().orders(epoch)
    lanes, a_lane = len(orders), len(orders[0])
    assert sorted(np.concatenate(orders)) == list(range(stream.num_partitions))
    assert stream.num_whole >= 3000
    touched: Counter[int] = Counter()
    positions = (0,) * lanes
    for step in stream.steps(epoch):
        assert len(step.ids) == 512 and (np.diff(step.ids) > 0).all()
        read = {int(orders[lane][at]) for lane, at in enumerate(positions)}
        assert set((step.ids // stream.partition_size).tolist()) == read
        touched.update(step.ids.tolist())
        assert all(now in (at, at + 1) for at, now in zip(positions, step.positions, strict=True))
        positions = step.positions
    assert positions == (a_lane,) * lanes
    assert len(touched) == stream.num_whole
    assert set(touched.values()) <= set(range(1, module("stream").EXAMPLES + 1))


def test_shuffled_steps_come_from_all_of_the_table() -> None:
    stream = small_stream(shuffled=True)
    ids = [step.ids for step in stream.steps(0)]
    assert all(len(of) == 512 and (np.diff(of) > 0).all() for of in ids)
    assert len(set((ids[0] // stream.partition_size).tolist())) > 8
    assert len(np.unique(ids)) > 0.99 * stream.num_whole


def trained(name: str, directory: Path, grad: Any) -> Any:
    """A table after two epochs."""
    directory.mkdir()
    stream = small_stream()
    table = module(name).Table(stream, sites=SITES, experts=EXPERTS, grad=grad, directory=directory)
    table.prepare(10_000, cold=True)
    for epoch in range(2):
        table.begin(stream.orders(epoch))
        for step in stream.steps(epoch):
            table.step(step)
    table.close()
    return table


def test_files_of_partitions_end_as_a_memory_map_does(tmp_path: Path) -> None:
    """They begin with other rows, so what is compared is how far those have moved."""
    grad = np.random.default_rng(0).standard_normal((512, SITES, EXPERTS), dtype=np.float32)
    trained("polyprag", tmp_path / "ours", grad)
    trained("memmap", tmp_path / "mapped", grad)
    table = module("polyprag").Table(
        small_stream(), sites=SITES, experts=EXPERTS, grad=grad, directory=tmp_path
    )
    mapped = np.fromfile(tmp_path / "mapped" / "rows", np.float32).reshape(-1, SITES, EXPERTS)
    files = sorted((tmp_path / "ours").iterdir())
    assert len(files) == small_stream().num_partitions
    for index, path in enumerate(files):
        part = load_rows(path)
        assert part.index == index and (part.steps > 1).all()
        moved = part.rows - table._untrained(index).rows
        ids = slice(part.first_id, part.first_id + len(part.rows))
        np.testing.assert_allclose(moved, mapped[ids], atol=1e-5)


CASE = {
    "num_rows": 3000,
    "partition_size": 128,
    "shuffled": False,
    "sites": SITES,
    "experts": EXPERTS,
    "warm_up": 3,
    "steps": 20,
    "beside": 5,
    "gap_s": 0.001,
    "budget_s": 10.0,
    "cold": False,
    "whole_epoch": False,
    "memory_limit": 1 << 32,
}


def run_case(name: str, directory: Path, **changes: Any) -> dict[str, Any]:
    arguments = json.dumps(CASE | {"directory": str(directory)} | changes)
    run_module = importlib.import_module("harness.processes").run_module
    run = run_module("routing_table.case", name, arguments)
    assert run.returncode == 0, run.stderr
    return dict(json.loads(run.stdout))


@pytest.mark.slow
def test_a_case_tells_times_memory_and_bytes(tmp_path: Path) -> None:
    result = run_case("polyprag", tmp_path)
    assert result["steps"]["number"] == 20 and result["beside"]["number"] == 5
    assert 0 < result["steps"]["median_ms"] <= result["steps"]["p99_ms"]
    assert 0 < result["imported_mb"] <= result["peak_mb"]
    state = small_stream().num_whole * (3 * SITES * EXPERTS + 1) * 4
    assert state <= result["disk_bytes"] < 1.5 * state


@pytest.mark.slow
def test_a_table_beyond_the_limit_is_out_of_memory(tmp_path: Path) -> None:
    assert run_case("torch_sparse", tmp_path, num_rows=10**8)["out_of_memory"]


def test_goals_fail_where_the_step_grows_or_a_rival_fails() -> None:
    report = module("report")

    def of(ms: float, mb: float = 100.0) -> dict[str, Any]:
        return {"steps": {"median_ms": ms}, "beside": {"mean_ms": ms}, "peak_mb": mb}

    def met(grown: float, rival: dict[str, Any]) -> list[bool]:
        results = {
            (20, 10): {report.OURS: of(1.0), "memmap": of(2.0)},
            (20, 99): {report.OURS: of(grown), "memmap": rival},
        }
        return [goal.met for goal in report.goals(results, [])]

    assert met(1.0, of(1.5)) == [True] * 5
    assert met(1.2, of(1.5)) == [False, False, True, True, True]
    assert met(1.0, of(0.9)) == [True, True, True, False, False]
    assert met(1.0, {"out_of_memory": True}) == [True] * 5
    assert met(1.0, {"error": "it broke"}) == [True, True, True, False, False]


def test_repeated_cases_give_the_best_times_and_the_largest_memory() -> None:
    best_of = module("report").best_of
    runs = [
        {"steps": {"median_ms": 2.0, "rows_per_s": 5.0}, "peak_mb": 10.0},
        {"steps": {"median_ms": 1.0, "rows_per_s": 4.0}, "peak_mb": 30.0},
    ]
    best = {"steps": {"median_ms": 1.0, "rows_per_s": 5.0}, "peak_mb": 30.0}
    assert best_of(runs) == best
    assert best_of([*runs, {"error": "it broke"}]) == {"error": "it broke"}
