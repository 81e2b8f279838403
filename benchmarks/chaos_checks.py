"""What must hold after each scenario of chaos.py, and where it doesn't, why not."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from chaos_cluster import marked_processes
from safetensors.numpy import load_file

from cluster.checkpoint_manifest import CheckpointManifest
from sharding.files import TEMPORARY_NAME

_TOLERANCE = 2e-2  # of a weight, relative to the largest: float32 sums in another order, many steps
_EXIT_S = 20.0  # for processes to end after the last command


def problems(run: Path, reference: Path, *, exact: bool) -> list[str]:
    """What is wrong with a run that went through faults; nothing where all holds.

    Args:
        run: it, trained to its end.
        reference: the same training without a fault.
        exact: whether the weights must be the same to the bit; otherwise to a tolerance.
    """
    return [*_history(run, reference), *_weights(run, reference, exact=exact), *_files(run)]


def _history(run: Path, reference: Path) -> Iterator[str]:
    """Each step once, with the examples that it has without faults."""
    ours, theirs = _metrics(run), _metrics(reference)
    steps = [line["step"] for line in ours]
    if steps != list(range(1, len(theirs) + 1)):
        yield f"{len(steps)} steps are written down, not 1 to {len(theirs)}, each once"
    for key in ("examples", "tokens", "epoch"):
        if [line[key] for line in ours] != [line[key] for line in theirs]:
            yield f"a step had other {key} than without faults"


def _metrics(run: Path) -> list[dict[str, float]]:
    lines = (run / "logs" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _weights(run: Path, reference: Path, *, exact: bool) -> Iterator[str]:
    """Experts, rows, moments, and how often each row was updated."""
    ours, theirs = (CheckpointManifest.load(str(r / "checkpoints")) for r in (run, reference))
    if ours is None or theirs is None:
        yield "there is no checkpoint"
        return
    pairs = [(ours.experts.file, theirs.experts.file)]
    pairs += [(ours.rows[i].file, theirs.rows[i].file) for i in theirs.rows]
    for our_file, their_file in pairs:
        got = load_file(run / "checkpoints" / our_file)
        wanted = load_file(reference / "checkpoints" / their_file)
        for name, array in wanted.items():
            # A row's updates count the steps that trained its passage: each exactly once.
            if exact or name == "steps":
                same = np.array_equal(got[name], array)
            else:
                bound = _TOLERANCE * max(1e-6, float(np.abs(array).max()))
                same = bool(np.abs(got[name] - array).max() <= bound)
            if not same:
                yield f"{our_file}: {name} differs from the run without faults"


def _files(run: Path) -> Iterator[str]:
    """The run verifies, and nothing temporary is left."""
    left = [file.name for file in run.rglob("*") if TEMPORARY_NAME.fullmatch(file.name)]
    if left:
        yield f"temporary files are left: {', '.join(left[:3])}"
    requests = run / "requests"
    if requests.is_dir() and any(requests.iterdir()):
        yield "a request for a checkpoint is left"
    done = subprocess.run(
        [sys.executable, "-m", "polyprag", "verify", str(run)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        yield f"polyprag verify: {done.stdout.strip()} {done.stderr.strip()}"


def orphans() -> list[str]:
    """Processes that have outlived the cluster that they belonged to."""
    deadline = time.monotonic() + _EXIT_S
    while (living := marked_processes()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return [f"process {process.pid} outlives the cluster: {process.name()}" for process in living]
