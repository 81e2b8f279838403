"""SIGTERM asks for a checkpoint; without an answer, or told twice, it ends as Ctrl-C does."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.checkpoints.request import RequestReader, TrainingRequest

_TRAINS = """
import sys, time
import cluster.ray.termination as termination
termination._ECHO_S = float(sys.argv[3])
with termination.checkpoint_on_sigterm(sys.argv[1], lease=5, grace_s=float(sys.argv[2])) as told:
    print("up", flush=True)
    try:
        while not told.is_set():
            time.sleep(0.05)
        print("told", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def process(run: Path, grace_s: float, echo_s: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", _TRAINS, str(run), str(grace_s), str(echo_s)]
    started = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        # A shell starts what it sends to the background with the signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert started.stdout is not None and started.stdout.readline() == "up\n"
    return started


def test_sigterm_asks_the_workers_to_stop_at_a_checkpoint(tmp_path: Path) -> None:
    with (
        process(tmp_path, grace_s=30, echo_s=30) as running,
        RequestReader(str(tmp_path), lease=5) as reader,
    ):
        running.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 60
        while reader.pending() is not TrainingRequest.STOP:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)  # the same signal by way of a parent
        assert "SIGTERM on " in reader.answer(7)
        time.sleep(0.5)
        assert running.poll() is None  # the workers end, and with them the driver
        running.kill()


@pytest.mark.parametrize(("grace_s", "tells"), [(0.2, 1), (30.0, 2)])
def test_without_an_answer_or_told_again_it_ends_at_once(
    tmp_path: Path, grace_s: float, tells: int
) -> None:
    with process(tmp_path, grace_s=grace_s, echo_s=0.0) as running:
        running.send_signal(signal.SIGTERM)
        assert running.stdout is not None and running.stdout.readline() == "told\n"
        for _ in range(tells - 1):
            running.send_signal(signal.SIGTERM)
        output, _ = running.communicate(timeout=30)
    assert output.endswith("interrupted\n")
