"""One global step of the joint training, as each worker runs it in a process group.

A global step takes one microbatch from each lane. A worker joins its lanes' examples into as few
physical batches as hold them; all workers run equally many of them (an empty one weighs nothing),
so that no collective waits for ever. The loss is normalised by the tokens of the whole global
batch, so losses and weights depend on the number of workers by the rounding of their sums alone. A
step whose loss or gradients aren't finite is refused by all workers, before anything has changed.

Shapes: B examples, M passages of a step on this worker, S sites, K experts.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cluster.checkpoints.manifest import RowsFile
from cluster.checkpoints.request import TrainingRequest
from cluster.parallel.collectives import gather_numbers, raise_together
from cluster.parallel.engine import ExpertEngine
from cluster.parallel.exact_engine import ExactEngine
from cluster.plan.steps import EncodePlan
from cluster.record.metrics import StepMetrics
from cluster.training.refusal import refuse_gradients, refuse_step
from cluster.training.schedule import rate_factor
from cluster.training.utilisation import StepWork
from polyprag.config import Config
from polyprag.method.examples import Example
from polyprag.method.finite import is_finite
from polyprag.method.router import gates as gates_of
from polyprag.method.training_batch import Batcher
from sharding.rows.table import RowTable
from sharding.stream.epoch import StepBatch
from sharding.stream.lane import LaneBatch


def train_step(
    engine: ExpertEngine | ExactEngine,
    table: RowTable[RowsFile],
    batches: Iterator[StepBatch[Example]],
    *,
    plan: EncodePlan,
    config: Config,
    step: int,
    batcher: Batcher,
    work: StepWork,
    peak: float,
    stalled: float = 0.0,
    before_error: Callable[[], None] = lambda: None,
    key_of: Callable[[int], str] = str,
    request: TrainingRequest = TrainingRequest.NONE,
) -> tuple[StepMetrics, TrainingRequest]:
    """Reads every lane's microbatch, runs it forward and backward, and updates experts and rows.

    Args:
        engine: the experts and their optimiser.
        table: this worker's routing rows and their optimiser.
        batches: this worker's lanes, step by step.
        plan: of the run.
        config: of the run.
        step: global steps done before this one.
        batcher: makes physical batches.
        work: the arithmetic of an example.
        peak: operations a second that this worker's device could do.
        stalled: seconds that this worker waited for checkpoints since the step before.
        before_error: called on every worker before an error of one of them is raised on all.
        key_of: the key of a passage, for errors.
        request: what this worker is asked for.

    Returns:
        What the step did over all workers, and the greatest request of one of them.

    Raises:
        Exception: on every worker, when one of them can't read its lanes or rows.
        RunError: on every worker, when the loss or a gradient isn't finite. Neither experts nor
            rows have changed then.
    """
    started = time.monotonic()
    lanes, error = _read(batches)
    read_at = time.monotonic()
    examples = [example for lane in lanes for example in lane.items]
    ids = np.unique(np.array([example.passage_id for example in examples], np.int64))
    rows_MSK, rows_error = _gather(table, ids)
    error = error or rows_error
    groups, lane_of = _groups(lanes, batcher, by_lane=config.train.exact)
    counted = sum(example.num_counted for example in examples)
    tokens = sum(len(example) for example in examples)
    everyone = gather_numbers([counted, tokens, len(examples), len(groups), error is not None])
    if everyone[:, 4].any():
        before_error()
        raise_together(error)
    # An engine that averages talks with the others in every physical batch.
    num_batches = len(groups) if config.train.exact else int(everyone[:, 3].max())
    total_counted = max(float(everyone[:, 0].sum()), 1.0)

    leaf_MSK = torch.from_numpy(rows_MSK).requires_grad_()
    gates_MSK = _gates(leaf_MSK, ids, lanes, config, step=step)
    # The graph from rows to gates is walked once a step, whatever the number of physical batches.
    used_MSK = gates_MSK.detach().to(engine.device).requires_grad_()
    batches_of = [[examples[i] for i in group] for group in groups]
    # On the device, and as exact as Python's own sum: it is read once a step.
    loss_sum = torch.zeros((), dtype=torch.float64, device=engine.device)
    losses: list[Tensor] = []
    for index in range(num_batches):
        group = batches_of[index] if index < len(groups) else []
        batch = batcher.join(group).to(engine.device)
        gates_BSK = _gates_of(group, ids, used_MSK)
        loss = engine.loss_sum(batch, gates_BSK, is_last=index == num_batches - 1)
        # DeepSpeed averages over workers; the sum over all workers is what is wanted.
        scaled = loss * (engine.averaged_over / total_counted)
        engine.backward(scaled, lane=lane_of[index] if lane_of else None)
        losses.append(loss.detach())
        loss_sum += losses[-1]
    if used_MSK.grad is not None:
        torch.autograd.backward(
            gates_MSK, used_MSK.grad.to(gates_MSK.device) / engine.averaged_over
        )
    grad_MSK = leaf_MSK.grad
    rows_are_finite = grad_MSK is None or is_finite(grad_MSK)
    # Before anything has changed: all workers decide by the same numbers whether it may.
    waits = [read_at - started, table.take_waited(), stalled]
    ended = gather_numbers(
        [*waits, request, *table.take_moved(), rows_are_finite, work.of(examples), peak],
        measured=loss_sum,
    )
    loss_mean = float(ended[:, 9].sum()) / total_counted
    if not (math.isfinite(loss_mean) and ended[:, 6].all()):
        before_error()
        refuse_step(
            step + 1,
            config,
            lanes=lanes,
            groups=batches_of,
            losses=losses,
            ids=ids,
            rows_MSK=leaf_MSK,
            grad_MSK=grad_MSK,
            key_of=key_of,
        )
    factor = rate_factor(
        step - plan.first_step,
        plan.total_steps,
        schedule=config.train.schedule,
        warmup_ratio=config.train.warmup_ratio,
    )
    if not engine.step(rate=config.train.experts_lr * factor):
        before_error()
        refuse_gradients(step + 1, config)
    if grad_MSK is not None:
        table.update(ids, grad_MSK, rate=config.train.rows_lr * factor)
    for lane in lanes:
        table.advance(lane.lane, lane.cursor.position, step=step + 1)
    seconds = time.monotonic() - started
    metrics = StepMetrics(
        step=step + 1,
        epoch=plan.epoch_of(step),
        loss=loss_mean,
        examples=int(everyone[:, 2].sum()),
        tokens=int(everyone[:, 1].sum()),
        seconds=round(seconds, 4),
        world_size=len(everyone),
        experts_lr=config.train.experts_lr * factor,
        rows_lr=config.train.rows_lr * factor,
        data_wait=round(float(ended[:, 0].max()), 4),
        rows_wait=round(float(ended[:, 1].max()), 4),
        checkpoint_wait=round(float(ended[:, 2].max()), 4),
        rows_loaded_bytes=int(ended[:, 4].sum()),
        rows_saved_bytes=int(ended[:, 5].sum()),
        mfu=round(float(ended[:, 7].sum() / (ended[:, 8].sum() * seconds)), 4),
    )
    return metrics, TrainingRequest(int(ended[:, 3].max()))


def _groups(
    lanes: Sequence[LaneBatch[Example]], batcher: Batcher, *, by_lane: bool
) -> tuple[list[list[int]], list[int]]:
    """Returns the examples of each physical batch, by their place among all of this worker's.

    Args:
        lanes: of this worker.
        batcher: makes physical batches.
        by_lane: none has examples of two lanes.

    Returns:
        The groups and, with `by_lane`, the lane of each.
    """
    if not by_lane:
        return batcher.groups([each for lane in lanes for each in lane.items]), []
    groups: list[list[int]] = []
    lane_of: list[int] = []
    first = 0
    for lane in lanes:
        own = batcher.groups(lane.items)
        groups += [[first + index for index in group] for group in own]
        lane_of += [lane.lane] * len(own)
        first += len(lane.items)
    return groups, lane_of


def _gather(
    table: RowTable[RowsFile], ids: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], Exception | None]:
    """Returns the step's rows, or the error that every worker must hear of before it is raised."""
    try:
        return table.gather(ids), None
    except Exception as error:  # whatever it is: they would wait for this worker for ever
        return np.empty((0, 1, 1), np.float32), error


