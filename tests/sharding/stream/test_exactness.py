"""A stream gives every example once an epoch, in one order, however it is split, stopped, resized.

The reference below is written from the rule in docs/data.md with NumPy alone: it shares no code
with the streams or the plan. Examples are bytes, so that equal means equal byte for byte.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.corpus.partitions import write_partition
from sharding.corpus.passages import Passage, Record
from sharding.corpus.reader import Corpus
from sharding.stream.epoch import StepBatch, WorkerStream
from sharding.stream.plan import Cursor, LaneCursor, lane_cursor_at

GlobalBatch = dict[int, tuple[bytes, ...]]  # lane -> examples; a lane that has ended is left out


@dataclass(frozen=True)
class Case:
    """A corpus, by the number of examples of each passage of each partition, and its stream."""

    counts: list[list[int]]
    num_lanes: int
    microbatch: int
    seed: int
    prefetch: int


cases = st.builds(
    Case,
    counts=st.lists(
        st.lists(st.integers(0, 4), min_size=1, max_size=5), min_size=1, max_size=9
    ).filter(lambda counts: any(map(any, counts))),
    num_lanes=st.integers(1, 5),
    microbatch=st.integers(1, 5),
    seed=st.integers(0, 2**32),
    prefetch=st.integers(1, 3),
)


class BytesExpander:
    """A passage's text says how many examples it has."""

    def count(self, record: Record) -> int:
        return int(record.passage.text)

    def make(self, wanted: Sequence[tuple[Record, int]]) -> list[bytes]:
        return [b"%d:%d:%s" % (r.passage.id, j, r.passage.key.encode()) for r, j in wanted]


def write_corpus(directory: Path, case: Case) -> Corpus:
    partitions: list[Partition] = []
    first_id = 0
    for index, counts in enumerate(case.counts):
        records = [
            Record(Passage(first_id + i, f"kéy {first_id + i}", "title", str(count)))
            for i, count in enumerate(counts)
        ]
        partitions.append(
            write_partition(
                directory, index, records=records, augmented=True, counts={"made": sum(counts)}
            )
        )
        first_id += len(counts)
    manifest = CorpusManifest(
        source=["made"],
        num_passages=first_id,
        partition_size=max(map(len, case.counts)),
        partitions=tuple(partitions),
    )
    manifest.save(directory)
    return Corpus.open(directory)


@pytest.fixture(scope="module", autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if "pytest_timeout" not in thread.name]


# --- the reference ------------------------------------------------------------------------------


def permutation(seed: int, *, use: int, epoch: int, index: int, size: int) -> list[int]:
    """Philox of SeedSequence(seed, spawn_key=(use, epoch, index)); use 0 partitions, 1 examples."""
    sequence = np.random.SeedSequence(seed, spawn_key=(use, epoch, index))
    return np.random.Generator(np.random.Philox(sequence)).permutation(size).tolist()


def every_example(case: Case) -> list[list[bytes]]:
    """All examples of each partition, in the order of passages and of their examples."""
    passage_id, partitions = 0, []
    for counts in case.counts:
        examples = []
        for count in counts:
            examples += [f"{passage_id}:{j}:kéy {passage_id}".encode() for j in range(count)]
            passage_id += 1
        partitions.append(examples)
    return partitions


def epoch_by_brute_force(case: Case, epoch: int) -> list[GlobalBatch]:
    """Every global batch of an epoch, from the rule, with the whole corpus in memory."""
    examples = every_example(case)
    lanes = []
    for lane in range(case.num_lanes):
        mine = [p for p in range(len(examples)) if p % case.num_lanes == lane]
        order = permutation(case.seed, use=0, epoch=epoch, index=lane, size=len(mine))
        flat: list[bytes] = []
        for partition in (mine[i] for i in order):
            size = len(examples[partition])
            shuffled = permutation(case.seed, use=1, epoch=epoch, index=partition, size=size)
            flat += [examples[partition][i] for i in shuffled]
        lanes.append(flat)
    batches: list[GlobalBatch] = []
    while any(lanes):
        batches.append({n: tuple(flat[: case.microbatch]) for n, flat in enumerate(lanes) if flat})
        lanes = [flat[case.microbatch :] for flat in lanes]
    return batches


# --- the streams --------------------------------------------------------------------------------


