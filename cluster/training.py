"""Training an encoding from its checkpoint to its end, in a process group of any size."""

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, distributed
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cluster.checkpoint import load_expert_state, load_row_partition, save_checkpoint
from cluster.checkpoint_manifest import CheckpointManifest, check_identity, identity_of
from cluster.collectives import together
from cluster.engine import ExpertEngine
from cluster.finish import write_encoding
from cluster.lane_reader import open_lanes
from cluster.metrics import MetricsLog
from cluster.plan import EncodePlan, plan_encoding
from cluster.step import train_step
from cluster.worker_rows import WorkerRows
from polyprag.base_model import load_base
from polyprag.config import Config
from polyprag.encoding_manifest import describe_base
from polyprag.experts import ExpertPool, inject
from polyprag.row_optimizer import RowAdam
from sharding.cache import cache_for
from sharding.corpus import Corpus
from sharding.files import join
from sharding.rows import RowPartition, init_rows

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


def _load(run_dir: str, config: Config) -> _Run:
    corpus_url, directory = join(run_dir, "corpus"), join(run_dir, "checkpoints")
    data = config.data
    cache = cache_for(corpus_url, directory=data.cache_dir, max_gb=data.cache_gb)
    corpus = Corpus.open(corpus_url, cache=cache)
    manifest = corpus.manifest
    plan = plan_encoding(manifest, config, corpus_url=corpus_url)
    model, tokenizer = load_base(config.model)
    identity = identity_of(config, manifest, describe_base(model, config.model))
    checkpoint = CheckpointManifest.load(directory)
    state = None
    if checkpoint is not None:
        check_identity(checkpoint, identity, run_dir)
        state = load_expert_state(directory, checkpoint)
    pool = inject(model, config.experts, config.router, seed=config.train.seed)
    return _Run(corpus, plan, identity, checkpoint, state, model, tokenizer, pool)


def train_encoding(run_dir: str, config: Config) -> int:
    """Trains an encoding to its end, resuming from the run's checkpoint where there is one.

    Call it on every worker of an initialised process group.

    Args:
        run_dir: with a prepared and augmented corpus.
        config: the same on every worker.

    Returns:
        The global steps that the encoding is trained for.

    Raises:
        PolypragError: on every worker alike, when one of them met a user's error.
    """
    run = together(lambda: _load(run_dir, config))
    plan, checkpoint = run.plan, run.checkpoint
    directory = join(run_dir, "checkpoints")
    step = checkpoint.step if checkpoint else 0
    engine = ExpertEngine(run.model, run.pool, config)
    if run.expert_state is None:
        engine.set_optimizer_step(0)
    else:
        engine.import_state(run.expert_state, step=step)
    rows = _worker_rows(run, config, directory)
    _LOG.info(
        "worker %d of %d trains from step %d to %d",
        distributed.get_rank(),
        distributed.get_world_size(),
        step,
        plan.total_steps,
    )
    with ExitStack() as stack:
        log = None
        if distributed.get_rank() == 0:
            log = MetricsLog(join(run_dir, "logs"), resumed_step=step)
            stack.callback(log.close)
        while step < plan.total_steps:
            epoch_end = (step // plan.steps_per_epoch + 1) * plan.steps_per_epoch
            with open_lanes(
                run.corpus, plan, config, run.tokenizer, cursor=plan.cursor_at(step)
            ) as batches:
                while step < epoch_end:
                    metrics = train_step(
                        engine,
                        rows,
                        batches,
                        plan=plan,
                        config=config,
                        step=step,
                        pad_id=run.tokenizer.pad_token_id,
                    )
                    step += 1
                    if log is not None:
                        log.write(metrics)
                    if step % config.checkpoint.every_steps and step < plan.total_steps:
                        continue
                    if log is not None:
                        log.sync()
                    checkpoint = save_checkpoint(
                        directory,
                        engine=engine,
                        rows=rows,
                        step=step,
                        cursor=plan.cursor_at(step),
                        identity=run.identity,
                        previous=checkpoint,
                    )
    write_encoding(
        run_dir,
        config=config,
        manifest=run.corpus.manifest,
        plan=plan,
        engine=engine,
        model=run.model,
        num_sites=run.pool.num_sites,
        rows_of=rows.part,
        step=step,
    )
    return step


def _worker_rows(run: _Run, config: Config, directory: str) -> WorkerRows:
    sites, experts = run.pool.num_sites, run.pool.num_experts

    def load(index: int) -> RowPartition:
        if run.checkpoint is not None:
            saved = load_row_partition(directory, run.checkpoint, index)
            if saved is not None:
                return saved
        return init_rows(
            run.corpus.manifest.partitions[index],
            sites=sites,
            experts=experts,
            std=config.router.init_std,
            seed=config.train.seed,
        )

    optimizer = RowAdam(lr=config.train.rows_lr, betas=(config.train.beta1, config.train.beta2))
    return WorkerRows(run.corpus.manifest, shape=(sites, experts), load=load, optimizer=optimizer)
