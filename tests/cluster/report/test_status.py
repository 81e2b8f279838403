"""`status` against a directory whose story is known."""

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.record.events import read_events, record
from cluster.record.metrics import StepMetrics
from cluster.report.status import status_of
from cluster.report.status_text import status_text
from polyprag.cli import main
from polyprag.errors import FileError, RunError
from sharding.storage.lease import take


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    (run / "logs").mkdir(parents=True)
    return run


def write_steps(run: Path, count: int, **changed: float) -> None:
    fields = {"seconds": 2.0, "data_wait": 0.5, "checkpoint_wait": 0.5} | changed
    with (run / "logs" / "metrics.jsonl").open("w") as file:
        for step in range(1, count + 1):
            metrics = {
                "step": step,
                "epoch": step // 100,
                "loss": 1 / step,
                "examples": 50,
                "tokens": 1000,
                "world_size": 2,
                "experts_lr": 0.1,
                "rows_lr": 0.1,
            }
            StepMetrics(**metrics, **fields)  # type: ignore[arg-type]
            file.write(json.dumps(metrics | fields) + "\n")
        file.write('{"step": 9999, "epo')  # being written


def test_rate_and_time_left_are_those_of_the_last_steps(run: Path) -> None:
    write_steps(run, 300)
    with take(run / "lease", purpose="encode"):
        record(str(run), "started", step=0, last_step=1300, world_size=2)
        found = status_of(str(run))
        text = status_text(found, str(run))
    training = found.training
    assert training is not None
    assert (training.step, training.last_step, training.epoch) == (300, 1300, 3)
    assert training.step_seconds == 2.5 and training.seconds_left == 2500
    assert training.examples_per_second == 20 and training.tokens_per_second == 400
    assert (training.data_wait, training.checkpoint_wait) == (0.2, 0.2)
    assert found.is_held
    assert "step 300 of 1,300 (23%)" in text and "41 min 40 s left" in text
    assert "at work       encode by " in text


def test_restarts_are_counted_since_the_last_start(run: Path) -> None:
    write_steps(run, 3)
    for restarts in (3, 2):
        record(str(run), "started", step=0, last_step=100)
        for number in range(1 + restarts):
            record(str(run), "training", step=number, last_step=100, repeated=10 * number)
            time.sleep(0.002)  # names begin with milliseconds
    record(str(run), "failed", rank=1, detail="RuntimeError: the disk\nis on fire")
    with take(run / "lease", purpose="encode"):
        pass
    found = status_of(str(run))
    assert (found.restarts, found.repeated) == (2, 30)
    assert not found.is_held
    text = status_text(found, str(run))
    assert "2, after which 30 steps had to be done again" in text
    assert "failed (worker 1 on " in text and "RuntimeError: the disk is on fire" in text
    assert "last worked   encode by " in text and " left" not in text


def test_stall_is_told(run: Path) -> None:
    import os

    write_steps(run, 3)
    before = time.time() - 3600
    os.utime(run / "logs" / "metrics.jsonl", (before, before))
    record(str(run), "started", step=0, last_step=100)
    with take(run / "lease", purpose="encode"):
        assert "no step for 1 h 0 min" in status_text(status_of(str(run)), str(run))
    assert "no step" not in status_text(status_of(str(run)), str(run))


def test_no_run_and_damaged_event_are_named(run: Path) -> None:
    with pytest.raises(RunError, match="no run is here"):
        status_of(str(run))
    with take(run / "lease", purpose="prepare"):
        pass
    assert status_of(str(run)).corpus is None
    record(str(run), "started")
    (event,) = (run / "logs" / "events").iterdir()
    for data in (b'{"kind": "exploded"}', b'{"kind": "\xff"}', b"[" * 100_000):
        event.write_bytes(data)
        with pytest.raises(FileError, match=rf"{event.name}: not an event"):
            read_events(str(run))


def test_command_prints_json(run: Path) -> None:
    write_steps(run, 300)
    with take(run / "lease", purpose="encode"):
        pass
    record(str(run), "started", last_step=301)
    done = CliRunner().invoke(main, ["status", str(run), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["training"]["seconds_left"] == 2.5
    assert found["events"][0]["kind"] == "started"
    assert found["holder"]["purpose"] == "encode"
