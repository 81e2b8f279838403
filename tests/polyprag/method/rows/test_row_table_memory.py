"""A table many times larger than the memory that its process may have is trained whole."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sharding.rows.file import load_rows

pytestmark = pytest.mark.slow

# 76,800 rows of 320 numbers take 295 MB with their moments; the process may have 80 MB more than
# it has once everything is imported.
PARTITIONS, SIZE, SHAPE, ROOM = 300, 256, (16, 20), 80 << 20

SCRIPT = """
import resource, sys, threading
import numpy as np
from polyprag.method.rows.optimizer import RowAdam
from sharding.corpus.manifest import Partition
from sharding.rows.table import RowTable
from sharding.rows.file import load_rows, save_rows
from sharding.rows.part import init_rows

kind, directory, num, size, sites, experts, room = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
adam = RowAdam(lr=0.1)
one = np.zeros((1, 1, 1), np.float32)
count, first = np.zeros(1, np.int32), np.zeros(1, np.int64)
adam.update(one, one.copy(), one.copy(), count, index=first, grad=one)  # loads its machine code
parts = [
    Partition(i, i * size, size, f"part-{i:05d}-{'a' * 12}.tar", 1, "a" * 64, False, {})
    for i in range(num)
]
init = lambda i: init_rows(parts[i], sites=sites, experts=experts, std=1.0, seed=0)
save_rows(f"{directory}/first", init(0)), load_rows(f"{directory}/first")
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
threading.stack_size(1 << 20)  # the limit counts stacks whole, used or not
resource.setrlimit(resource.RLIMIT_AS, (now + room, now + room))

def save(part, step):
    save_rows(f"{directory}/rows-{part.index}", part)
    return f"{directory}/rows-{part.index}"

def load(index, latest):
    return init(index) if latest is None else load_rows(latest)

def epoch(table, orders, step):
    table.begin(orders)
    for position in range(num // len(orders)):
        for start in range(0, size, 64):
            first = sorted(order[position] * size + start for order in orders.values())
            ids = np.concatenate([np.arange(f, f + 64) for f in first])
            rows = table.gather(ids)
            table.update(ids, np.sign(rows), rate=0.1)
            step += 1
        for lane in orders:
            table.advance(lane, position + 1, step=step)
    return step

if kind == "table":
    with RowTable(parts, shape=(sites, experts), load=load, save=save, optimizer=adam) as table:
        order = np.random.default_rng(0).permutation(num // 2)
        step = epoch(table, {0: (2 * order).tolist(), 1: (2 * order + 1).tolist()}, 0)
        epoch(table, {0: (2 * order[::-1]).tolist(), 1: (2 * order[::-1] + 1).tolist()}, step)
        table.checkpoint(step).result()
else:
    whole = [init(i) for i in range(num)]
    for part in whole:  # moments take memory once they are written to
        part.exp_avg[:], part.exp_avg_sq[:] = 1, 1
"""


def run(kind: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    numbers = [str(number) for number in (PARTITIONS, SIZE, *SHAPE, ROOM)]
    environment = os.environ | {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, kind, str(directory), *numbers],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_table_larger_than_the_process_may_have_is_trained_whole(tmp_path: Path) -> None:
    done = run("table", tmp_path)
    assert done.returncode == 0, done.stderr
    files = [tmp_path / f"rows-{index}" for index in range(PARTITIONS)]
    assert sum(path.stat().st_size for path in files) > 3 * ROOM
    for path in files:
        part = load_rows(path)
        np.testing.assert_array_equal(part.steps, 2)  # every row in both epochs


def test_the_limit_would_stop_a_table_in_memory(tmp_path: Path) -> None:
    stopped = run("memory", tmp_path)
    assert stopped.returncode != 0 and "MemoryError" in stopped.stderr
