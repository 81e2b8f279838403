"""What an encoding run will take, as arithmetic on its plan: nothing here reads or imports much.

A worker's numbers are given as the smallest and the largest over all workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster.plan.measured_speed import WorkerSpeed
from cluster.plan.memory import RowLoad, WorkerMemory, held_partitions, worker_memory
from cluster.plan.model_shape import ModelShape
from cluster.plan.steps import EncodePlan
from cluster.plan.token_sample import TokenSample
from polyprag.config import Config
from sharding.corpus.manifest import CorpusManifest
from sharding.counted import counted
from sharding.stream.balance import Balance, balance, times_rewritten
from sharding.stream.plan import lanes_of_worker, partitions_of_worker


@dataclass(frozen=True, slots=True)
class Amount:
    """A number for the whole run, and the smallest and largest that a worker has of it."""

    whole: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class CheckpointSize:
    """Bytes that checkpoints write; each file has a header of some hundred bytes more.

    Attributes:
        experts: the experts with both moments, written every time.
        rows: all rows with moments and step counts.
        rewritten_rows: mean of the rows that a checkpoint writes again.
        number: checkpoints of the whole run.
    """

    experts: int
    rows: int
    rewritten_rows: int
    number: int

    @property
    def whole(self) -> int:
        """A complete checkpoint."""
        return self.experts + self.rows

    @property
    def incremental_share(self) -> float:
        """The share of a complete checkpoint that one writes on average."""
        return (self.experts + self.rewritten_rows) / self.whole


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens, padding excluded.

    Attributes:
        per_example: mean.
        per_epoch: all examples.
        source: where the mean is from, for the reader.
        margin: half the 95 % interval as a share, where the mean is from a sample.
        skippable: share of them that all prompts begin with and experts needn't act on.
    """

    per_example: float
    per_epoch: int
    source: str
    margin: float | None
    skippable: float = 0.0


@dataclass(frozen=True, slots=True)
class Time:
    """Training alone: no start, no checkpoints, no failures.

    Attributes:
        tokens_per_second: of a worker that is never idle.
        source: where that is from, for the reader.
        seconds: of the whole run.
    """

    tokens_per_second: float
    source: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """Everything that `polyprag plan` says; amounts of memory and files in bytes."""

    workers: int
    lanes: Amount
    partitions: Amount
    passages: Amount
    examples: Amount
    examples_are_estimated: bool
    shards: Amount
    row: int
    table: Amount
    optimizer: Amount
    steps_per_epoch: int
    total_steps: int
    examples_per_step: int
    balance: Balance
    checkpoint: CheckpointSize
    encoding: int
    memory: WorkerMemory
    tokens: Tokens | None
    time: Time | None


