"""`status` against a directory whose story is known."""

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.record.events import read_events, record
from cluster.record.metrics import StepMetrics
from cluster.report.status import status_of
from cluster.report.status_text import status_text
from polyprag.cli import main
from polyprag.errors import RunError
from sharding.storage.files import write_json
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


def aged(*files: Path, seconds: float) -> None:
    """Makes files as old as if they had been written so long ago."""
    before = time.time() - seconds
    for file in files:
        os.utime(file, (before, before))


def held_since(run: Path, purpose: str, seconds: float) -> None:
    """The lease of a command on another machine that began so long ago, and is renewed."""
    write_json(
        run / "lease" / "lease-00000001.json",
        {
            "purpose": purpose,
            "user": "ada",
            "host": "node-7",
            "machine": "another",
            "pid": 1,
            "started": "1",
            "since": time.time() - seconds,
            "nonce": "0",
            "length_s": 60.0,
            "renewals": 9,
            "released": False,
        },
    )


def test_stall_is_told_of_a_command_that_trains(run: Path) -> None:
    write_steps(run, 3)
    record(str(run), "started", step=0, last_step=100)
    (event,) = (run / "logs" / "events").iterdir()
    aged(run / "logs" / "metrics.jsonl", seconds=3600)
    aged(event, seconds=4000)
    held_since(run, "encode", 4000)
    text = status_text(status_of(str(run)), str(run))
    assert "no step for 1 h 0 min" in text and "  now         epoch 0" in text
    held_since(run, "index", 4000)  # which has no steps
    text = status_text(status_of(str(run)), str(run))
    assert "no step" not in text and " left" not in text and "  last        epoch 0" in text


def test_workers_that_start_again_are_not_stalled(run: Path) -> None:
    """However long ago the last step was of those before."""
    write_steps(run, 3)
    record(str(run), "started", step=0, last_step=100)
    (event,) = (run / "logs" / "events").iterdir()
    aged(run / "logs" / "metrics.jsonl", seconds=3600)
    aged(event, seconds=4000)
    held_since(run, "encode", 5)  # the same command once more, which hasn't come to an event
    assert "no step" not in status_text(status_of(str(run)), str(run))
    held_since(run, "encode", 4000)
    assert "no step" in status_text(status_of(str(run)), str(run))
    record(str(run), "failed", rank=1, detail="ended by the cluster")  # Ray starts them again
    assert "no step" not in status_text(status_of(str(run)), str(run))


def test_what_waits_for_the_teacher_is_not_stalled(run: Path) -> None:
    """Which takes hours, and no steps."""
    write_steps(run, 3)
    record(str(run), "started", step=3, last_step=100)
    time.sleep(0.002)  # names begin with milliseconds
    record(str(run), "teaching")
    events = (run / "logs" / "events").iterdir()
    aged(run / "logs" / "metrics.jsonl", *events, seconds=4000)
    held_since(run, "encode", 4000)
    assert "no step" not in status_text(status_of(str(run)), str(run))
    record(str(run), "taught", detail="7 questions")
    events = (run / "logs" / "events").iterdir()
    aged(run / "logs" / "metrics.jsonl", *events, seconds=4000)
    text = status_text(status_of(str(run)), str(run))
    assert "no step" in text and "taught: 7 questions" in text


def test_finished_training_is_not_now(run: Path) -> None:
    write_steps(run, 300)
    record(str(run), "finished", step=300, last_step=300)
    with take(run / "lease", purpose="encode"):
        text = status_text(status_of(str(run)), str(run))
    assert "step 300 of 300 (100%)" in text
    assert "  last        epoch 3, loss 0.003" in text and "now" not in text


def test_no_run_is_told(run: Path) -> None:
    with pytest.raises(RunError, match="no run is here"):
        status_of(str(run))
    with take(run / "lease", purpose="prepare"):
        pass
    assert status_of(str(run)).corpus is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"kind": "exploded"}',
        b'{"kind": "\xff"}',
        b"[" * 100_000,
        b'{"time": 1e300, "kind": "started", "host": "a"}',
        b'{"time": NaN, "kind": "started", "host": "a"}',
        b'{"time": 1.0, "kind": "started", "host": "a", "step": 1' + b"0" * 400 + b"}",
    ],
)
def test_damaged_event_is_named_and_passed_over(
    run: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    write_steps(run, 3)
    with take(run / "lease", purpose="encode"):
        pass
    record(str(run), "started", last_step=300)
    (event,) = (run / "logs" / "events").iterdir()
    event.with_name(f"0{event.name}").write_bytes(data)
    assert [found.kind for found in read_events(str(run))] == ["started"]
    assert f"0{event.name}: not an event" in caplog.text
    assert "of 300" in status_text(status_of(str(run)), str(run))


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