def open_worker(
    corpus: Corpus, case: Case, *, rank: int, world_size: int, cursor: Cursor | None
) -> WorkerStream[bytes]:
    return WorkerStream(
        corpus,
        rank=rank,
        world_size=world_size,
        num_lanes=case.num_lanes,
        seed=case.seed,
        microbatch=case.microbatch,
        expand=BytesExpander(),
        num_examples=lambda partition: partition.counts["made"],
        cursor=cursor,
        prefetch=case.prefetch,
        threads=2,
    )


def merged(shares: Sequence[StepBatch[bytes]]) -> GlobalBatch:
    """The global batch of what the workers got in one step, each lane from one worker only."""
    lanes = [batch for share in shares for batch in share.lanes]
    assert len({batch.lane for batch in lanes}) == len(lanes)
    return {batch.lane: batch.items for batch in sorted(lanes, key=lambda batch: batch.lane)}


def run_workers(
    corpus: Corpus, case: Case, *, world_size: int, cursor: Cursor | None, most: int | None = None
) -> tuple[list[GlobalBatch], list[Cursor]]:
    """Global batches and the cursors behind them, to the epoch's end or for `most` steps."""
    streams = [
        open_worker(corpus, case, rank=rank, world_size=world_size, cursor=cursor)
        for rank in range(world_size)
    ]
    batches, cursors = [], []
    try:
        while most is None or len(batches) < most:
            shares = [share for stream in streams if (share := next(stream, None)) is not None]
            assert len(shares) in (0, world_size), "workers must have equally many steps"
            if not shares:
                break
            assert len({share.cursor for share in shares}) == 1, "workers differ on the cursor"
            batches.append(merged(shares))
            cursors.append(shares[0].cursor)
    finally:
        for stream in streams:
            stream.close()
    return batches, cursors


WithCorpus = Callable[[Case], Any]


@pytest.fixture(scope="module")
def corpus_of() -> WithCorpus:
    """A corpus on disk for the length of a `with` block."""

    class OnDisk:
        def __init__(self, case: Case) -> None:
            self._directory = TemporaryDirectory()
            self._case = case

        def __enter__(self) -> Corpus:
            return write_corpus(Path(self._directory.name), self._case)

        def __exit__(self, *_: object) -> None:
            self._directory.cleanup()

    return OnDisk


# --- what is promised ---------------------------------------------------------------------------


@settings(max_examples=30)
@given(cases, st.integers(0, 3))
def test_every_number_of_workers_gives_the_batches_of_the_rule(
    corpus_of: WithCorpus, case: Case, epoch: int
) -> None:
    expected = epoch_by_brute_force(case, epoch)
    start = Cursor(epoch, 0, (LaneCursor(0, 0),) * case.num_lanes)
    with corpus_of(case) as corpus:
        for world_size in range(1, case.num_lanes + 1):
            found, _ = run_workers(corpus, case, world_size=world_size, cursor=start)
            assert found == expected
    given_out = Counter(item for batch in expected for items in batch.values() for item in items)
    assert given_out == Counter(item for part in every_example(case) for item in part)
    assert set(given_out.values()) == {1}


