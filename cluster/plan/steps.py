"""The steps of a phase, worked out from the corpus manifest and the config alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from polyprag.config import Config
from polyprag.errors import RunError
from polyprag.method.examples import num_examples
from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.stream.plan import Cursor, lane_cursor_at, partition_order, partitions_of_lane
from sharding.stream.plan import steps_per_epoch as lane_steps_per_epoch


@dataclass(frozen=True, slots=True)
class EncodePlan:
    """The steps of a phase; equal on every worker and whatever their number.

    Attributes:
        examples: of each partition, by index.
        num_lanes: canonical slots of the global batch.
        microbatch: examples that a lane adds to a step.
        epochs: passes over the corpus.
        seed: decides the order of the data.
        steps_per_epoch: the same in every epoch.
        first_step: global steps done before this phase.
        first_epoch: passes over the corpus before this phase.
    """

    examples: tuple[int, ...]
    num_lanes: int
    microbatch: int
    epochs: int
    seed: int
    steps_per_epoch: int
    first_step: int = 0
    first_epoch: int = 0

    @property
    def total_steps(self) -> int:
        """Global steps of this phase."""
        return self.epochs * self.steps_per_epoch

    @property
    def last_step(self) -> int:
        """Global steps of the run when this phase has ended."""
        return self.first_step + self.total_steps

    def epoch_of(self, step: int) -> int:
        """Returns the epoch of the step that follows `step` global steps."""
        return self.first_epoch + (step - self.first_step) // self.steps_per_epoch

    def epoch_end(self, step: int) -> int:
        """Returns the global steps done when the epoch ends that goes on after `step` of them."""
        return self.first_step + (self.epoch_of(step) - self.first_epoch + 1) * self.steps_per_epoch

    def cursor_at(self, step: int) -> Cursor:
        """Returns where every lane goes on after `step` global steps, without reading anything."""
        epoch = self.epoch_of(step)
        within = (step - self.first_step) % self.steps_per_epoch
        lanes = []
        for lane in range(self.num_lanes):
            order = self.lane_order(lane, epoch=epoch)
            sizes = [self.examples[partition] for partition in order]
            lanes.append(lane_cursor_at(within, sizes, microbatch=self.microbatch))
        return Cursor(epoch=epoch, step=within, lanes=tuple(lanes))

    def lane_order(self, lane: int, *, epoch: int) -> Sequence[int]:
        """Returns the partitions of a lane in the order in which it reads them in an epoch."""
        partitions = partitions_of_lane(
            lane, num_partitions=len(self.examples), num_lanes=self.num_lanes
        )
        return partition_order(self.seed, epoch, lane=lane, partitions=partitions)


def plan_encoding(
    manifest: CorpusManifest,
    config: Config,
    *,
    corpus_url: str,
    first_step: int = 0,
    first_epoch: int = 0,
) -> EncodePlan:
    """Plans a phase of a run.

    Args:
        manifest: of the corpus; every partition must have been augmented.
        config: the run's settings.
        corpus_url: named in errors.
        first_step: global steps done before it.
        first_epoch: passes over the corpus before it.

    Raises:
        RunError: the corpus is not yet augmented, or the manifest counts no examples somewhere.
    """
    bare = [part.index for part in manifest.partitions if not part.augmented]
    if bare:
        raise RunError(
            f"{corpus_url}: {len(bare)} of {len(manifest.partitions)} partitions have no "
            f"augmentation (the first is {bare[0]}); run `polyprag augment RUN`"
        )
    examples = [counted_examples(part, config) for part in manifest.partitions]
    for part, count in zip(manifest.partitions, examples, strict=True):
        # Every passage that is left gives some: it would silently never be read.
        if count == 0 and len(manifest.removed_in(part)) < part.num_passages:
            raise RunError(
                f"{corpus_url}: the manifest counts no examples in partition {part.index}; run "
                "`polyprag verify RUN --repair`, which counts them again"
            )
    plan = plan_of(examples, config, corpus_url=corpus_url)
    return replace(plan, first_step=first_step, first_epoch=first_epoch)


def counted_examples(partition: Partition, config: Config) -> int:
    """Returns the examples of an augmented partition, as its manifest entry counts them."""
    return num_examples(partition.counts, config.data.formats)


def plan_of(examples: Sequence[int], config: Config, *, corpus_url: str) -> EncodePlan:
    """Plans a run over partitions of so many examples.

    Args:
        examples: of each partition, by index.
        config: the run's settings.
        corpus_url: named in errors.

    Raises:
        RunError: there are no examples.
    """
    if sum(examples) == 0:
        raise RunError(f"{corpus_url}: no examples to train on; prepare a corpus with passages")
    steps = lane_steps_per_epoch(
        examples, num_lanes=config.data.lanes, microbatch=config.data.microbatch
    )
    return EncodePlan(
        examples=tuple(examples),
        num_lanes=config.data.lanes,
        microbatch=config.data.microbatch,
        epochs=config.train.epochs,
        seed=config.train.seed,
        steps_per_epoch=steps,
    )
