"""Training an encoding from its checkpoint to its end, in a process group of any size."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, distributed
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cluster.checkpoints.files import load_row_partition, recover, save_row_partition
from cluster.checkpoints.manifest import CheckpointManifest, RowsFile, check_identity, identity_of
from cluster.checkpoints.request import Request, RequestReader
from cluster.checkpoints.writer import Checkpointer, load_expert_state
from cluster.parallel.collectives import together
from cluster.parallel.engine import ExpertEngine
from cluster.plan.encode_plan import EncodePlan, plan_encoding
from cluster.plan.phase import Phase
from cluster.record.events import record
from cluster.record.metrics_log import MetricsLog
from cluster.record.sinks.chosen import open_sinks
from cluster.record.sinks.sink import Sink, Tolerated
from cluster.training.lanes import open_lanes
from cluster.training.step import train_step
from cluster.training.write_encoding import write_encoding
from polyprag.config import Config
from polyprag.encoding.manifest import MANIFEST_NAME, EncodingManifest, RowsPart, describe_base
from polyprag.encoding.reader import encoding_dir
from polyprag.method.base_model import load_base
from polyprag.method.experts import ExpertPool, inject
from polyprag.method.row_optimizer import RowAdam
from sharding.corpus.reader import Corpus
from sharding.rows.file import load_rows
from sharding.rows.part import RowPartition, init_rows
from sharding.rows.table import RowTable
from sharding.storage.cache import cache_for
from sharding.storage.files import exists, join
from sharding.storage.lease import LEASE_DIRECTORY, check_lease
from sharding.stream.plan import lanes_of_worker

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Run:
    """What a worker holds before the first collective."""

    corpus: Corpus
    plan: EncodePlan
    identity: dict[str, Any]
    checkpoint: CheckpointManifest | None
    expert_state: dict[str, Tensor] | None
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pool: ExpertPool
    added: dict[int, RowsPart]


@dataclass(frozen=True, slots=True)
class Trained:
    """How far training came.

    Attributes:
        step: global steps that are done and durable.
        request: what ended it before the phase's end; NONE: the encoding is written.
    """

    step: int
    request: Request = Request.NONE


def _load(run_dir: str, config: Config, *, first_step: int, first_epoch: int) -> _Run:
    corpus_url, directory = join(run_dir, "corpus"), join(run_dir, "checkpoints")
    data = config.data
    cache = cache_for(corpus_url, directory=data.cache_dir, max_gb=data.cache_gb)
    corpus = Corpus.open(corpus_url, cache=cache)
    model, tokenizer = load_base(config.model)
    identity = identity_of(config, corpus.manifest, describe_base(model, config.model))
    checkpoint = CheckpointManifest.load(directory)
    state = None
    if checkpoint is not None:
        check_identity(checkpoint, identity, run_dir)
        state = load_expert_state(directory, checkpoint)
    plan = plan_encoding(
        corpus.manifest,
        config,
        corpus_url=corpus_url,
        first_step=first_step,
        first_epoch=first_epoch,
    )
    pool = inject(model, config.experts, config.router, seed=config.train.seed)
    added = _added_rows(run_dir) if checkpoint is not None else {}
    return _Run(corpus, plan, identity, checkpoint, state, model, tokenizer, pool, added)


def _added_rows(run_dir: str) -> dict[int, RowsPart]:
    """Returns the rows of partitions that joined a finished encoding, which no checkpoint has."""
    directory = encoding_dir(run_dir)
    if not exists(join(directory, MANIFEST_NAME)):
        return {}
    return {part.index: part for part in EncodingManifest.load(directory).parts if not part.joint}


def train_encoding(
    run_dir: str,
    config: Config,
    *,
    first_step: int = 0,
    first_epoch: int = 0,
    lease: int | None = None,
    beat: Callable[[str], None] = lambda doing: None,
    asked: Callable[[], Request] = lambda: Request.NONE,
    sinks: Sequence[Sink] = (),
) -> Trained:
    """Trains a phase to its end, resuming from the run's checkpoint where there is one.

    Call it on every worker of an initialised process group.

    Args:
        run_dir: with a prepared and augmented corpus.
        config: the same on every worker.
        first_step: global steps done before this phase; see `plan_phase`.
        first_epoch: passes over the corpus before this phase.
        beat: is called with what comes next, whenever there was progress.
        lease: the number of the run's lease under which this trains; None: nobody else can.
        asked: what this worker is asked for, besides the requests in the run's directory.
        sinks: get every step on this worker, besides those of `log.sinks`; the caller closes them.

    Returns:
        How far it came: to the phase's end, or to the checkpoint that a request asked for.

    Raises:
        PolypragError: on every worker alike, when one of them met a user's error.
    """
    # Worker 0 makes sure that the checkpoint that all go on from is whole.
    together(lambda: recover(run_dir) if distributed.get_rank() == 0 else None)
    run = together(lambda: _load(run_dir, config, first_step=first_step, first_epoch=first_epoch))
    plan, checkpoint = run.plan, run.checkpoint
    directory = join(run_dir, "checkpoints")
    step = checkpoint.step if checkpoint else 0
    own_sinks = [Tolerated(sink) for sink in sinks]
    beat("the engine")
    engine = ExpertEngine(run.model, run.pool, config)
    if run.expert_state is None:
        engine.set_optimizer_step(0)
    else:
        engine.import_state(run.expert_state, step=step)
    with ExitStack() as stack:
        table = stack.enter_context(_row_table(run, run_dir, config))
        log, requests = None, None
        if distributed.get_rank() == 0:
            opened = open_sinks(run_dir, config, resumed_step=step)
            log = MetricsLog(join(run_dir, "logs"), resumed_step=step, sinks=opened)
            stack.enter_context(log)
            _tell_start(run_dir, plan, checkpoint, repeated=log.num_repeated)
            requests = stack.enter_context(RequestReader(run_dir, lease=lease))
        checkpoints = Checkpointer(
            directory,
            engine=engine,
            table=table,
            identity=run.identity,
            earlier=_earlier(checkpoint, plan),
            phase=plan.phase,
            previous=checkpoint,
            check=_lease_check(run_dir, lease),
        )
        while step < plan.last_step:
            epoch_end = plan.epoch_end(step)
            _begin_epoch(table, plan, step)
            with open_lanes(
                run.corpus, plan, config, run.tokenizer, cursor=plan.cursor_at(step)
            ) as batches:
                while step < epoch_end:
                    beat(f"step {step + 1}")
                    request = max(asked(), requests.pending() if requests else Request.NONE)
                    metrics, request = train_step(
                        engine,
                        table,
                        batches,
                        plan=plan,
                        config=config,
                        step=step,
                        pad_id=run.tokenizer.pad_token_id,
                        stalled=checkpoints.take_waited(),
                        settle=checkpoints.finish,
                        request=request,
                    )
                    step += 1
                    metrics = replace(
                        metrics,
                        checkpoint_step=checkpoints.durable.step,
                        checkpoint_seconds=round(checkpoints.durable.seconds, 4),
                    )
                    if log is not None:
                        log.write(metrics)
                    for sink in own_sinks:
                        sink.write(metrics)
                    checkpoints.poll()
                    is_due = step % config.checkpoint.every_steps == 0 or step == plan.last_step
                    if not is_due and not request:
                        continue
                    if log is not None:
                        log.sync()
                    checkpoints.begin(step, plan.cursor_at(step))
                    if not request:
                        continue
                    beat("the checkpoint that was asked for")
                    checkpoints.settle()
                    if requests is not None:
                        _answer(run_dir, requests, request, step=step, last_step=plan.last_step)
                    if request >= Request.RESTART and step < plan.last_step:
                        return Trained(step, request)
        beat("the last checkpoint")
        checkpoints.finish()
        write_encoding(
            run_dir,
            config=config,
            manifest=run.corpus.manifest,
            plan=plan,
            engine=engine,
            model=run.model,
            num_sites=run.pool.num_sites,
            rows_of=table.read,
            step=step,
            beat=beat,
        )
        checkpoints.drop_previous()
    return Trained(step)


def _answer(
    run_dir: str, requests: RequestReader, request: Request, *, step: int, last_step: int
) -> None:
    """Tells those who asked, and the run's events, of a checkpoint that was asked for."""
    asked = requests.answer() or "the cluster, which takes a machine away"
    follows = {Request.RESTART: "; the workers start anew", Request.STOP: "; training stops"}
    detail = f"asked for by {asked}{follows.get(request, '')}"
    _LOG.info("checkpoint of step %d, %s", step, detail)
    record(run_dir, "checkpoint", detail=detail, step=step, last_step=last_step)


