"""Threads that wait sleep, unless the user wants it otherwise; the OpenMP library itself says so."""

import os
import subprocess
import sys

import pytest

_COMMAND_THEN_TORCH = """
from polyprag.cli import main
main(["config", "list"], standalone_mode=False)
import torch
"""


@pytest.mark.parametrize(
    ("chosen", "holds"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE"), ("PASSIVE", "PASSIVE")]
)
def test_waiting_threads_sleep_unless_the_user_has_chosen(chosen: str | None, holds: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "true"} | ({"OMP_WAIT_POLICY": chosen} if chosen else {})
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND_THEN_TORCH],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    said = [line for line in done.stderr.splitlines() if "OMP_WAIT_POLICY" in line]
    if not said:
        pytest.skip("this OpenMP doesn't tell its settings")
    assert all(f"'{holds}'" in line for line in said)
