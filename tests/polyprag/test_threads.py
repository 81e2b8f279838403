"""Threads that wait sleep, unless the user wants it otherwise: OpenMP itself says so."""

import os
import re
import subprocess
import sys

import pytest

_COMMAND_THEN_TORCH = """
from polyprag.cli import main
main(["config", "list"], standalone_mode=False)
import torch
"""


@pytest.mark.parametrize(("chosen", "sleeps"), [(None, True), ("PASSIVE", True), ("ACTIVE", False)])
def test_waiting_threads_sleep_unless_the_user_has_chosen(chosen: str | None, sleeps: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "verbose"} | ({"OMP_WAIT_POLICY": chosen} if chosen else {})
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND_THEN_TORCH],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    turns = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)  # before a thread sleeps
    if not turns:
        pytest.skip("this OpenMP isn't GNU's, which tells its settings")
    assert [number == "0" for number in turns] == [sleeps] * len(turns)
