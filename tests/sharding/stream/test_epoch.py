import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.corpus.passages import Record
from sharding.corpus.reader import Corpus
from sharding.errors import CorpusError
from sharding.stream.epoch import StepBatch, WorkerStream
from sharding.stream.lane import LaneBatch
from sharding.stream.plan import (
    Cursor,
    LaneCursor,
    example_order,
    lane_cursor_at,
    lanes_of_worker,
    partition_order,
    partitions_of_lane,
    steps_per_epoch,
)
from sharding.stream.shuffle import ShuffledPartition

MakeCorpus = Callable[..., CorpusManifest]
Example = tuple[int, int]  # passage id, which of its examples


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("lane")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not threads()


class Expand:
    """0, 1 or 2 examples of each passage; knows which it was asked for."""

    def __init__(self) -> None:
        self.made: list[Example] = []

    def count(self, record: Record) -> int:
        return record.passage.id % 3

    def make(self, wanted: Sequence[tuple[Record, int]]) -> list[Example]:
        made = [(record.passage.id, number) for record, number in wanted]
        self.made += made
        return made


def num_examples(partition: Partition) -> int:
    ids = range(partition.first_id, partition.first_id + partition.num_passages)
    return sum(passage_id % 3 for passage_id in ids)


class OneLane:
    """The batches of a worker that has no other lane."""

    def __init__(self, stream: WorkerStream[Example]) -> None:
        self._stream = stream
        self._batches = (batch for step in stream for batch in step.lanes)

    def __iter__(self) -> Iterator[LaneBatch[Example]]:
        return self._batches

    def __next__(self) -> LaneBatch[Example]:
        (batch,) = next(self._stream).lanes
        return batch

    def __enter__(self) -> "OneLane":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()


def open_lane(corpus_dir: Path, manifest: CorpusManifest, lane: int, **changes: Any) -> OneLane:
    options: dict[str, Any] = {"num_lanes": 3, "seed": 5, "microbatch": 4, "epoch": 1}
    options |= {"expand": Expand(), "num_examples": num_examples, "threads": 1} | changes
    lanes = [LaneCursor(0, 0)] * options["num_lanes"]
    lanes[lane] = options.pop("cursor", lanes[lane])
    options["cursor"] = Cursor(options.pop("epoch"), 0, tuple(lanes))
    corpus = Corpus(corpus_dir, manifest)
    return OneLane(WorkerStream(corpus, rank=lane, world_size=len(lanes), **options))


def batches(
    corpus_dir: Path, manifest: CorpusManifest, lane: int, **changes: Any
) -> list[LaneBatch[Example]]:
    with open_lane(corpus_dir, manifest, lane, **changes) as stream:
        return list(stream)


def open_worker(
    corpus_dir: Path, manifest: CorpusManifest, rank: int, world_size: int, **changes: Any
) -> WorkerStream[Example]:
    changes.pop("epoch", None)  # the cursor has it
    options: dict[str, Any] = {"num_lanes": 3, "seed": 5, "microbatch": 4}
    options |= {"expand": Expand(), "num_examples": num_examples} | changes
    return WorkerStream(Corpus(corpus_dir, manifest), rank=rank, world_size=world_size, **options)


def steps(
    corpus_dir: Path, manifest: CorpusManifest, rank: int, world_size: int, **changes: Any
) -> list[StepBatch[Example]]:
    with open_worker(corpus_dir, manifest, rank, world_size, **changes) as stream:
        return list(stream)


shapes = st.fixed_dictionaries(
    {
        "sizes": st.lists(st.integers(1, 6), min_size=1, max_size=7),
        "num_lanes": st.integers(1, 4),
        "microbatch": st.integers(1, 5),
        "seed": st.integers(0, 99),
        "epoch": st.integers(0, 3),
    }
)


@pytest.fixture(scope="session")
def corpus(
    make_corpus: MakeCorpus, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[dict[str, Any]], tuple[Path, CorpusManifest]]:
    def make(shape: dict[str, Any]) -> tuple[Path, CorpusManifest]:
        corpus_dir = tmp_path_factory.mktemp("corpus")
        return corpus_dir, make_corpus(corpus_dir, sizes=shape.pop("sizes"))

    return make


MadeCorpus = Callable[[dict[str, Any]], tuple[Path, CorpusManifest]]


