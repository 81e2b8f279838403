"""The first act of a training: what a worker holds before the process group works together."""

import logging
from dataclasses import dataclass
from typing import Any

from torch import Tensor, distributed
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cluster.checkpoints.files import recover
from cluster.checkpoints.manifest import CheckpointManifest, check_identity, identity_of
from cluster.checkpoints.writer import load_expert_state
from cluster.parallel.collectives import run_on_all_or_raise
from cluster.plan.steps import EncodePlan, plan_encoding
from polyprag.config import Config
from polyprag.encoding.manifest import MANIFEST_NAME, EncodingManifest, RowsPart, describe_base
from polyprag.encoding.reader import encoding_dir
from polyprag.method.base_model import load_base
from polyprag.method.experts import ExpertPool, inject
from polyprag.method.support.check import check_experts
from polyprag.method.support.coverage import coverage
from sharding.corpus.reader import Corpus
from sharding.storage.cache import cache_for
from sharding.storage.files import exists, join

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A run as a worker has loaded it.

    Attributes:
        directory: of the run.
        config: of the run.
        corpus: of the run.
        plan: of the phase.
        identity: what the run's checkpoints must share.
        checkpoint: that training goes on from; None at the start.
        expert_state: of that checkpoint.
        model: with `pool` injected.
        tokenizer: the base model's.
        pool: the experts.
        added: rows of partitions that joined a finished encoding, which no checkpoint has.
    """

    directory: str
    config: Config
    corpus: Corpus
    plan: EncodePlan
    identity: dict[str, Any]
    checkpoint: CheckpointManifest | None
    expert_state: dict[str, Tensor] | None
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pool: ExpertPool
    added: dict[int, RowsPart]

    @property
    def step(self) -> int:
        """Global steps behind the checkpoint that training goes on from; 0 at the start."""
        return self.checkpoint.step if self.checkpoint is not None else 0

    @property
    def checkpoints_dir(self) -> str:
        """Where the run's checkpoints are."""
        return join(self.directory, "checkpoints")


def load_run(run_dir: str, config: Config, *, first_step: int, first_epoch: int) -> LoadedRun:
    """Loads a run on every worker of a process group.

    Args:
        run_dir: with a prepared and augmented corpus.
        config: the same on every worker.
        first_step: global steps done before this phase.
        first_epoch: passes over the corpus before this phase.

    Raises:
        PolypragError: on every worker alike, when one of them met a user's error.
    """
    # Worker 0 makes sure that the checkpoint that all go on from is whole.
    run_on_all_or_raise(lambda: recover(run_dir) if distributed.get_rank() == 0 else None)
    return run_on_all_or_raise(
        lambda: _load(run_dir, config, first_step=first_step, first_epoch=first_epoch)
    )


def _load(run_dir: str, config: Config, *, first_step: int, first_epoch: int) -> LoadedRun:
    corpus_url, checkpoints_dir = join(run_dir, "corpus"), join(run_dir, "checkpoints")
    data = config.data
    cache = cache_for(corpus_url, directory=data.cache_dir, max_gb=data.cache_gb)
    corpus = Corpus.open(corpus_url, cache=cache)
    model, tokenizer = load_base(config.model)
    identity = identity_of(config, corpus.manifest, describe_base(model, config.model))
    checkpoint = CheckpointManifest.load(checkpoints_dir)
    expert_state = None
    if checkpoint is not None:
        check_identity(checkpoint, identity, run_dir)
        expert_state = load_expert_state(checkpoints_dir, checkpoint)
    plan = plan_encoding(
        corpus.manifest,
        config,
        corpus_url=corpus_url,
        first_step=first_step,
        first_epoch=first_epoch,
    )
    pool = inject(model, config.experts, config.router, seed=config.train.seed)
    check_experts(model, pool)
    if distributed.get_rank() == 0:
        found = coverage(model, pool)
        _LOG.info("%s", found.text())
        if (warning := found.warning()) is not None:
            _LOG.warning("%s", warning)
    return LoadedRun(
        directory=run_dir,
        config=config,
        corpus=corpus,
        plan=plan,
        identity=identity,
        checkpoint=checkpoint,
        expert_state=expert_state,
        model=model,
        tokenizer=tokenizer,
        pool=pool,
        added=_added_rows(run_dir) if checkpoint is not None else {},
    )


def _added_rows(run_dir: str) -> dict[int, RowsPart]:
    directory = encoding_dir(run_dir)
    if not exists(join(directory, MANIFEST_NAME)):
        return {}
    return {part.index: part for part in EncodingManifest.load(directory).parts if not part.joint}
