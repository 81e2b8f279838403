"""The third act of a training: epochs of steps, with checkpoints when they are due or asked for."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from torch import distributed

from cluster.checkpoints.request import TrainingRequest
from cluster.parallel.collectives import run_on_all_or_raise
from cluster.record.events import record
from cluster.record.metrics import StepMetrics
from cluster.training.lanes import open_lanes
from cluster.training.start import Training
from cluster.training.step import train_step
from polyprag.errors import PolypragError
from polyprag.method.examples import Example
from sharding.corpus.reader import Corpus
from sharding.stream.epoch import StepBatch, WorkerStream
from sharding.stream.plan import lanes_of_worker

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """How far training came.

    Attributes:
        step: global steps that are done and durable.
        request: what ended it before the phase's end; NONE: the phase is trained.
    """

    step: int
    request: TrainingRequest = TrainingRequest.NONE


def train_epochs(training: Training, *, asked: Callable[[], TrainingRequest]) -> TrainingOutcome:
    """Trains to the phase's end, or to the checkpoint that a request ends it with.

    Args:
        training: on every worker of the process group.
        asked: what this worker is asked for, besides the requests in the run's directory.

    Raises:
        PolypragError: on every worker alike, when one of them met a user's error.
    """
    run, plan = training.run, training.run.plan
    step = run.step
    while step < plan.last_step:
        epoch_end = plan.epoch_end(step)
        with run_on_all_or_raise(partial(_begin_epoch, training, step)) as batches:
            while step < epoch_end:
                request = _train_one_step(training, batches, step=step, asked=asked)
                step += 1
                is_due = step % run.config.checkpoint.every_steps == 0 or step == plan.last_step
                if is_due or request:
                    _begin_checkpoint(training, step)
                if request:
                    _finish_asked_checkpoint(training, request, step=step)
                if request >= TrainingRequest.RESTART and step < plan.last_step:
                    return TrainingOutcome(step, request)
    return TrainingOutcome(step)


def _begin_epoch(training: Training, step: int) -> WorkerStream[Example]:
    """Opens this worker's lanes from a step on, and tells the table which partitions they read."""
    run, plan = training.run, training.run.plan
    cursor = plan.cursor_at(step)
    lanes = lanes_of_worker(
        distributed.get_rank(), world_size=distributed.get_world_size(), num_lanes=plan.num_lanes
    )
    training.table.begin(
        {lane: plan.lane_order(lane, epoch=cursor.epoch) for lane in lanes},
        {lane: cursor.lanes[lane].position for lane in lanes},
    )
    return open_lanes(run.corpus, plan, run.config, run.tokenizer, cursor=cursor, taught=run.taught)


def _train_one_step(
    training: Training,
    batches: Iterator[StepBatch[Example]],
    *,
    step: int,
    asked: Callable[[], TrainingRequest],
) -> TrainingRequest:
    """Takes a step and writes it down; returns what all workers are asked for after it."""
    run, checkpoints, requests = training.run, training.checkpoints, training.requests
    training.beat(f"step {step + 1}")
    request = max(asked(), requests.pending() if requests else TrainingRequest.NONE)
    metrics, request = train_step(
        training.engine,
        training.table,
        batches,
        plan=run.plan,
        config=run.config,
        step=step,
        batcher=run.batcher,
        work=training.work,
        peak=training.peak,
        stalled=checkpoints.take_waited(),
        before_error=checkpoints.close,
        key_of=partial(_key_of, run.corpus),
        request=request,
    )
    _write_metrics(training, metrics)
    checkpoints.poll()
    return request


def _key_of(corpus: Corpus, passage: int) -> str:
    """Returns a passage's key for an error; its number where the shard can't be read by now."""
    try:
        return corpus.record(passage).passage.key
    except (PolypragError, OSError):  # the others wait for what this worker found
        return str(passage)


def _write_metrics(training: Training, metrics: StepMetrics) -> None:
    durable = training.checkpoints.durable
    metrics = replace(
        metrics,
        checkpoint_step=durable.step,
        checkpoint_seconds=round(durable.seconds, 4),
    )
    if training.log is not None:
        training.log.write(metrics)
    for sink in training.sinks:
        sink.write(metrics)


def _begin_checkpoint(training: Training, step: int) -> None:
    if training.log is not None:
        training.log.sync()
    training.checkpoints.begin(step, training.run.plan.cursor_at(step))


def _finish_asked_checkpoint(training: Training, request: TrainingRequest, *, step: int) -> None:
    """Waits until a checkpoint is durable; tells those who asked for it, and the run's events."""
    training.beat("the checkpoint that was asked for")
    training.checkpoints.wait()
    if training.requests is None:
        return
    asked = training.requests.answer(step) or "the cluster, which takes a machine away"
    follows = {
        TrainingRequest.RESTART: "; the workers start anew",
        TrainingRequest.STOP: "; training stops",
    }
    detail = f"asked for by {asked}{follows.get(request, '')}"
    _LOG.info("checkpoint of step %d, %s", step, detail)
    last_step = training.run.plan.last_step
    record(training.run.directory, "checkpoint", detail=detail, step=step, last_step=last_step)