@settings(max_examples=25)
@given(shapes)
def test_lanes_give_the_planned_batches_and_each_example_once(
    corpus: MadeCorpus, shape: dict[str, Any]
) -> None:
    """Against a loop over the whole corpus in memory."""
    corpus_dir, manifest = corpus(shape)
    num_lanes, microbatch = shape["num_lanes"], shape["microbatch"]
    seed, epoch = shape["seed"], shape["epoch"]
    given_out: list[Example] = []
    for lane in range(num_lanes):
        partitions = partitions_of_lane(
            lane, num_partitions=len(manifest.partitions), num_lanes=num_lanes
        )
        flat: list[tuple[Example, int]] = []
        for index in partition_order(seed, epoch, lane=lane, partitions=partitions):
            part = manifest.partitions[index]
            ids = range(part.first_id, part.first_id + part.num_passages)
            examples = [(passage_id, i) for passage_id in ids for i in range(passage_id % 3)]
            order = example_order(seed, epoch, partition=index, num_examples=len(examples))
            flat += [(examples[i], index) for i in order]
        expected = [flat[i : i + microbatch] for i in range(0, len(flat), microbatch)]

        found = batches(corpus_dir, manifest, lane, **shape)
        assert [list(batch.items) for batch in found] == [
            [e for e, _ in batch] for batch in expected
        ]
        assert [batch.partitions for batch in found] == [
            tuple(dict.fromkeys(index for _, index in batch)) for batch in expected
        ]
        given_out += [item for batch in found for item in batch.items]
    everything = [(i, j) for i in range(manifest.num_passages) for j in range(i % 3)]
    assert sorted(given_out) == everything


@settings(max_examples=25)
@given(shapes, st.data())
def test_a_stream_restored_from_any_cursor_continues_identically(
    corpus: MadeCorpus, shape: dict[str, Any], data: st.DataObject
) -> None:
    corpus_dir, manifest = corpus(shape)
    lane = data.draw(st.integers(0, shape["num_lanes"] - 1))
    partitions = partitions_of_lane(
        lane, num_partitions=len(manifest.partitions), num_lanes=shape["num_lanes"]
    )
    order = partition_order(shape["seed"], shape["epoch"], lane=lane, partitions=partitions)
    sizes = [num_examples(manifest.partitions[index]) for index in order]

    whole = batches(corpus_dir, manifest, lane, **shape)
    for step, batch in enumerate(whole, start=1):
        assert batch.cursor == lane_cursor_at(step, sizes, microbatch=shape["microbatch"])
        assert batches(corpus_dir, manifest, lane, **shape, cursor=batch.cursor) == whole[step:]
    start = lane_cursor_at(0, sizes, microbatch=shape["microbatch"])
    assert batches(corpus_dir, manifest, lane, **shape, cursor=start) == whole


@settings(max_examples=10)
@given(shapes)
def test_steps_have_the_same_batches_whatever_the_number_of_workers(
    corpus: MadeCorpus, shape: dict[str, Any]
) -> None:
    """Against the lanes, each read by itself: batches, numbers of steps, and cursors."""
    corpus_dir, manifest = corpus(shape)
    num_lanes, microbatch, epoch = shape["num_lanes"], shape["microbatch"], shape["epoch"]
    examples = [num_examples(partition) for partition in manifest.partitions]
    num_steps = steps_per_epoch(examples, num_lanes=num_lanes, microbatch=microbatch)
    of_lane = [batches(corpus_dir, manifest, lane, **shape) for lane in range(num_lanes)]

    def cursor_after(epoch: int, step: int) -> Cursor:
        lanes = []
        for lane in range(num_lanes):
            partitions = range(lane, len(examples), num_lanes)
            order = partition_order(shape["seed"], epoch, lane=lane, partitions=partitions)
            sizes = [examples[index] for index in order]
            lanes.append(lane_cursor_at(step, sizes, microbatch=microbatch))
        return Cursor(epoch, step, tuple(lanes))

    for world_size in range(1, num_lanes + 1):
        for rank in range(world_size):
            mine = lanes_of_worker(rank, world_size=world_size, num_lanes=num_lanes)
            found = steps(
                corpus_dir, manifest, rank, world_size, **shape, cursor=cursor_after(epoch, 0)
            )
            assert [step.step for step in found] == list(range(num_steps))
            for number, step in enumerate(found):
                expected = [of_lane[i][number] for i in mine if number < len(of_lane[i])]
                assert list(step.lanes) == expected
                last = number == num_steps - 1
                assert step.cursor == (
                    cursor_after(epoch + 1, 0) if last else cursor_after(epoch, number + 1)
                )


