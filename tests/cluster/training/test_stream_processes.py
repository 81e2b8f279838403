"""Real processes that stream, die at any moment, and go on in another number of them.

Each process stands for a worker: it writes what it is given to a file of its own, and every few
steps makes that durable together with the cursor, as a checkpoint does. A checkpoint counts once
all workers have written it. Then everything is killed, and another number of workers goes on.
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.corpus.partitions import write_partition
from sharding.corpus.passages import Passage, Record

NUM_LANES, MICROBATCH, SEED, EPOCHS, EVERY = 5, 3, 11, 2, 4
# Passages of each partition; passage i has i % 4 examples.
SIZES = [9, 14, 3, 22, 1, 17, 8, 30, 12, 5, 26, 2, 19]

WORKER = f"""
import json, os, sys, time
from sharding.corpus.reader import Corpus
from sharding.stream.plan import Cursor
from sharding.stream.epoch import WorkerStream

corpus_dir, out, rank, world_size, cursor = sys.argv[1:]
num_lanes, microbatch, seed, epochs, every = {(NUM_LANES, MICROBATCH, SEED, EPOCHS, EVERY)}
rank, cursor = int(rank), json.loads(cursor)

class Expander:
    def count(self, record):
        return record.passage.id % 4
    def make(self, wanted):
        return [f"{{record.passage.id}}:{{j}}" for record, j in wanted]

cursor = Cursor.from_json(cursor) if cursor else None
epoch = cursor.epoch if cursor else 0
corpus = Corpus.open(corpus_dir)
lines = open(f"{{out}}/examples-{{rank}}.jsonl", "a")
while epoch < epochs:
    stream = WorkerStream(
        corpus, rank=rank, world_size=int(world_size), num_lanes=num_lanes, seed=seed,
        microbatch=microbatch, expand=Expander(), num_examples=lambda p: p.counts["made"],
        cursor=cursor,
    )
    with stream:
        for batch in stream:
            items = {{lane.lane: lane.items for lane in batch.lanes}}
            lines.write(json.dumps([epoch, batch.step, items]) + "\\n")
            lines.flush()
            cursor = batch.cursor
            if (batch.step + 1) % every == 0 or cursor.epoch > epoch:
                os.fsync(lines.fileno())
                name = f"{{out}}/cursor-{{cursor.epoch:04d}}-{{cursor.step:06d}}-{{rank}}.json"
                with open(name + ".tmp", "w") as file:
                    json.dump(cursor.to_json(), file)
                os.replace(name + ".tmp", name)
            time.sleep(0.004)  # a step of training
    epoch += 1