def _read(
    batches: Iterator[StepBatch[Example]],
) -> tuple[tuple[LaneBatch[Example], ...], Exception | None]:
    """Returns the examples of a step, or the error that all workers must hear of first."""
    try:
        return next(batches).lanes, None
    except Exception as error:  # whatever it is: they would wait for this worker for ever
        return (), error


def _gates(
    leaf_MSK: Tensor,
    ids: npt.NDArray[np.int64],
    lanes: Sequence[LaneBatch[Example]],
    config: Config,
    *,
    step: int,
) -> Tensor:
    """Returns the gates of the step's rows, (M, S, K), with their graph."""
    if not config.router.relaxed_bernoulli:
        return gates_of(leaf_MSK, config.router, training=True)
    # Noise is drawn lane by lane, so that it does not depend on which worker has the lane; a
    # passage belongs to one lane.
    gates_MSK = torch.zeros_like(leaf_MSK)
    for lane in lanes:
        of_lane = np.unique([example.passage_id for example in lane.items])
        at = torch.from_numpy(np.searchsorted(ids, of_lane))
        seed = np.random.SeedSequence(config.train.seed, spawn_key=(step, lane.lane))
        generator = torch.Generator().manual_seed(int(seed.generate_state(1)[0]))
        sampled = gates_of(leaf_MSK[at], config.router, training=True, generator=generator)
        gates_MSK = gates_MSK.index_copy(0, at, sampled)
    return gates_MSK


def _gates_of(group: list[Example], ids: npt.NDArray[np.int64], gates_MSK: Tensor) -> Tensor:
    """Returns the gates of each example, (B, S, K); for no examples one mixture of nothing."""
    if not group:
        return gates_MSK.new_zeros((1, *gates_MSK.shape[1:]))
    at = np.searchsorted(ids, [example.passage_id for example in group])
    return gates_MSK[torch.from_numpy(at).to(gates_MSK.device)]
