"""The plan of a run against a brute-force walk through its lanes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cluster.plan.steps import EncodePlan, plan_encoding, plan_of
from polyprag.config import Config, DataConfig, TrainConfig
from polyprag.errors import RunError
from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.stream.plan import LaneCursor


def manifest_of(counts: list[int], *, augmented: bool = True) -> CorpusManifest:
    parts = tuple(
        Partition(
            index=i,
            first_id=i,
            num_passages=1,
            file=f"part-{i:05d}-{'a' * 12}.tar",
            num_bytes=1,
            sha256="a" * 64,
            augmented=augmented,
            counts={"qa": n},
        )
        for i, n in enumerate(counts)
    )
    return CorpusManifest(["x"], len(parts), 1, parts)


def walked(plan: EncodePlan, step: int) -> list[LaneCursor]:
    """Every lane's cursor after `step` steps, one example at a time."""
    epoch, within = divmod(step, plan.steps_per_epoch)
    cursors = []
    for lane in range(plan.num_lanes):
        order = plan.lane_order(lane, epoch=epoch)
        waiting = [(p, o) for p, index in enumerate(order) for o in range(plan.examples[index])]
        rest = waiting[within * plan.microbatch :]
        cursors.append(LaneCursor(*rest[0]) if rest else LaneCursor(len(order), 0))
    return cursors


@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any),
    lanes=st.integers(1, 5),
    microbatch=st.integers(1, 4),
    epochs=st.integers(1, 3),
    data=st.data(),
)
def test_cursor_at_any_step_equals_a_walk(
    counts: list[int], lanes: int, microbatch: int, epochs: int, data: st.DataObject
) -> None:
    config = replace(
        Config(),
        data=DataConfig(lanes=lanes, microbatch=microbatch),
        train=TrainConfig(epochs=epochs, seed=3),
        cluster=replace(Config().cluster, workers=1),
    )
    plan = plan_of(counts, config, corpus_url="corpus")
    assert plan.total_steps == epochs * plan.steps_per_epoch
    step = data.draw(st.integers(0, plan.total_steps - 1))
    cursor = plan.cursor_at(step)
    assert (cursor.epoch, cursor.step) == divmod(step, plan.steps_per_epoch)
    assert list(cursor.lanes) == walked(plan, step)


def test_a_corpus_that_is_not_augmented_is_refused() -> None:
    with pytest.raises(RunError, match="polyprag augment"):
        plan_encoding(manifest_of([3], augmented=False), Config(), corpus_url="corpus")


def test_a_partition_that_counts_no_examples_is_refused() -> None:
    with pytest.raises(RunError, match="no examples in partition 1"):
        plan_encoding(manifest_of([2, 0, 1]), Config(), corpus_url="corpus")


def test_a_partition_whose_passages_are_all_removed_has_no_examples() -> None:
    manifest = structs.replace(manifest_of([2, 0, 1]), removed=[1])
    assert plan_encoding(manifest, Config(), corpus_url="corpus").examples == (2, 0, 1)


def test_a_corpus_without_examples_is_refused() -> None:
    with pytest.raises(RunError, match="no examples to train on"):
        plan_of([0, 0], Config(), corpus_url="corpus")
