"""What must hold after each scenario of chaos.py, and where it doesn't, why not."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from click.testing import CliRunner
from safetensors.numpy import load_file

from chaos.cluster import marked_processes
from cluster.checkpoints.manifest import CheckpointManifest
from polyprag.cli import main as polyprag
from sharding.storage.files import TEMPORARY_NAME

# Sums in another order grow apart over many steps; two runs of other sizes without faults do, too.
_MOST_FAR = 2.0  # times as far
_EXIT_S = 20.0  # for processes to end after the last command


def problems(
    run: Path, reference: Path, *, exact: bool = True, other: Path | None = None
) -> list[str]:
    """What is wrong with a run that went through faults; nothing where all holds.

    Args:
        run: it, trained to its end.
        reference: the same training without a fault.
        exact: whether all must be the same to the bit; otherwise only how often each row was
            updated is.
        other: the same training with another number of workers; a run whose number changed may be
            only so much farther from the reference.
    """
    return [
        *_history(run, reference),
        *_weights(run, reference, exact=exact, other=other),
        *_files(run),
    ]


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


def _weights(run: Path, reference: Path, *, exact: bool, other: Path | None) -> Iterator[str]:
    """Experts, rows, moments, and how often each row was updated."""
    ours, theirs = _state(run), _state(reference)
    # A row's updates count the steps that trained its passage: each exactly once.
    names = [name for name in theirs if exact or name.endswith(" steps")]
    different = [name for name in names if not np.array_equal(ours[name], theirs[name])]
    if different:
        yield f"{len(different)} tensors differ from the run without faults, first {different[0]}"
    if other is not None:
        far, usual = _distance(ours, theirs), _distance(_state(other), theirs)
        if far > _MOST_FAR * usual:
            yield (
                f"weights are {far:.3g} from the run of two workers without faults, where that of "
                f"one is {usual:.3g}"
            )


def _state(run: Path) -> dict[str, npt.NDArray[Any]]:
    """All that the last checkpoint holds, by partition and name."""
    manifest = CheckpointManifest.load(str(run / "checkpoints"))
    if manifest is None:
        return {}
    files = {"experts": manifest.experts.file}
    files |= {f"rows {index}": entry.file for index, entry in manifest.rows.items()}
    return {
        f"{part} {name}": array
        for part, file in files.items()
        for name, array in load_file(run / "checkpoints" / file).items()
    }


def _distance(ours: dict[str, npt.NDArray[Any]], theirs: dict[str, npt.NDArray[Any]]) -> float:
    """Of experts and rows, without their moments: the norm of the difference, relative."""
    names = [name for name in theirs if name.endswith((".A", ".B", " rows"))]
    gap = sum(float(np.square(ours[name] - theirs[name]).sum()) for name in names)
    return float(np.sqrt(gap / sum(float(np.square(theirs[name]).sum()) for name in names)))


def _files(run: Path) -> Iterator[str]:
    """The run verifies, and nothing temporary is left."""
    left = [file.name for file in run.rglob("*") if TEMPORARY_NAME.fullmatch(file.name)]
    if left:
        yield f"temporary files are left: {', '.join(left[:3])}"
    requests = run / "requests"
    if requests.is_dir() and any(requests.iterdir()):
        yield "a request for a checkpoint is left"
    done = CliRunner().invoke(polyprag, ["verify", str(run)])
    if done.exit_code != 0:
        yield f"polyprag verify: {done.output.strip()} {done.exception or ''}"


def orphans() -> list[str]:
    """Processes that have outlived the cluster that they belonged to."""
    deadline = time.monotonic() + _EXIT_S
    while (living := marked_processes()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return [f"process {process.pid} outlives the cluster: {process.name()}" for process in living]
