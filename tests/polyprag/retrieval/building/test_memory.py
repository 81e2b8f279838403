"""A whole build holds far less of each passage than it reads and writes."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sharding.ingest.prepare import prepare

pytestmark = pytest.mark.slow

# Of each passage there is 1 KB of text, a vector of 256 numbers and a row of 320: 2.9 KB in the
# index, of which any part that were held whole in memory would take 470 bytes at least.
FEW, MANY, PARTITION = 16_384, 65_536, 512
WARM = 8192  # of as many groups as it takes for all that is done with several
WORDS, LETTERS, VOCABULARY, ROW = 18, 55, 4000, (16, 20)
BYTES_A_PASSAGE = 100

SCRIPT = """
import sys, threading
from pathlib import Path

from polyprag.config import Config, IndexConfig
from polyprag.retrieval.building import dense as build_dense
from polyprag.retrieval.building import segment as build_segment
from polyprag.retrieval.building.index import build_index

# What steps may hold is meant for millions of passages; so that a few thousand reach it already:
build_segment._BM25_PART = build_segment._MAX_SAMPLE = build_dense._MIN_SAMPLE = 4096
config = Config(index=IndexConfig(factory="IVF32,SQfp16"))
# First a small one: libraries are loaded, machine code is there.
warm, run = sys.argv[1:]
build_index(warm, config)

def now():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:", 1)[1].split(None, 1)[0]) << 10

peak = before = now()
ended = threading.Event()

def watch():
    global peak
    while not ended.wait(0.002):
        peak = max(peak, now())

watching = threading.Thread(target=watch)
watching.start()
build_index(run, config)
ended.set()
watching.join()
print(peak - before)
"""


def make_run(run: Path, num_passages: int, add_encoding: Callable[..., np.ndarray]) -> Path:
    """Passages of a few long words, so that there is much to hold and little to count."""
    letters = random.Random(0)
    words = ["".join(letters.choices("abcdefghij", k=LETTERS)) for _ in range(VOCABULARY)]
    chosen = np.random.default_rng(1).integers(VOCABULARY, size=(num_passages, WORDS))
    run.mkdir()
    source = run / "passages.tsv"
    with source.open("w") as file:
        file.write("id\ttext\ttitle\n")
        for i, of_passage in enumerate(chosen.tolist()):
            file.write(f"{i}\t{' '.join(words[word] for word in of_passage)}\tPassage\n")
    prepare([str(source)], run / "corpus", partition_size=PARTITION)
    add_encoding(run, row_shape=ROW)
    return run


def held_by_build(warm: Path, run: Path) -> int:
    """The most anonymous memory that building a run's index took, in bytes."""
    shutil.rmtree(warm / "index", ignore_errors=True)
    # Large arrays are given back at once, so that what is seen is what is held.
    malloc = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(warm), str(run)],
        env=os.environ | malloc | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)


def size_of_index(run: Path) -> int:
    return sum(path.stat().st_size for path in (run / "index").rglob("*") if path.is_file())


def test_more_passages_take_few_bytes_more_each_however_much_their_data_is(
    tmp_path: Path, add_encoding: Callable[..., np.ndarray]
) -> None:
    warm = make_run(tmp_path / "warm", WARM, add_encoding)
    held, sizes = [], []
    for num_passages in (FEW, MANY):
        run = make_run(tmp_path / f"run-{num_passages}", num_passages, add_encoding)
        held.append(held_by_build(warm, run))
        sizes.append(size_of_index(run))
    added = MANY - FEW
    assert sizes[1] - sizes[0] > 2500 * added
    assert held[1] - held[0] < BYTES_A_PASSAGE * added
