"""Which phase a command trains, given what is trained already."""

from dataclasses import replace

import pytest

from cluster.checkpoints.manifest import CheckpointManifest, StateFile
from cluster.plan.encode_plan import EncodePlan, plan_encoding
from cluster.plan.phase import Phase
from cluster.training.phases import plan_phase
from polyprag.config import Config
from polyprag.errors import ConfigError, RunError
from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.stream.plan import Cursor, LaneCursor

CONFIG = replace(Config(), train=replace(Config().train, epochs=2))
CURSOR = Cursor(0, 0, tuple(LaneCursor(0, 0) for _ in range(CONFIG.data.lanes)))


def corpus(num_partitions: int) -> CorpusManifest:
    parts = tuple(
        Partition(
            index=index,
            first_id=4 * index,
            num_passages=4,
            file=f"part-{index:05d}-{'a' * 12}.tar",
            num_bytes=1,
            sha256="a" * 64,
            augmented=True,
            counts={"qa": 10, "passage_qa": 20, "passage": 8, "bare_passage": 0},
        )
        for index in range(num_partitions)
    )
    return CorpusManifest(["x"], 4 * num_partitions, 4, parts)


def trained(step: int, *phases: Phase) -> CheckpointManifest:
    return CheckpointManifest(
        step=step,
        cursor=CURSOR,
        world_size=1,
        identity={},
        phases=phases,
        experts=StateFile("experts-step-00000001.safetensors", "b" * 64, 1),
    )


def planned(
    checkpoint: CheckpointManifest | None,
    *,
    partitions: int = 3,
    epochs: int = 2,
    more: bool = False,
    is_written: bool = True,
) -> EncodePlan | None:
    config = replace(CONFIG, train=replace(CONFIG.train, epochs=epochs))
    return plan_phase(
        "run", config, corpus(partitions), checkpoint, more=more, is_written=is_written
    )


WHOLE = plan_encoding(corpus(3), CONFIG, corpus_url="run/corpus")
LAST = WHOLE.last_step


def test_nothing_trained_begins_with_encode_only() -> None:
    assert planned(None) == WHOLE
    with pytest.raises(RunError, match="polyprag encode run"):
        planned(None, more=True)


def test_unfinished_phase_goes_on_with_the_command_that_began_it() -> None:
    assert planned(trained(3, WHOLE.phase)) == WHOLE
    with pytest.raises(RunError, match="polyprag encode"):
        planned(trained(3, WHOLE.phase), more=True)
    second = planned(trained(LAST, WHOLE.phase), more=True)
    assert second is not None
    under_way = trained(LAST + 1, WHOLE.phase, second.phase)
    assert planned(under_way, more=True) == second
    with pytest.raises(RunError, match="polyprag train-more"):
        planned(under_way)


def test_finished_phase_has_nothing_left_but_a_missing_encoding_or_more_epochs() -> None:
    done = trained(LAST, WHOLE.phase)
    assert planned(done) is None
    for more in (False, True):  # stopped before its encoding was written: no further training
        left = planned(done, more=more, is_written=False, epochs=7)
        assert left == WHOLE
    longer = planned(done, epochs=3)
    assert longer is not None and longer.last_step == LAST // 2 * 3
    with pytest.raises(ConfigError, match=r"train\.epochs"):
        planned(done, epochs=1)


def test_train_more_begins_where_the_phase_before_ended_over_the_grown_corpus() -> None:
    second = planned(trained(LAST, WHOLE.phase), partitions=11, epochs=3, more=True)
    assert second is not None
    assert (second.first_step, second.first_epoch, len(second.examples)) == (LAST, 2, 11)
    assert second.last_step == LAST + 3 * second.steps_per_epoch
    assert second.steps_per_epoch > WHOLE.steps_per_epoch
    begun = second.cursor_at(LAST)
    assert (begun.epoch, begun.step) == (2, 0)
    assert second.epoch_end(LAST) == LAST + second.steps_per_epoch
    assert second.epoch_of(second.last_step - 1) == 4
    after = trained(second.last_step, WHOLE.phase, second.phase)
    assert planned(after, partitions=11) is None  # encode has nothing to do any more
    third = planned(after, partitions=11, more=True)
    assert third is not None and (third.first_step, third.first_epoch) == (second.last_step, 5)


def test_grown_corpus_is_not_trained_by_encode() -> None:
    assert planned(trained(LAST, WHOLE.phase), partitions=4) is None
    with pytest.raises(RunError, match="train-more"):
        planned(trained(LAST, WHOLE.phase), partitions=4, epochs=3)
    with pytest.raises(RunError, match="from the start"):
        planned(trained(3, WHOLE.phase), partitions=4)