@settings(max_examples=10)
@given(shapes, st.data())
def test_a_worker_that_goes_on_from_any_step_and_with_others_sees_the_rest(
    corpus: MadeCorpus, shape: dict[str, Any], data: st.DataObject
) -> None:
    """Two epochs; stopped somewhere, and continued by another number of workers."""
    corpus_dir, manifest = corpus(shape)
    shape["epoch"] = 0
    num_lanes = shape["num_lanes"]

    def run(cursor: Cursor | None, world_size: int) -> list[dict[int, LaneBatch[Example]]]:
        taken: list[dict[int, LaneBatch[Example]]] = []
        while cursor is None or cursor.epoch < 2:
            workers = [
                steps(corpus_dir, manifest, rank, world_size, **shape, cursor=cursor)
                for rank in range(world_size)
            ]
            for together in zip(*workers, strict=True):
                taken.append({batch.lane: batch for step in together for batch in step.lanes})
                cursors.append(together[0].cursor)
            if not workers[0]:
                break
            cursor = cursors[-1]
        return taken

    cursors: list[Cursor] = []
    whole = run(None, 1)
    after = list(cursors)
    for step in {0, len(whole) // 2, len(whole) - 1} & set(range(len(whole))):
        world_size = data.draw(st.integers(1, num_lanes))
        assert run(after[step], world_size) == whole[step + 1 :]


def test_epochs_and_seeds_have_orders_of_their_own(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    manifest = make_corpus(tmp_path, sizes=[9, 9, 9, 9, 9])
    orders = {
        tuple(batches(tmp_path, manifest, 0, seed=seed, epoch=epoch))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


def test_a_lane_without_partitions_just_ends(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    manifest = make_corpus(tmp_path, sizes=[3])
    assert batches(tmp_path, manifest, 2) == []


def test_another_number_of_examples_than_counted_names_the_shard(
    make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    manifest = make_corpus(tmp_path, sizes=[4, 4])
    name = manifest.partitions[0].file
    with pytest.raises(CorpusError, match=rf"{name}: gives 3 examples .* counts 7.*augment"):
        batches(tmp_path, manifest, 0, num_examples=lambda _: 7)


def test_a_damaged_shard_reaches_the_consumer_after_the_good_ones(
    make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    manifest = make_corpus(tmp_path, sizes=[6, 6, 6])
    order = partition_order(5, 1, lane=0, partitions=range(3))
    shard = tmp_path / manifest.partitions[order[1]].file
    shard.write_bytes(shard.read_bytes()[:-1])
    stream = open_lane(tmp_path, manifest, 0, num_lanes=1, microbatch=6)
    assert next(stream).partitions == (order[0],)
    for _ in range(2):
        with pytest.raises(CorpusError, match=shard.name):
            next(stream)
    stream.close()


def test_an_error_in_expand_reaches_the_consumer(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    class Broken(Expand):
        def make(self, wanted: Sequence[tuple[Record, int]]) -> list[Example]:
            raise error

    manifest = make_corpus(tmp_path, sizes=[4])
    error: Exception = RuntimeError("tokenizer fell over")
    with pytest.raises(RuntimeError, match="fell over"):
        batches(tmp_path, manifest, 0, expand=Broken())
    error = StopIteration()  # which must not pass for the end of the data
    with pytest.raises(RuntimeError, match="in the midst"):
        batches(tmp_path, manifest, 0, expand=Broken())


def test_one_example_too_few_is_an_error(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    class Lazy(Expand):
        def make(self, wanted: Sequence[tuple[Record, int]]) -> list[Example]:
            return super().make(wanted)[1:]

    manifest = make_corpus(tmp_path, sizes=[4])
    with pytest.raises(ValueError, match="2 examples were made where 3"):
        batches(tmp_path, manifest, 0, expand=Lazy())


def test_only_what_is_wanted_soon_is_made(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    """Not the rest of the partition, not what lies before the cursor, and each example once."""
    manifest = make_corpus(tmp_path, sizes=[300])
    whole = [item for batch in batches(tmp_path, manifest, 0) for item in batch.items]
    expand = Expand()
    cursor = LaneCursor(0, 204)
    with open_lane(tmp_path, manifest, 0, expand=expand, cursor=cursor) as stream:
        assert list(next(stream).items) == whole[204:208]
        wait_until_still(expand)
        assert expand.made == whole[204 : 204 + 32]  # one piece, for two batches ahead
        list(stream)
    assert expand.made == whole[204:]


def wait_until_still(expand: Expand) -> None:
    before = -1
    while len(expand.made) != before:
        before = len(expand.made)
        time.sleep(0.02)


def test_no_more_than_two_partitions_of_a_lane_are_in_memory(
    make_corpus: MakeCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: weakref.WeakSet[ShuffledPartition[Any]] = weakref.WeakSet()
    load = ShuffledPartition.__init__

    def noting(self: ShuffledPartition[Any], *args: Any, **kwargs: Any) -> None:
        alive.add(self)
        load(self, *args, **kwargs)

    monkeypatch.setattr(ShuffledPartition, "__init__", noting)
    manifest = make_corpus(tmp_path, sizes=[90] * 6)
    expand = Expand()
    with open_lane(tmp_path, manifest, 0, num_lanes=1, microbatch=10, expand=expand) as stream:
        wait_until_still(expand)
        assert len(alive) == 1  # the second one would only keep the first batch waiting
        numbers = set()
        for _ in stream:
            wait_until_still(expand)
            numbers.add(len(alive))
    assert max(numbers) == 2


def test_a_cursor_late_in_an_epoch_is_restored_by_reading_one_shard(
    make_corpus: MakeCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    records = Corpus.records

    def noting(self: Corpus, partition: Partition) -> list[Record]:
        read.append(partition.index)
        return records(self, partition)

    monkeypatch.setattr(Corpus, "records", noting)
    manifest = make_corpus(tmp_path, sizes=[90] * 6)
    order = partition_order(5, 1, lane=0, partitions=range(6))
    expand = Expand()
    cursor = LaneCursor(4, 50)
    with open_lane(tmp_path, manifest, 0, num_lanes=1, expand=expand, cursor=cursor):
        wait_until_still(expand)
        assert read == [order[4]]


def test_a_broken_step_is_not_followed_by_another(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    """A lane's error, with good lanes before and after it, is raised by its step and ever after."""
    manifest = make_corpus(tmp_path, sizes=[6] * 6)
    order = partition_order(5, 0, lane=1, partitions=[1, 4])
    shard = tmp_path / manifest.partitions[order[1]].file
    shard.write_bytes(shard.read_bytes().replace(b"Text", b"Test"))
    stream = open_worker(tmp_path, manifest, 0, 1, num_lanes=3, seed=5, microbatch=6)
    assert len(next(stream).lanes) == 3
    for _ in range(3):
        with pytest.raises(CorpusError, match=rf"{shard.name}: SHA-256 differs"):
            next(stream)
    for thread in threads():
        thread.join(timeout=5)
    assert not threads()
    stream.close()
    assert list(stream) == []


def test_a_forgotten_stream_ends_its_threads(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    manifest = make_corpus(tmp_path, sizes=[30] * 6)
    stream = open_worker(tmp_path, manifest, 0, 1, num_lanes=3, microbatch=1)
    next(stream)
    running = threads()
    assert running
    del stream
    gc.collect()
    for thread in running:
        thread.join(timeout=5)
        assert not thread.is_alive()


def test_closing_from_another_thread_ends_a_reader_that_waits(
    make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    entered, release = threading.Event(), threading.Event()

    class Slow(Expand):
        def make(self, wanted: Sequence[tuple[Record, int]]) -> list[Example]:
            entered.set()
            release.wait(5)
            return super().make(wanted)

    manifest = make_corpus(tmp_path, sizes=[6] * 6)
    stream = open_worker(tmp_path, manifest, 0, 1, num_lanes=3, expand=Slow(), threads=1)
    taken: list[StepBatch[Example]] = []
    reader = threading.Thread(target=lambda: taken.extend(stream))
    reader.start()
    entered.wait(5)
    closer = threading.Thread(target=stream.close)
    closer.start()
    time.sleep(0.05)
    release.set()
    for thread in (reader, closer):
        thread.join(timeout=5)
        assert not thread.is_alive()
    assert taken == []


def test_a_cursor_of_another_number_of_lanes_is_refused(
    make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    manifest = make_corpus(tmp_path, sizes=[4, 4])
    with pytest.raises(CorpusError, match=r"the cursor has 3 lanes and data\.lanes=2"):
        steps(tmp_path, manifest, 0, 1, num_lanes=2, cursor=Cursor(0, 0, (LaneCursor(0, 0),) * 3))
    # Also where it is the lane of another worker that can't be.
    lanes = (LaneCursor(0, 0), LaneCursor(7, 0))
    with pytest.raises(CorpusError, match=r"lane 1: .*another corpus"):
        steps(tmp_path, manifest, 0, 2, num_lanes=2, cursor=Cursor(0, 0, lanes))


def test_leaving_early_stops_the_reader(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    manifest = make_corpus(tmp_path, sizes=[6] * 6)
    with pytest.raises(KeyError), open_lane(tmp_path, manifest, 0, microbatch=1) as stream:
        next(stream)
        raise KeyError


@pytest.mark.parametrize("cursor", [LaneCursor(0, 99), LaneCursor(1, 1), LaneCursor(2, 0)])
def test_a_cursor_of_another_corpus_is_refused(
    make_corpus: MakeCorpus, tmp_path: Path, cursor: LaneCursor
) -> None:
    manifest = make_corpus(tmp_path, sizes=[4])
    with pytest.raises(CorpusError, match=r"lane 0: .*another corpus"):
        open_lane(tmp_path, manifest, 0, cursor=cursor)


def test_a_manifest_that_names_another_shard_is_found_out(
    make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    manifest = make_corpus(tmp_path, sizes=[4, 4])
    first, second = manifest.partitions
    swapped = replace(second, file=first.file, sha256=first.sha256, num_bytes=first.num_bytes)
    with pytest.raises(CorpusError, match=r"expected 000000000004\.json"):
        batches(tmp_path, replace(manifest, partitions=(first, swapped)), 1)
