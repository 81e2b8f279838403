import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharding.errors import CorpusError
from sharding.manifest import CorpusManifest, Partition
from sharding.passages import Record
from sharding.plan import (
    LaneCursor,
    example_order,
    lane_cursor_at,
    lanes_of_worker,
    partition_order,
    partitions_of_lane,
    steps_per_epoch,
)
from sharding.stream import LaneBatch, LaneStream

MakeCorpus = Callable[..., CorpusManifest]
Example = tuple[int, int]  # passage id, which of its examples


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lane-")]


def expand(record: Record) -> list[Example]:
    """0, 1 or 2 examples of each passage."""
    return [(record.passage.id, i) for i in range(record.passage.id % 3)]


def num_examples(partition: Partition) -> int:
    ids = range(partition.first_id, partition.first_id + partition.num_passages)
    return sum(passage_id % 3 for passage_id in ids)


def open_lane(
    corpus_dir: Path, manifest: CorpusManifest, lane: int, **changes: Any
) -> LaneStream[Example]:
    options: dict[str, Any] = {"num_lanes": 3, "seed": 5, "epoch": 1, "microbatch": 4}
    options |= {"expand": expand, "num_examples": num_examples} | changes
    return LaneStream(corpus_dir, manifest, lane, **options)


def batches(
    corpus_dir: Path, manifest: CorpusManifest, lane: int, **changes: Any
) -> list[LaneBatch[Example]]:
    with open_lane(corpus_dir, manifest, lane, **changes) as stream:
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


Corpus = Callable[[dict[str, Any]], tuple[Path, CorpusManifest]]


@settings(max_examples=25)
@given(shapes)
def test_lanes_give_the_planned_batches_and_each_example_once(
    corpus: Corpus, shape: dict[str, Any]
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
    corpus: Corpus, shape: dict[str, Any], data: st.DataObject
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
    corpus: Corpus, shape: dict[str, Any]
) -> None:
    """Each worker steps through its lanes in turn, as training does, to the planned last step."""
    corpus_dir, manifest = corpus(shape)
    num_lanes = shape["num_lanes"]
    examples = [num_examples(partition) for partition in manifest.partitions]
    steps = steps_per_epoch(examples, num_lanes=num_lanes, microbatch=shape["microbatch"])

    def run(world_size: int) -> list[dict[int, LaneBatch[Example] | None]]:
        by_step: list[dict[int, LaneBatch[Example] | None]] = [{} for _ in range(steps)]
        for rank in range(world_size):
            lanes = lanes_of_worker(rank, world_size=world_size, num_lanes=num_lanes)
            streams = {lane: open_lane(corpus_dir, manifest, lane, **shape) for lane in lanes}
            for step in range(steps):
                by_step[step] |= {lane: next(stream, None) for lane, stream in streams.items()}
            for stream in streams.values():
                assert next(stream, None) is None
                stream.close()
        return by_step

    alone = run(1)
    assert all(any(batch for batch in step.values()) for step in alone)
    for world_size in range(2, num_lanes + 1):
        assert run(world_size) == alone


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
    def broken(record: Record) -> list[Example]:
        raise RuntimeError("tokenizer fell over")

    manifest = make_corpus(tmp_path, sizes=[4])
    with pytest.raises(RuntimeError, match="fell over"):
        batches(tmp_path, manifest, 0, expand=broken)


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