def _tell_start(
    run_dir: str, plan: EncodePlan, checkpoint: CheckpointManifest | None, *, repeated: int
) -> None:
    """Says where training goes on, and what of it is done once more."""
    step, world_size = checkpoint.step if checkpoint else 0, distributed.get_world_size()
    cursor = plan.cursor_at(step)
    source = "from the start"
    if checkpoint is not None:
        size = checkpoint.world_size
        writers = f"{size} workers" if size > 1 else "1 worker"
        source = f"from the checkpoint of step {step}, which {writers} wrote"
    detail = f"{source}: epoch {cursor.epoch}, step {cursor.step} in it, to step {plan.last_step}"
    if repeated:
        detail += f"; {repeated} steps are done again"
    _LOG.info("%d workers train %s", world_size, detail)
    record(
        run_dir,
        "training",
        detail=detail,
        step=step,
        last_step=plan.last_step,
        world_size=world_size,
        repeated=repeated,
    )


def _lease_check(run_dir: str, lease: int | None) -> Callable[[], None]:
    """Returns what raises once another holds the run's lease."""
    if lease is None:
        return lambda: None
    return partial(check_lease, join(run_dir, LEASE_DIRECTORY), lease)


def _earlier(checkpoint: CheckpointManifest | None, plan: EncodePlan) -> tuple[Phase, ...]:
    """Returns the phases that a checkpoint has behind it."""
    phases = checkpoint.phases if checkpoint is not None else ()
    return tuple(phase for phase in phases if phase.first_step < plan.first_step)


