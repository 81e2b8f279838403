"""A job's command is tried again where that may help, and only there."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

_ENTRY = """
import sys
from cluster.jobs import entry as job_entry
job_entry.FIRST_PAUSE_S = float(sys.argv[3])
sys.exit(job_entry.run([sys.executable, "-c", sys.argv[2]], retries=int(sys.argv[1])))
"""


def entry(retries: int, code: str, *, pause_s: float = 0.01) -> list[str]:
    return [sys.executable, "-c", _ENTRY, str(retries), code, str(pause_s)]


def counting(file: Path, then: str) -> str:
    """A program that adds a line to a file, and does something with their number `n`."""
    return (
        "import os, signal, sys, time\n"
        f"open({str(file)!r}, 'a').write('x\\n'); n = len(open({str(file)!r}).readlines())\n{then}"
    )


@pytest.mark.parametrize(
    ("then", "tries", "code"),
    [
        ("sys.exit(0)", 1, 0),
        ("sys.exit(2)", 1, 2),
        ("sys.exit(130)", 1, 130),
        ("sys.exit(70)", 1, 70),
        ("sys.exit(1)", 4, 1),
        ("sys.exit(1 if n < 3 else 0)", 3, 0),
        ("os.kill(os.getpid(), signal.SIGKILL) if n < 2 else sys.exit(0)", 2, 0),
        ("os.kill(os.getpid(), signal.SIGKILL)", 4, 137),
    ],
)
def test_failures_are_tried_again_and_mistakes_are_not(
    tmp_path: Path, then: str, tries: int, code: int
) -> None:
    file = tmp_path / "tries"
    done = subprocess.run(entry(3, counting(file, then)), timeout=240, check=False)
    assert done.returncode == code
    assert len(file.read_text().splitlines()) == tries


def test_stopped_job_is_told_and_not_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "tries"
    then = (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        entry(3, counting(file, then)), stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None and running.stdout.readline() == "up\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=30) == 7
    assert len(file.read_text().splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_between_two_tries_ends_the_pause(tmp_path: Path, number: int) -> None:
    file = tmp_path / "tries"
    command = entry(3, counting(file, "sys.exit(75)"), pause_s=600.0)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert running.stderr.readline() == "polyprag ended with status 75; try 2 begins in 60 s\n"
        running.send_signal(number)
        assert running.wait(timeout=30) == 128 + number
    assert len(file.read_text().splitlines()) == 1