def forecast(
    manifest: CorpusManifest,
    config: Config,
    plan: EncodePlan,
    shape: ModelShape,
    *,
    zero: dict[str, Any],
    are_estimated: bool = False,
    sample: TokenSample | None = None,
    speed: WorkerSpeed | None = None,
) -> Forecast:
    """Works a run out.

    Args:
        manifest: of the corpus.
        config: of the run; `cluster.workers` is the number planned for.
        plan: of the run.
        shape: of the base model and the experts.
        zero: DeepSpeed's `zero_optimization` section.
        are_estimated: whether the plan's examples are.
        sample: of the corpus, for the tokens.
        speed: of a worker, for the time.
    """
    workers, parts = config.cluster.workers, manifest.partitions
    shares = [
        partitions_of_worker(
            rank, world_size=workers, num_partitions=len(parts), num_lanes=plan.num_lanes
        )
        for rank in range(workers)
    ]

    def amount(of_partition: Sequence[int]) -> Amount:
        held = [sum(of_partition[index] for index in share) for share in shares]
        return Amount(sum(of_partition), min(held), max(held))

    lanes = [
        len(lanes_of_worker(rank, world_size=workers, num_lanes=plan.num_lanes))
        for rank in range(workers)
    ]
    passages = amount([part.num_passages for part in parts])
    even = balance(
        plan.examples, num_lanes=plan.num_lanes, world_size=workers, microbatch=plan.microbatch
    )
    tokens = _tokens(sum(plan.examples), sample, speed)
    largest = max(part.num_passages for part in parts)
    rows = RowLoad(
        held=min(
            _state(shape, passages.most), _state(shape, largest) * held_partitions(lanes=max(lanes))
        ),
        partition=_state(shape, largest),
        lanes=max(lanes),
        shard=max(part.num_bytes for part in parts),
    )
    return Forecast(
        workers=workers,
        lanes=Amount(plan.num_lanes, min(lanes), max(lanes)),
        partitions=amount([1] * len(parts)),
        passages=passages,
        examples=amount(plan.examples),
        examples_are_estimated=are_estimated,
        shards=amount([part.num_bytes for part in parts]),
        row=shape.row_bytes,
        table=_times(passages, shape.row_bytes),
        optimizer=_times(passages, shape.row_state_bytes - shape.row_bytes),
        steps_per_epoch=plan.steps_per_epoch,
        total_steps=plan.total_steps,
        examples_per_step=plan.num_lanes * plan.microbatch,
        balance=even,
        checkpoint=checkpoint_size(
            manifest, plan, shape, every_steps=config.checkpoint.every_steps
        ),
        encoding=4 * shape.expert_parameters + shape.row_bytes * passages.whole,
        memory=worker_memory(shape, config, zero=zero, rows=rows),
        tokens=tokens,
        time=_time(plan, even, tokens, speed, workers=workers),
    )


def checkpoint_size(
    manifest: CorpusManifest, plan: EncodePlan, shape: ModelShape, *, every_steps: int
) -> CheckpointSize:
    """Returns what a checkpoint holds, and what one writes again on average over the first epoch.

    Args:
        manifest: of the corpus.
        plan: of the run.
        shape: of the experts and rows.
        every_steps: steps between checkpoints.
    """
    rewritten = 0
    for lane in range(plan.num_lanes):
        order = plan.lane_order(lane, epoch=0)
        times = times_rewritten(
            [plan.examples[index] for index in order],
            microbatch=plan.microbatch,
            every_steps=every_steps,
        )
        rewritten += sum(
            count * _state(shape, manifest.partitions[index].num_passages)
            for count, index in zip(times, order, strict=True)
        )
    # A partition without examples is never trained, nor saved.
    rows = sum(
        _state(shape, part.num_passages)
        for part, examples in zip(manifest.partitions, plan.examples, strict=True)
        if examples
    )
    return CheckpointSize(
        experts=3 * 4 * shape.expert_parameters,
        rows=rows,
        rewritten_rows=round(rewritten / -(-plan.steps_per_epoch // every_steps)),
        number=-(-plan.total_steps // every_steps),
    )


def _state(shape: ModelShape, num_passages: int) -> int:
    return shape.row_state_bytes * num_passages


def _times(amount: Amount, factor: int) -> Amount:
    return Amount(amount.whole * factor, amount.least * factor, amount.most * factor)


def _tokens(examples: int, sample: TokenSample | None, speed: WorkerSpeed | None) -> Tokens | None:
    if sample is not None and sample.tokens_per_example is not None:
        mean, margin = sample.tokens_per_example, sample.tokens_margin
        skippable = sample.skippable
        source = counted(sample.passages, "sampled passage")
    elif speed is not None and speed.tokens_per_example is not None:
        mean, margin, source = speed.tokens_per_example, None, speed.source
        skippable = 0.0
    else:
        return None
    return Tokens(mean, round(mean * examples), source, margin, skippable)


def _time(
    plan: EncodePlan,
    even: Balance,
    tokens: Tokens | None,
    speed: WorkerSpeed | None,
    *,
    workers: int,
) -> Time | None:
    """Returns the time of training, in which each step takes as long as its busiest worker."""
    if tokens is None or speed is None:
        return None
    busiest = even.worker_slots / workers * tokens.per_example
    seconds = plan.epochs * busiest / speed.tokens_per_second
    return Time(speed.tokens_per_second, speed.source, seconds)
