"""The metrics file: one line a step, whatever a crash left in it."""

from pathlib import Path

from cluster.metrics import MetricsLog, StepMetrics, read_lines
from sharding.files import list_names, read_bytes


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
    assert '"loss": 2.0' in lines[5]


def test_remote_logs_appear_with_each_sync() -> None:
    log = MetricsLog("memory://metrics-test/logs", resumed_step=0)
    log.write(metrics(1))
    log.sync()
    log.write(metrics(2))
    assert len(read_lines("memory://metrics-test/logs/metrics.jsonl")) == 1
    log.close()
    assert len(read_lines("memory://metrics-test/logs/metrics.jsonl")) == 2


def test_remote_tensorboard_files_hold_every_step(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = f"memory://metrics-test/{tmp_path.name}"
    log = MetricsLog(logs, resumed_step=0)
    log.write(metrics(1, loss=3.0))
    log.sync()
    log.write(metrics(2, loss=2.0))
    log.close()
    (name,) = list_names(f"{logs}/tensorboard")
    (tmp_path / name).write_bytes(read_bytes(f"{logs}/tensorboard/{name}"))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 3.0), (2, 2.0)]
