"""The scaling benchmark: its formulas hold, its counters count, and a tiny dry run is right."""

import importlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from cluster.plan.steps import EncodePlan, plan_encoding
from polyprag.config.files import load_config


def module(name: str) -> Any:
    return importlib.import_module(f"scaling.{name}")


def tiny(*, passages: int = 3000) -> Any:
    return module("dry_run").Size(
        passages, lanes=6, fewer=(5, 3), checkpoints=2, rounds=2, lease_s=1.0
    )


def dry(part: str, *, passages: int = 3000) -> dict[str, Any]:
    """A part in this process: one of its own would spend ten times as long on imports."""
    made: dict[str, Any] = module("dry_run").PARTS[part](tiny(passages=passages), 64)
    return made


def tiny_plan() -> tuple[Any, EncodePlan]:
    manifest = module("plan").synthetic_manifest(3000, partition_size=64, qas=3)
    config = load_config([], ["data.lanes=6", "cluster.workers=1", "train.epochs=2"])
    return manifest, plan_encoding(manifest, config, corpus_url="corpus")


def test_dry_run_reads_every_example_once_on_changing_workers() -> None:
    made = dry("plan")
    assert made["partitions"] == 47 and made["same"]
    assert made["examples"] > 3000
    assert made["never"] == made["more_than_once"] == made["partitions_with_two_readers"] == 0
    assert [stretch["workers"] for stretch in made["stretches"]] == [6, 5, 3, 6]


