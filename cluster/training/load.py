"""The first act of a training: what a worker holds before the process group works together."""

import logging
from dataclasses import dataclass
from typing import Any

from torch import Tensor, distributed
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cluster.checkpoints.group import WorkerGroup
from cluster.checkpoints.manifest import (
    CheckpointManifest,
    check_cursor,
    check_identity,
    identity_of,
)
from cluster.checkpoints.recovery import recover_together
from cluster.checkpoints.writer import load_expert_state
from cluster.parallel.collectives import bytes_of_first, run_on_all_or_raise
from cluster.plan.steps import EncodePlan, plan_encoding
from polyprag.config import Config
from polyprag.encoding.base import BaseModel, describe_base
from polyprag.encoding.manifest import MANIFEST_NAME, EncodingManifest, RowsPart
from polyprag.encoding.reader import DIVERGED, encoding_dir
from polyprag.errors import RunError, WorkersFailedError
from polyprag.method.base_model import load_base, vocab_size_of
from polyprag.method.experts import ExpertPool, inject
from polyprag.method.finite import names_not_finite
from polyprag.method.support.check import check_experts
from polyprag.method.support.coverage import coverage
from polyprag.method.support.packing import batcher_for
from polyprag.method.teacher.targets import AnswerSource
from polyprag.method.training_batch import Batcher
from polyprag.teaching.reader import open_taught
from sharding.corpus.reader import Corpus
from sharding.storage.cache import cache_for
from sharding.storage.files import exists, join

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A run as a worker has loaded it.

    Attributes:
        directory: of the run.
        group: of the workers that have loaded it.
        config: of the run.
        corpus: of the run.
        plan: of the phase.
        identity: what the run's checkpoints must share.
        checkpoint: that training goes on from; None at the start.
        expert_state: of that checkpoint.
        model: with `pool` injected.
        tokenizer: the base model's.
        base_model: what tells it from others.
        pool: the experts.
        batcher: makes physical batches.
        taught: what the teacher says; None where nothing is learnt of one.
        added: rows of partitions that joined a finished encoding, which no checkpoint has.
    """

    directory: str
    group: WorkerGroup
    config: Config
    corpus: Corpus
    plan: EncodePlan
    identity: dict[str, Any]
    checkpoint: CheckpointManifest | None
    expert_state: dict[str, Tensor] | None
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    base_model: BaseModel
    pool: ExpertPool
    batcher: Batcher
    taught: AnswerSource | None
    added: dict[int, RowsPart]

    @property
    def step(self) -> int:
        """Global steps behind the checkpoint that training goes on from; 0 at the start."""
        return self.checkpoint.step if self.checkpoint is not None else 0

    @property
    def checkpoints_dir(self) -> str:
        """Where the run's checkpoints are."""
        return join(self.directory, "checkpoints")


def load_run(
    run_dir: str, config: Config, *, first_step: int, first_epoch: int, lease: int | None
) -> LoadedRun:
    """Loads a run on every worker of a process group.

    Args:
        run_dir: with a prepared and augmented corpus.
        config: the same on every worker.
        first_step: global steps done before this phase.
        first_epoch: passes over the corpus before this phase.
        lease: the number of the run's lease under which this trains; None: nobody else can.

    Raises:
        PolypragError: on every worker alike, when one of them met a user's error.
    """
    group = _begin_group(run_dir, lease=lease)
    checkpoint = recover_together(group)
    return run_on_all_or_raise(
        lambda: _load(
            group, config, checkpoint=checkpoint, first_step=first_step, first_epoch=first_epoch
        )
    )


def _begin_group(run_dir: str, *, lease: int | None) -> WorkerGroup:
    """Returns the group that these workers are; no group of before writes any more from now on."""

    def begin() -> bytes:
        is_first = distributed.get_rank() == 0
        return WorkerGroup.begin(run_dir, lease=lease).name.encode() if is_first else b""

    name = bytes_of_first(run_on_all_or_raise(begin)).decode()
    return WorkerGroup(run_dir, name, lease)


def _load(
    group: WorkerGroup,
    config: Config,
    *,
    checkpoint: CheckpointManifest | None,
    first_step: int,
    first_epoch: int,
) -> LoadedRun:
    run_dir = group.run_dir
    corpus_url = join(run_dir, "corpus")
    data = config.data
    cache = cache_for(corpus_url, directory=data.cache_dir, max_gb=data.cache_gb)
    corpus = Corpus.open(corpus_url, cache=cache)
    model, tokenizer = load_base(config.model)
    base_model = describe_base(config.model, tokenizer)
    identity = identity_of(config, corpus.manifest, base_model)
    plan = plan_encoding(
        corpus.manifest,
        config,
        corpus_url=corpus_url,
        first_step=first_step,
        first_epoch=first_epoch,
    )
    taught = open_taught(
        run_dir,
        config,
        corpus.manifest,
        base=base_model,
        vocab_size=vocab_size_of(model),
        cache=cache,
        num_lanes=-(-data.lanes // distributed.get_world_size()),
    )
    expert_state = None
    if checkpoint is not None:
        check_identity(checkpoint, identity, run_dir)
        if checkpoint.step < first_step:  # which the driver had planned before it went back
            raise WorkersFailedError(
                f"{run_dir}: went back to the checkpoint of step {checkpoint.step}, of an earlier "
                "phase; the same command goes on from there"
            )
        check_cursor(checkpoint, plan, run_dir)
        expert_state = load_expert_state(join(run_dir, "checkpoints"), checkpoint)
        if wrong := names_not_finite(expert_state.items()):
            directory = join(run_dir, "checkpoints")
            raise RunError(f"{directory}: {wrong[0]!r} of the experts isn't finite; {DIVERGED}")
    pool = inject(model, config.experts, config.router, seed=config.train.seed)
    check_experts(model, pool)
    if distributed.get_rank() == 0:
        found = coverage(model, pool)
        _LOG.info("%s", found.text())
        if (warning := found.warning()) is not None:
            _LOG.warning("%s", warning)
    return LoadedRun(
        directory=run_dir,
        group=group,
        config=config,
        corpus=corpus,
        plan=plan,
        identity=identity,
        checkpoint=checkpoint,
        expert_state=expert_state,
        model=model,
        tokenizer=tokenizer,
        base_model=base_model,
        pool=pool,
        batcher=batcher_for(model, pool, config, tokenizer),
        taught=taught,
        added=_added_rows(run_dir) if checkpoint is not None else {},
    )


def _added_rows(run_dir: str) -> dict[int, RowsPart]:
    directory = encoding_dir(run_dir)
    if not exists(join(directory, MANIFEST_NAME)):
        return {}
    return {part.index: part for part in EncodingManifest.load(directory).parts if not part.joint}
