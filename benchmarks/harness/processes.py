"""Modules of the benchmarks in processes of their own: a case's memory and imports are its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parent.parent


def run_module(
    module: str,
    *arguments: str,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    limit_s: float | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Runs a module of the benchmarks, such as `scaling.dry_run`.

    Not by its file's path: the file's folder would come first on Python's path, and
    `data_plane/webdataset.py` would hide the library.

    Args:
        module: its name, seen from `benchmarks/`.
        arguments: of the command line.
        python: the interpreter.
        environment: what it gets beside this process's variables.
        cwd: its working directory.
        limit_s: seconds that it may take.

    Raises:
        subprocess.TimeoutExpired: it took longer.
    """
    given = os.environ | dict(environment or {})
    path = os.pathsep.join(filter(None, (str(BENCHMARKS), given.get("PYTHONPATH"))))
    return subprocess.run(
        [python, "-m", module, *arguments],
        env=given | {"PYTHONPATH": path},
        cwd=cwd,
        timeout=limit_s,
        capture_output=True,
        text=True,
        check=False,
    )


def in_a_process(module: str, *arguments: str, limit_s: float, **options: Any) -> dict[str, Any]:
    """Runs a case that prints its result as JSON in its last line.

    Args:
        module: the case's.
        arguments: of its command line.
        limit_s: seconds that it may take.
        options: of `run_module`.

    Returns:
        What it printed, or {"error": the last line that the process wrote to stderr}.
    """
    try:
        run = run_module(module, *arguments, limit_s=limit_s, **options)
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {limit_s} s"}
    if run.returncode != 0:
        lines = run.stderr.strip().splitlines() or [f"ended with {run.returncode}"]
        return {"error": lines[-1]}
    result: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    return result