def _begin_epoch(table: RowTable[RowsFile], plan: EncodePlan, step: int) -> None:
    """Tells the table which partitions this worker's lanes read from a step on."""
    cursor = plan.cursor_at(step)
    lanes = lanes_of_worker(
        distributed.get_rank(), world_size=distributed.get_world_size(), num_lanes=plan.num_lanes
    )
    table.begin(
        {lane: plan.lane_order(lane, epoch=cursor.epoch) for lane in lanes},
        {lane: cursor.lanes[lane].position for lane in lanes},
    )


def _row_table(run: _Run, run_dir: str, config: Config) -> RowTable[RowsFile]:
    sites, experts = run.pool.num_sites, run.pool.num_experts
    directory = join(run_dir, "checkpoints")
    saved = run.checkpoint.rows if run.checkpoint is not None else {}
    second_moment = config.train.rows_second_moment

    def load(index: int, latest: RowsFile | None) -> RowPartition:
        entry = latest or saved.get(index)
        if entry is not None:
            return load_row_partition(directory, entry)
        added = run.added.get(index)
        if added is not None:
            url = join(encoding_dir(run_dir), added.file)
            return load_rows(url, sha256=added.sha256, second_moment=second_moment)
        partition = run.corpus.manifest.partitions[index]
        part = init_rows(
            partition,
            sites=sites,
            experts=experts,
            std=config.router.init_std,
            seed=config.train.seed,
            second_moment=second_moment,
        )
        removed = np.array(run.corpus.manifest.removed_in(partition), np.int64)
        part.rows[removed - partition.first_id] = 0
        return part

    return RowTable(
        run.corpus.manifest.partitions,
        shape=(sites, experts),
        load=load,
        save=partial(save_row_partition, directory, durable=False),  # Checkpointer syncs
        optimizer=RowAdam(
            lr=config.train.rows_lr,
            betas=(config.train.beta1, config.train.beta2),
            grad_clip=config.train.rows_grad_clip,
        ),
    )
