"""The metrics file: one line a step, whatever a crash left in it."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest

from cluster.record.metrics import StepMetrics, last_metrics, read_lines
from cluster.record.metrics_log import MetricsLog
from polyprag.errors import RunError


def metrics(step: int, loss: float = 1.0) -> StepMetrics:
    return StepMetrics(step, 0, loss, 4, 100, 0.5, 2, 1e-3, 1e-1)


def test_resume_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    log = MetricsLog(str(tmp_path), resumed_step=0)
    for step in range(1, 8):
        log.write(metrics(step))
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')  # a crash in the middle of a line
    again = MetricsLog(str(tmp_path), resumed_step=5)
    again.write(metrics(6, loss=2.0))
    again.close()
    lines = read_lines(str(tmp_path / "metrics.jsonl"))
    assert len(lines) == 6
    assert b'"loss": 2.0' in lines[5]


def test_remote_logs_appear_with_each_sync() -> None:
    log = MetricsLog("memory://metrics-test/logs", resumed_step=0)
    log.write(metrics(1))
    log.sync()
    log.write(metrics(2))
    assert len(read_lines("memory://metrics-test/logs/metrics.jsonl")) == 1
    log.close()
    assert len(read_lines("memory://metrics-test/logs/metrics.jsonl")) == 2


def test_longest_line_is_within_what_the_tail_reads(tmp_path: Path) -> None:
    big, exact = 10**12, 1.2345678901234567e-05
    step = StepMetrics(
        step=10**9,
        epoch=10**6,
        loss=12.345678901234567,
        examples=big,
        tokens=big,
        seconds=12345.1234,
        world_size=10**5,
        experts_lr=exact,
        rows_lr=exact,
        data_wait=12345.1234,
        rows_wait=12345.1234,
        checkpoint_wait=12345.1234,
        rows_loaded_bytes=big,
        rows_saved_bytes=big,
        checkpoint_step=10**9,
        checkpoint_seconds=12345.1234,
        mfu=0.1234,
    )
    with MetricsLog(str(tmp_path), resumed_step=0) as log:
        for _ in range(3):
            log.write(step)
    assert last_metrics(str(tmp_path / "metrics.jsonl"), most=3) == [step] * 3


@pytest.mark.parametrize(
    "change",
    [
        {"step": "x"},
        {"loss": None},
        {"seconds": [1]},
        {"seconds": float("nan")},
        {"checkpoint_wait": 1e300},
        {"examples": 10**40},
        {"epoch": -1},
    ],
)
def test_a_damaged_line_names_the_file(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(asdict(metrics(1)) | change) + "\n")
    with pytest.raises(RunError, match=rf"metrics\.jsonl: not the metrics .*{next(iter(change))}"):
        last_metrics(str(path), most=1)
    for data in (b'{"step": "\xff"}\n', b"{\n", b"{}\n"):
        path.write_bytes(data)
        with pytest.raises(RunError, match=r"metrics\.jsonl: not the metrics"):
            last_metrics(str(path), most=1)


def test_a_loss_that_is_no_number_any_more_is_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(asdict(metrics(1, float("nan")))) + "\n")
    (last,) = last_metrics(str(path), most=1)
    assert math.isnan(last.loss)


def test_lines_of_no_step_are_put_aside_and_training_goes_on(tmp_path: Path) -> None:
    path, aside = tmp_path / "metrics.jsonl", tmp_path / "metrics-damaged.jsonl"
    good = [json.dumps(asdict(metrics(step))).encode() + b"\n" for step in (1, 2, 3)]
    bad = [b'{"step": "\xff"}\n', b"\0\0\0\n", b"[]\n", b'{"step": null}\n']
    path.write_bytes(good[0] + bad[0] + bad[1] + good[1] + bad[2] + bad[3] + good[2])
    with MetricsLog(str(tmp_path), resumed_step=2) as log:
        assert log.num_repeated == 1
    assert path.read_bytes() == good[0] + good[1]
    assert aside.read_bytes() == b"".join(bad)
    path.write_bytes(b"{}\n")
    MetricsLog(str(tmp_path), resumed_step=0).close()
    assert aside.read_bytes() == b"".join(bad) + b"{}\n"


def test_workers_that_were_replaced_leave_the_others_log_alone() -> None:
    def check() -> None:
        if replaced:
            raise RunError("other workers have begun")

    replaced = False
    log = MetricsLog("memory://replaced-test/logs", resumed_step=0, check=check)
    log.write(metrics(1))
    log.sync()
    replaced = True
    log.write(metrics(2))
    log.sync()
    log.close(failed=True)
    assert len(read_lines("memory://replaced-test/logs/metrics.jsonl")) == 1


class Broken:
    """A sink of which nothing works."""

    def write(self, metrics: StepMetrics) -> None:
        raise OSError("the disk is on fire")

    def flush(self) -> None:
        raise OSError("the disk is on fire")

    def close(self, *, failed: bool = False) -> None:
        raise OSError("the disk is on fire")


class Kept(list[object]):
    """A sink that notes what it is told."""

    def write(self, metrics: StepMetrics) -> None:
        self.append(metrics.step)

    def flush(self) -> None:
        self.append("flush")

    def close(self, *, failed: bool = False) -> None:
        self.append(failed)


def test_broken_sink_stops_nothing_and_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept()
    with MetricsLog(str(tmp_path), resumed_step=0, sinks=[Broken(), kept]) as log:
        log.write(metrics(1))
        log.sync()
        log.write(metrics(2))
    assert kept == [1, "flush", 2, "flush", False]
    assert len(read_lines(str(tmp_path / "metrics.jsonl"))) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "Broken: metrics are lost (OSError: the disk is on fire)"
    ]


def test_sinks_hear_of_a_failure(tmp_path: Path) -> None:
    kept = Kept()
    with (
        pytest.raises(ZeroDivisionError),
        MetricsLog(str(tmp_path), resumed_step=0, sinks=[kept]),
    ):
        raise ZeroDivisionError
    assert kept == ["flush", True]
