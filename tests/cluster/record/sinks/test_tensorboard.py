"""TensorBoard's files, where they can be appended to and where not."""

from collections.abc import Callable
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cluster.record.metrics import StepMetrics
from cluster.record.metrics_log import MetricsLog
from cluster.record.sinks.tensorboard import TensorBoardSink
from sharding.storage.files import list_names, read_bytes

Make = Callable[..., StepMetrics]


def losses(directory: Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(directory)).Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


def test_remote_files_hold_every_step(tmp_path: Path, step_metrics: Make) -> None:
    logs = f"memory://tensorboard-test/{tmp_path.name}"
    sink = TensorBoardSink(logs, resumed_step=0)
    with MetricsLog(logs, resumed_step=0, sinks=[sink]) as log:
        log.write(step_metrics(1, loss=3.0))
        log.sync()
        log.write(step_metrics(2, loss=2.0))
    (name,) = list_names(f"{logs}/tensorboard")
    (tmp_path / name).write_bytes(read_bytes(f"{logs}/tensorboard/{name}"))
    assert losses(tmp_path) == [(1, 3.0), (2, 2.0)]


def test_steps_after_the_checkpoint_are_void_after_a_restart(
    tmp_path: Path, step_metrics: Make
) -> None:
    first = TensorBoardSink(str(tmp_path), resumed_step=0)
    for step in (1, 2, 3):
        first.write(step_metrics(step, loss=step))
    first.close()
    again = TensorBoardSink(str(tmp_path), resumed_step=1)
    again.write(step_metrics(2, loss=7.0))
    again.close()
    assert losses(tmp_path / "tensorboard") == [(1, 1.0), (2, 7.0)]