"""

GlobalBatches = dict[tuple[int, int], dict[int, list[str]]]


@pytest.fixture(scope="module")
def corpus_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("streamed")
    partitions: list[Partition] = []
    first_id = 0
    for index, size in enumerate(SIZES):
        ids = range(first_id, first_id + size)
        records = [Record(Passage(i, f"k{i}", f"Title {i}", f"Text {i}.")) for i in ids]
        counts = {"made": sum(i % 4 for i in ids)}
        partitions.append(
            write_partition(directory, index, records=records, augmented=True, counts=counts)
        )
        first_id += size
    CorpusManifest(["made"], first_id, max(SIZES), tuple(partitions)).save(directory)
    return directory


def start(
    corpus_dir: Path, out: Path, *, world_size: int, cursor: object
) -> list[subprocess.Popen[bytes]]:
    out.mkdir()
    return [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, corpus_dir, out, str(rank), str(world_size),
             json.dumps(cursor)]
        )
        for rank in range(world_size)
    ]  # fmt: skip


def durable_cursor(out: Path, *, world_size: int) -> dict[str, object] | None:
    """The last cursor that every worker has written."""
    written = Counter(path.name.rpartition("-")[0] for path in out.glob("cursor-*.json"))
    whole = sorted(name for name, count in written.items() if count == world_size)
    if not whole:
        return None
    shares = [json.loads((out / f"{whole[-1]}-{r}.json").read_text()) for r in range(world_size)]
    assert all(share == shares[0] for share in shares), "the workers' cursors differ"
    found: dict[str, object] = shares[0]
    return found


def batches_before(out: Path, cursor: tuple[int, int]) -> GlobalBatches:
    """What the workers of one attempt were given before a cursor, merged; cut lines are left."""
    merged: GlobalBatches = {}
    for path in sorted(out.glob("examples-*.jsonl")):
        for line in path.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                continue
            epoch, step, lanes = json.loads(line)
            if (epoch, step) < cursor:
                batch = merged.setdefault((epoch, step), {})
                assert not batch.keys() & {int(lane) for lane in lanes}, "a lane given twice"
                batch |= {int(lane): items for lane, items in lanes.items()}
    return merged


def stream_with_kills(
    corpus_dir: Path, directory: Path, *, world_sizes: list[int], seed: int
) -> GlobalBatches:
    """Runs attempts of these sizes, all but the last killed at a random moment."""
    dice = random.Random(seed)
    taken: GlobalBatches = {}
    cursor: dict[str, object] | None = None
    for attempt, world_size in enumerate(world_sizes):
        out = directory / f"attempt-{attempt}"
        workers = start(corpus_dir, out, world_size=world_size, cursor=cursor)
        try:
            if attempt < len(world_sizes) - 1:
                wait_for_steps(dice.randint(1, 13), out, workers)
                time.sleep(dice.uniform(0.0, 0.01))
                order = dice.sample(workers, len(workers))
                order[0].send_signal(signal.SIGKILL)
                time.sleep(dice.uniform(0.0, 0.03))  # the others go on for a little
            else:
                assert [worker.wait(timeout=240) for worker in workers] == [0] * world_size
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        durable = durable_cursor(out, world_size=world_size)
        if durable is None:
            continue  # killed before its first checkpoint: all of it is done again
        cursor = durable
        fresh = batches_before(out, (int(str(cursor["epoch"])), int(str(cursor["step"]))))
        assert not fresh.keys() & taken.keys(), "a step was streamed again after its checkpoint"
        taken |= fresh
    return taken


def wait_for_steps(num: int, out: Path, workers: list[subprocess.Popen[bytes]]) -> None:
    """Until some worker has written so many steps."""
    deadline = time.monotonic() + 240
    while all(path.read_bytes().count(b"\n") < num for path in out.glob("examples-*.jsonl")):
        assert time.monotonic() < deadline
        assert all(worker.poll() is None for worker in workers), "a worker ended by itself"
        time.sleep(0.002)


@pytest.fixture(scope="module")
def undisturbed(corpus_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> GlobalBatches:
    """The same stream from one process that nobody kills."""
    return stream_with_kills(
        corpus_dir, tmp_path_factory.mktemp("undisturbed"), world_sizes=[1], seed=0
    )


def test_one_process_gives_every_example_once_an_epoch(undisturbed: GlobalBatches) -> None:
    expected = Counter(f"{i}:{j}" for i in range(sum(SIZES)) for j in range(i % 4))
    for epoch in range(EPOCHS):
        given = Counter(
            item
            for (of, _), batch in undisturbed.items()
            if of == epoch
            for items in batch.values()
            for item in items
        )
        assert given == expected
        steps = sorted(step for of, step in undisturbed if of == epoch)
        assert steps == list(range(len(steps)))


@pytest.mark.parametrize(
    ("world_sizes", "seed"), [([3, 1, 5, 2], 1), ([2, 4, 3], 2), ([5, 5, 1, 4], 3)]
)
def test_killed_and_resized_processes_give_the_same_batches(
    corpus_dir: Path,
    tmp_path: Path,
    undisturbed: GlobalBatches,
    world_sizes: list[int],
    seed: int,
) -> None:
    files = {path.name for path in corpus_dir.iterdir()}
    taken = stream_with_kills(corpus_dir, tmp_path, world_sizes=world_sizes, seed=seed)
    assert taken == undisturbed
    assert {path.name for path in corpus_dir.iterdir()} == files, "a reader left files behind"
