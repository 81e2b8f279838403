"""A worker that hangs is ended with an error that says where; one that goes on is left alone."""

import subprocess
import sys
import threading
import time
from pathlib import Path

from cluster.ray.watchdog import Watchdog

_HANGS = """
import logging, sys, threading
from functools import partial
from cluster.ray.watchdog import Watchdog, end_stalled_worker
logging.getLogger().addHandler(logging.FileHandler(sys.argv[1]))
def wait_for_a_peer():
    threading.Event().wait()
with Watchdog(0.5, partial(end_stalled_worker, tell=lambda text: print(text, flush=True))) as dog:
    dog.beat("step 7")
    wait_for_a_peer()
"""


def test_hanging_worker_ends_with_a_named_error(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    command = [sys.executable, "-c", _HANGS, str(log)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 75
    assert "no progress for " in ended.stdout and "(cluster.stall_seconds=0.5)" in ended.stdout
    assert "at: step 7" in ended.stdout and "wait_for_a_peer" in ended.stdout
    assert "wait_for_a_peer" in log.read_text()  # the stacks


def test_worker_is_ended_when_the_storage_hangs_too(tmp_path: Path) -> None:
    code = _HANGS.replace("print(text, flush=True)", "threading.Event().wait()").replace(
        "import logging", "import cluster.ray.watchdog as w; w._TELLING_S = 0.2\nimport logging"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 75


def test_worker_that_goes_on_is_left_alone() -> None:
    stalls: list[str] = []
    with Watchdog(0.4, stalls.append) as dog:
        time.sleep(0.6)  # loading isn't watched
        for step in range(8):
            dog.beat(f"step {step}")
            time.sleep(0.1)
    before = threading.active_count()
    with Watchdog(0.0, stalls.append) as dog:
        dog.beat("step 0")
        assert threading.active_count() == before
    assert not stalls
