"""How fast `polyprag prepare` is, from the shell's point of view: a process from start to end."""

import gzip
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from data_plane.corpus import read_tsv, totals, write_tsv
from sharding.corpus.reader import Corpus

PARTITION_SIZE = 8192  # as in configs/wikipedia-21m.yaml
_COMMAND = [sys.executable, "-c", "from polyprag.cli import main; main()", "prepare"]


def measure_prepare(
    scratch: Path, num_passages: int, *, seed: int, cores: int, repeats: int
) -> dict[str, Any]:
    """Prepares a synthetic psgs_w100.tsv with one worker, and plain and gzipped with all cores.

    Returns:
        For each way: the median wall time, the processor time of all its processes, and passages
        a second by both.
    """
    plain, packed = scratch / "psgs_w100.tsv", scratch / "psgs_w100.tsv.gz"
    write_tsv(plain, num_passages, seed=seed)
    expected = totals(read_tsv(plain))
    ways = {"tsv, 1 worker": (plain, 1)}
    if cores > 1:
        with plain.open("rb") as source, gzip.open(packed, "wb", compresslevel=6) as target:
            shutil.copyfileobj(source, target)
        ways[f"tsv, {cores} workers"] = (plain, cores)
        ways[f"tsv.gz, {cores} workers"] = (packed, cores)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, (source, workers) in ways.items():
            times[name].append(_prepare(source, scratch / "run", workers=workers))
            _check(scratch / "run", expected)
    results = {}
    for name, (_, workers) in ways.items():
        wall_s, cpu_s = (statistics.median(column) for column in zip(*times[name], strict=True))
        results[name] = {
            "workers": workers,
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "per_s": num_passages / wall_s,
            "per_s_and_worker": num_passages / wall_s / workers,
            "per_cpu_s": num_passages / cpu_s,
        }
    plain.unlink()
    packed.unlink(missing_ok=True)
    return {"passages": num_passages, "repeats": repeats, "ways": results}


def _prepare(source: Path, run: Path, *, workers: int) -> tuple[float, float]:
    """Wall and processor seconds."""
    shutil.rmtree(run, ignore_errors=True)
    command = [*_COMMAND, str(run), str(source), f"data.partition_size={PARTITION_SIZE}"]
    before, started = _children_s(), time.perf_counter()
    subprocess.run([*command, "--workers", str(workers)], check=True, capture_output=True)
    return time.perf_counter() - started, _children_s() - before


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _check(run: Path, expected: dict[str, int]) -> None:
    """Raises unless the corpus holds what the source does."""
    passages = (record.passage for record in Corpus.open(run / "corpus").iterate())
    found = totals((passage.key, passage.title, passage.text) for passage in passages)
    if found != expected:
        raise ValueError(f"prepare made {found} of {expected}")
