"""Events keep their order, and stand when a writer was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.record.events import EVENTS_DIRECTORY, Kind, read_events, record, remove_unfinished

_KILLED_AT_ITS_EVENT = """
import os, signal, sys
from cluster.record import events

def strict_json(event):
    os.kill(os.getpid(), signal.SIGKILL)

events.strict_json = strict_json
events.record(sys.argv[1], "checkpoint")
"""


def test_what_a_killed_writer_left_goes_and_the_events_stay(tmp_path: Path) -> None:
    record(str(tmp_path), "started", step=3)
    command = [sys.executable, "-c", _KILLED_AT_ITS_EVENT, str(tmp_path)]
    killed = subprocess.run(command, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path / EVENTS_DIRECTORY)) == 2

    remove_unfinished(str(tmp_path))
    assert len(os.listdir(tmp_path / EVENTS_DIRECTORY)) == 1
    assert [(event.kind, event.step) for event in read_events(str(tmp_path))] == [("started", 3)]


def test_a_run_without_events_has_none_unfinished(tmp_path: Path) -> None:
    remove_unfinished(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_events_of_one_moment_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    kinds: list[Kind] = ["started", "teaching", "failed", "interrupted", "finished", "checkpoint"]
    for kind in kinds:
        record(str(tmp_path), kind)
    assert [event.kind for event in read_events(str(tmp_path))] == kinds
