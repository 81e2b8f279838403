"""The `encode` command on a Ray of its own: the road, a kill in the middle, errors of the user."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.record.events import EVENTS_DIRECTORY, read_events
from polyprag.encoding.reader import Encoding

COMMAND = str(Path(sys.executable).with_name("polyprag"))
Run = Callable[..., subprocess.CompletedProcess[str]]
ENVIRONMENT = {**os.environ, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "NO_COLOR": "1"}


def encode(place: Any, *more: str, timeout: float = 900.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "encode", str(place.run), *place.overrides(), *more],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=ENVIRONMENT,
        check=False,
    )


@pytest.fixture
def encode_here(polyprag_here: Run) -> Run:
    """As `encode`, in this process: of what ends before Ray is started."""

    def run(place: Any, *more: str) -> subprocess.CompletedProcess[str]:
        return polyprag_here("encode", str(place.run), *place.overrides(), *more)

    return run


@contextlib.contextmanager
def killed_in_the_end(process: "subprocess.Popen[Any]") -> Iterator["subprocess.Popen[Any]"]:
    """Whatever a test finds: leaving a process's own block waits for its end."""
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_killed_encode_goes_on_where_its_checkpoint_was(workplace: Any, encode_here: Run) -> None:
    settings = ["train.epochs=24", "cluster.workers=2", "checkpoint.every_steps=10"]
    started = subprocess.Popen(
        [COMMAND, "encode", str(workplace.run), *workplace.overrides(), *settings],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with killed_in_the_end(started) as first:
        deadline = time.monotonic() + 600
        while not (workplace.run / "checkpoints" / "manifest.json").exists():
            assert first.poll() is None, "encode ended before its first checkpoint"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        second = encode_here(workplace, *settings)
        assert second.returncode == 2 and f"(process {first.pid}, " in second.stderr
        assert first.poll() is None
        os.killpg(first.pid, signal.SIGKILL)
    killed_at = len(workplace.metrics())
    unfinished = workplace.run / EVENTS_DIRECTORY / ".000000000000001-failed-0000.json.00000000.tmp"
    unfinished.touch()  # as of a worker that is killed while it writes an event

    again = encode(workplace, *settings)
    assert again.returncode == 0, again.stderr
    said = r"starting Ray on this machine, with 2 workers for \d+ steps, going on after step \d+\n"
    assert re.match(said, again.stderr)
    steps = [line["step"] for line in workplace.metrics()]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > killed_at
    assert Encoding.load(workplace.run).manifest.trained.steps == len(steps)
    assert {line["world_size"] for line in workplace.metrics()} == {2}
    *_, began, resumed, finished = read_events(str(workplace.run))
    assert [event.kind for event in (began, resumed, finished)] == [
        "started",
        "training",
        "finished",
    ]
    assert not unfinished.exists()
    assert resumed.step is not None and resumed.step > 0 and resumed.step % 10 == 0
    # The workers have lived a little longer than the driver, and worked on.
    assert resumed.repeated is not None and resumed.step + resumed.repeated >= killed_at

    done = encode_here(workplace, *settings)  # nothing is left to do
    assert done.returncode == 0
    assert len(workplace.metrics()) == len(steps)


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_says_how_to_go_on(workplace: Any) -> None:
    started = subprocess.Popen(
        [COMMAND, "encode", str(workplace.run), *workplace.overrides(), "train.epochs=500"],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts what it sends to the background with the signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with killed_in_the_end(started) as running:
        deadline = time.monotonic() + 600
        while not (workplace.run / "checkpoints" / "manifest.json").exists():
            assert running.poll() is None, "encode ended before its first checkpoint"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=240)
    assert running.returncode == 130
    assert "run the same command again to continue" in stderr
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_two_workers_on_ray_give_the_losses_of_one_process(
    workplace: Any, straight_run: Any
) -> None:
    done = encode(workplace, "cluster.workers=2")
    assert done.returncode == 0, done.stderr
    assert "steps" in done.stderr  # the progress lines
    assert {line["world_size"] for line in workplace.metrics()} == {2}
    alone = straight_run(world_size=1)
    np.testing.assert_allclose(workplace.losses(), alone.losses(), atol=5e-4)


@pytest.mark.slow
def test_the_teacher_is_asked_first_and_only_once(workplace: Any, train_workers: Any) -> None:
    settings = ["train.objective=both", "train.teacher_top_k=4", "cluster.workers=2"]
    done = encode(workplace, *settings)
    assert done.returncode == 0, done.stderr
    assert "teaching" in done.stderr
    teacher = workplace.run / "teacher"
    before = {path.name: path.stat().st_mtime_ns for path in teacher.iterdir()}
    assert len(before) == 1 + 6  # partitions, and the manifest
    plain = workplace.copy("plain")
    for name in ("checkpoints", "encoding", "logs"):
        shutil.rmtree(plain.run / name)
    train_workers(plain, world_size=1, train__objective="both", train__teacher_top_k=4)
    np.testing.assert_allclose(workplace.losses(), plain.losses(), atol=5e-4)
    more = subprocess.run(
        # One worker: how many there are has nothing to do with what the teacher has said.
        [
            *(COMMAND, "train-more", str(workplace.run), *settings, "train.epochs=1"),
            "cluster.workers=1",
        ],
        capture_output=True,
        text=True,
        timeout=900,
        env=ENVIRONMENT,
        check=False,
    )
    assert more.returncode == 0, more.stderr
    assert "teaching" not in more.stderr
    assert {path.name: path.stat().st_mtime_ns for path in teacher.iterdir()} == before


def test_other_settings_than_the_checkpoints_are_refused(
    straight_run: Any, tmp_path: Path, encode_here: Run
) -> None:
    workplace = straight_run(world_size=1).copy_to(tmp_path / "run")
    refused = encode_here(workplace, "experts.rank=3")
    assert refused.returncode == 2
    assert "experts.rank=2" in refused.stderr
    assert "checkpoints" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_missing_or_cut_shard_is_named_before_any_worker_starts(
    workplace: Any, how: str, encode_here: Run
) -> None:
    shard = sorted((workplace.run / "corpus").glob("part-00002-*.tar"))[0]
    if how == "cut":
        shard.write_bytes(shard.read_bytes()[:900])
    else:
        shard.unlink()
    refused = encode_here(workplace)
    assert refused.returncode == 2
    assert shard.name in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (workplace.run / "checkpoints").exists()


def test_a_deepspeed_file_that_sets_our_keys_is_refused(
    workplace: Any, tmp_path: Path, encode_here: Run
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("train_batch_size: 7\n", encoding="utf-8")
    refused = encode_here(workplace, f"deepspeed.config={file}")
    assert refused.returncode == 2
    assert "train_batch_size" in refused.stderr