@settings(max_examples=30)
@given(cases, st.data())
def test_stopped_and_resized_at_any_step_the_sequence_is_the_same(
    corpus_of: WithCorpus, case: Case, data: st.DataObject
) -> None:
    """Over two epochs, in pieces of any length, each on another number of workers."""
    expected = epoch_by_brute_force(case, 0) + epoch_by_brute_force(case, 1)
    found: list[GlobalBatch] = []
    cursor: Cursor | None = None
    with corpus_of(case) as corpus:
        while len(found) < len(expected):
            world_size = data.draw(st.integers(1, case.num_lanes), label="workers")
            most = data.draw(st.integers(1, 1 + len(expected) // 2), label="steps")
            batches, cursors = run_workers(
                corpus, case, world_size=world_size, cursor=cursor, most=most
            )
            assert batches, "a run that goes on must get on"
            found += batches
            # Only JSON survives between two runs.
            cursor = Cursor.from_json(json.loads(json.dumps(cursors[-1].to_json())))
    assert found == expected
    assert cursor is not None and (cursor.epoch, cursor.step) == (2, 0)


@settings(max_examples=15)
@given(cases, st.data())
def test_a_restored_stream_continues_byte_for_byte_from_every_step(
    corpus_of: WithCorpus, case: Case, data: st.DataObject
) -> None:
    world_size = data.draw(st.integers(1, case.num_lanes))
    with corpus_of(case) as corpus:
        whole, cursors = run_workers(corpus, case, world_size=world_size, cursor=None)
        for step, cursor in enumerate(cursors[:-1], start=1):
            other = data.draw(st.integers(1, case.num_lanes))
            rest, further = run_workers(corpus, case, world_size=other, cursor=cursor)
            assert rest == whole[step:]
            assert further == cursors[step:]


@settings(max_examples=30)
@given(cases)
def test_cursors_are_those_that_arithmetic_gives(corpus_of: WithCorpus, case: Case) -> None:
    """So that a checkpoint needs nothing of the stream, and restoring one reads nothing to seek."""
    sizes = [sum(counts) for counts in case.counts]
    with corpus_of(case) as corpus:
        batches, cursors = run_workers(corpus, case, world_size=1, cursor=None)
    for step, cursor in enumerate(cursors, start=1):
        epoch, within = (0, step) if step < len(batches) else (1, 0)
        lanes = []
        for lane in range(case.num_lanes):
            mine = [p for p in range(len(sizes)) if p % case.num_lanes == lane]
            order = permutation(case.seed, use=0, epoch=epoch, index=lane, size=len(mine))
            in_order = [sizes[mine[i]] for i in order]
            lanes.append(lane_cursor_at(within, in_order, microbatch=case.microbatch))
        assert cursor == Cursor(epoch, within, tuple(lanes))


@settings(max_examples=20)
@given(cases, st.data())
def test_a_lane_alone_gives_its_part_of_the_global_batches(
    corpus_of: WithCorpus, case: Case, data: st.DataObject
) -> None:
    lane = data.draw(st.integers(0, case.num_lanes - 1))
    epoch = data.draw(st.integers(0, 3))
    expected = [batch[lane] for batch in epoch_by_brute_force(case, epoch) if lane in batch]

    def stream(cursor: Cursor) -> WorkerStream[bytes]:
        return WorkerStream(
            corpus,
            rank=lane,
            world_size=case.num_lanes,
            num_lanes=case.num_lanes,
            seed=case.seed,
            microbatch=case.microbatch,
            expand=BytesExpander(),
            num_examples=lambda partition: partition.counts["made"],
            cursor=cursor,
            prefetch=case.prefetch,
        )

    with corpus_of(case) as corpus:
        with stream(Cursor(epoch, 0, (LaneCursor(0, 0),) * case.num_lanes)) as whole:
            steps = list(whole)
        assert [batch.items for step in steps for batch in step.lanes] == expected
        if steps:
            stop = data.draw(st.integers(0, len(steps) - 1))
            if steps[stop].cursor.epoch == epoch:
                with stream(steps[stop].cursor) as rest:
                    found = [batch.items for step in rest for batch in step.lanes]
                assert found == expected[stop + 1 :]


def test_restoring_reads_one_shard_a_lane_and_makes_nothing_again(tmp_path: Path) -> None:
    """In the middle of the eighth of ten partitions, with 100 examples each."""
    case = Case([[4] * 25] * 10, num_lanes=1, microbatch=5, seed=3, prefetch=1)
    corpus = write_corpus(tmp_path, case)
    read, made = [], []

    class Recording(Corpus):
        def records(self, partition: Partition) -> list[Record]:
            read.append(partition.index)
            return super().records(partition)

    class Counting(BytesExpander):
        def make(self, wanted: Sequence[tuple[Record, int]]) -> list[bytes]:
            examples = super().make(wanted)
            made.extend(examples)
            return examples

    step = 150
    cursor = Cursor(0, step, (lane_cursor_at(step, [100] * 10, microbatch=5),))
    stream = WorkerStream(
        Recording(corpus.directory, corpus.manifest),
        rank=0,
        world_size=1,
        num_lanes=1,
        seed=3,
        microbatch=5,
        expand=Counting(),
        num_examples=lambda partition: partition.counts["made"],
        cursor=cursor,
        prefetch=1,
    )
    with stream:
        first = next(stream)
    assert first.step == step
    assert {0: first.lanes[0].items} == epoch_by_brute_force(case, 0)[step]
    assert len(read) <= 2, "the partition of the cursor, and the next one ahead of time"
    consumed = {item for b in epoch_by_brute_force(case, 0)[:step] for item in b[0]}
    assert not consumed & set(made)
    assert len(made) <= 100, "no more than what is read ahead"