def test_counting_finds_what_is_read_twice_and_what_never() -> None:
    plan_module, (_, plan) = module("plan"), tiny_plan()
    end = plan.steps_per_epoch
    segment = plan_module.Segment
    gap = plan_module.times_read(plan, [segment(0, end // 2, 6), segment(end // 2 + 1, end, 5)])
    assert gap["never"] == plan.num_lanes * plan.microbatch and gap["more_than_once"] == 0
    again = plan_module.times_read(plan, [segment(0, end // 2 + 1, 6), segment(end // 2, end, 5)])
    assert again["more_than_once"] == plan.num_lanes * plan.microbatch and again["never"] == 0


def test_dry_checkpoints_name_what_was_trained_last_and_leave_nothing_behind() -> None:
    made = dry("checkpoints", passages=30_000)
    assert made["number"] == 6
    assert made["unnamed"] == made["missing"] == made["wrong"] == 0
    assert made["most_changed"] > 0


def test_one_of_many_gets_the_lease_and_a_stopped_holder_is_refused() -> None:
    told = json.dumps(asdict(tiny()) | {"partition_size": 0})
    in_a_process = importlib.import_module("harness.processes").in_a_process
    made = in_a_process("scaling.dry_run", "leases", told, limit_s=60)  # it forks
    assert "error" not in made, made["error"]
    assert made["winners"] == [1, 1]
    assert made["numbers"] == [1, 2]
    assert made["refused"] == 1


def test_touched_partitions_are_those_between_two_cursors() -> None:
    _, plan = tiny_plan()
    for lane in range(plan.num_lanes):
        order = plan.lane_order(lane, epoch=1)
        first, last = 20, 33
        begin = plan.cursor_at(plan.steps_per_epoch + first).lanes[lane]
        end = plan.cursor_at(plan.steps_per_epoch + last).lanes[lane]
        expected = order[begin.position : end.position + (end.offset > 0)]
        found = module("plan").touched(plan, lane, epoch=1, first=first, last=last)
        assert found == list(expected)


def test_fake_group_gathers_as_a_real_one_does() -> None:
    from cluster.parallel.collectives import gather_json, gather_numbers

    def work(rank: int) -> tuple[Any, Any]:
        return gather_numbers([rank, 2.5]).tolist(), gather_json({"rank": rank, "x": "y" * rank})

    results = module("fake_group").FakeGroup(5).run(work)
    assert all(result == results[0] for result in results)
    assert results[0][0] == [[float(rank), 2.5] for rank in range(5)]
    assert [told["rank"] for told in results[0][1]] == list(range(5))


def test_fake_group_raises_what_a_worker_raises() -> None:
    from cluster.parallel.collectives import gather_numbers

    def work(rank: int) -> None:
        if rank == 2:
            raise OSError("no disk")
        gather_numbers([1])

    with pytest.raises(OSError, match="no disk"):
        module("fake_group").FakeGroup(4).run(work)


def test_rings_send_what_the_formulas_say() -> None:
    sent = module("trace").sent_by_algorithm
    for workers in (1, 2, 4, 7):
        # An all-reduce is a reduce-scatter and an all-gather of what came out of it.
        whole = 4 * 7 * workers
        parts = sent("reduce_scatter_tensor", whole, workers=workers)
        parts += sent("all_gather", whole // workers, workers=workers)
        assert sent("all_reduce", whole, workers=workers) == pytest.approx(parts)
    with pytest.raises(ValueError, match="no formula"):
        sent("broadcast", 4, workers=2)


def test_collectives_are_noted_with_the_bytes_that_are_given(tmp_path: Path) -> None:
    trace = module("trace")
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        calls: list[Any] = []
        real = distributed.all_reduce
        with trace.traced(calls):
            distributed.all_reduce(torch.zeros(3, dtype=torch.float64))
            distributed.all_gather([torch.zeros(5)], tensor=torch.zeros(5))
            distributed.barrier()
            with pytest.raises(RuntimeError, match="asynchronous"):
                distributed.all_reduce(torch.zeros(1), async_op=True)
        assert distributed.all_reduce is real
    finally:
        distributed.destroy_process_group()
    told = [(call.name, call.num_bytes) for call in calls]
    assert told == [("all_reduce", 24), ("all_gather", 20), ("barrier", 0)]
    assert all(call.begin <= call.end for call in calls)


def test_socket_bytes_are_those_of_the_connection() -> None:
    import socket

    trace = module("trace")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as ours,
        server.accept()[0] as theirs,
    ):
        before = trace.socket_bytes()
        ours.sendall(b"x" * 12345)
        got = 0
        while got < 12345:
            got += len(theirs.recv(4096))
        after = trace.socket_bytes()
    assert after[0] - before[0] == after[1] - before[1] == 12345


def record(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "begin": 0.0,
        "end": 1.0,
        "cpu": 0.9,
        "sent": 0,
        "received": 0,
        "calls": (),
        "padded": (100,),
        "batches": 1,
        "tokens": 100,
        "data_wait": 0.0,
        "rows_wait": 0.0,
    }
    return module("workers").StepRecord(**values | changes)


def test_a_step_is_split_into_compute_waiting_and_communication() -> None:
    call = module("trace").Call
    early = record(calls=(call("all_reduce", 1000, 0.2, 0.9),), end=1.0)
    late = record(calls=(call("all_reduce", 1000, 0.6, 0.8),), end=1.1)
    found = module("model").split([[early], [late]])
    assert found.step == pytest.approx(1.1)
    assert found.waiting == pytest.approx((0.4 + 0.0) / 2)
    assert found.communication == pytest.approx((0.3 + 0.2) / 2)
    assert found.compute == pytest.approx((0.3 + 0.9) / 2)
    assert found.cpu == pytest.approx(1.8)
    assert found.tokens_per_second == pytest.approx(100 / 1.1)


def test_fitted_compute_gives_back_the_costs_that_steps_were_made_with() -> None:
    model = module("model")
    steps = []
    for padded in ((100,), (300, 200), (50, 60, 400), (900,), (10, 20, 30, 40)):
        seconds = 0.05 + 0.02 * len(padded) + 1e-3 * sum(padded)
        steps.append(record(padded=padded, batches=len(padded), end=seconds))
    found = model.fit_compute(steps)
    assert (found.step, found.batch, found.token) == pytest.approx((0.05, 0.02, 1e-3))
    assert found.seconds((300, 200), num_batches=3) == pytest.approx(0.05 + 0.06 + 0.5)
    floor = model.Compute(0.0, 0.0, 1e-3, floor=0.3)
    assert floor.seconds((100, 500), num_batches=3) == pytest.approx(0.3 + 0.5 + 0.3)


def test_model_counts_a_reduction_a_batch_at_stage_2_and_none_alone() -> None:
    network = module("model").Network(latency=1e-3, bandwidth=1e6)
    assert network.step_seconds(4000, workers=1, reductions=3) == 0
    once = network.step_seconds(4000, workers=2, reductions=1)
    thrice = network.step_seconds(4000, workers=2, reductions=3)
    assert thrice - once == pytest.approx(2 * (1e-3 + 4000 / 1e6))


def test_formula_of_a_step_is_what_was_once_measured() -> None:
    # ZeRO 2 on two workers, three physical batches: 7,572,228 bytes on the sockets.
    expected = module("report_bytes").expected_bytes(2_162_688, workers=2, reductions=3)
    assert expected == pytest.approx(7_572_228, rel=1e-3)


def test_paper_needs_fewer_hours_with_more_gpus_and_never_scales_above_one() -> None:
    forecast, paper = module("forecast"), module("report_paper")
    config, shape = forecast.wikipedia()
    assert shape.sites == 16 and shape.base_parameters == 1_235_814_400
    compute = forecast.compute_of(shape, 2000)
    rows = forecast.predict(
        config, shape, [20, 90, 300], compute, forecast.Variant("x"), workers=(8, 64), steps=2
    )
    assert rows[0].hours > rows[1].hours
    assert 0 < paper.efficiency(rows[1], rows[0]) < 1
    assert rows[0].step == pytest.approx(rows[0].compute + rows[0].waiting + rows[0].communication)


@pytest.mark.slow
def test_a_packed_batch_launches_hardly_more_than_a_padded_one_and_a_step_needs_one() -> None:
    forecast = module("forecast")
    config, shape = forecast.wikipedia()
    padded, packed = (forecast.operations(config, packs=packs) for packs in (False, True))
    assert 1000 < padded < packed < 1.2 * padded
    compute = forecast.compute_of(shape, packed, learnt=0.2)
    (row,) = forecast.predict(
        config,
        shape,
        [20, 90, 300],
        compute,
        forecast.Variant("x", packs=True),
        workers=(64,),
        steps=2,
    )
    assert row.batches == 1 and compute.token < forecast.compute_of(shape, padded).token


@pytest.mark.slow
def test_workers_send_the_same_bytes_whatever_the_corpus_and_the_rows(tmp_path: Path) -> None:
    runs, workers, report = module("runs"), module("workers"), module("report_bytes")
    runs.save_small_base(tmp_path / "base")
    tasks, cases = [], []
    for passages, granularity, experts in ((300, "model", 16), (900, "module", 32)):
        run = runs.uniform_run(tmp_path / str(passages), tmp_path / "base", passages=passages)
        changed = run.overrides(runs.row_of(granularity=granularity, experts=experts))
        tasks.append(workers.Task(str(run.directory), tuple(changed), steps=2))
        cases.append((run, changed))
    measured = workers.train_group(tasks, workers=2)
    one, other = (
        report.traffic_of(run, changed, ranks)
        for (run, changed), ranks in zip(cases, measured, strict=True)
    )
    assert one.sent == other.sent and one.given == other.given
    assert one.sent[0] == one.sent[1]
    assert one.error < 0.01
    assert (one.width, other.width) == (16, 12 * 32)
