"""The phases of a run: what one is, and which one a command trains next.

A run is trained in one phase by `encode`, and in one more by each `train-more`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from polyprag.config import Config
from polyprag.errors import ConfigError, RunError
from sharding.corpus.manifest import CorpusManifest
from sharding.storage.files import join
from sharding.storage.versioned import Natural, Stored

if TYPE_CHECKING:
    from cluster.plan.steps import EncodePlan


class Phase(Stored, frozen=True):
    """A stretch of joint training over a corpus as it was then, as checkpoints record it.

    Attributes:
        first_step: global steps done before it.
        last_step: global steps done after it.
        first_epoch: passes over the corpus before it.
        epochs: passes in it.
        num_partitions: of the corpus.
    """

    first_step: Natural
    last_step: Natural
    first_epoch: Natural
    epochs: Natural
    num_partitions: Natural

    @classmethod
    def of(cls, plan: "EncodePlan") -> "Phase":
        """Returns the phase that a plan is for."""
        return cls(
            plan.first_step, plan.last_step, plan.first_epoch, plan.epochs, len(plan.examples)
        )


def phases_up_to(plan: "EncodePlan", recorded: Sequence[Phase]) -> tuple[Phase, ...]:
    """Returns the phases before a plan's own, and its own.

    Args:
        plan: what is being trained.
        recorded: the phases of the run's last checkpoint, which may have the plan's own already.
    """
    before = (phase for phase in recorded if phase.first_step < plan.first_step)
    return (*before, Phase.of(plan))


def plan_phase(
    run_dir: str,
    config: Config,
    manifest: CorpusManifest,
    *,
    step: int,
    phases: Sequence[Phase],
    more: bool,
    is_written: bool,
) -> "EncodePlan | None":
    """Plans what is left to train of a run.

    Args:
        run_dir: named in errors.
        config: of the command.
        manifest: of the corpus as it is now.
        step: of the run's checkpoint, which belongs to this corpus or to a beginning of it.
        phases: of the same checkpoint; empty where there is none.
        more: whether training goes on after a phase that is finished, for `train.epochs` more
            passes over the corpus.
        is_written: whether RUN/encoding is that of the checkpoint.

    Returns:
        The plan; None where all is trained that the command asks for.

    Raises:
        RunError: the corpus isn't augmented, or another command must be run first.
        ConfigError: `train.epochs` contradicts what is trained already.
    """
    corpus_url = join(run_dir, "corpus")
    if not phases:
        if more:
            raise RunError(f"{run_dir} isn't trained yet; run `polyprag encode {run_dir}` first")
        return _plan(manifest, config, 0, 0, corpus_url=corpus_url)
    phase, is_first = phases[-1], len(phases) == 1
    is_finished = step >= phase.last_step
    if is_finished and not is_written:
        # It ended between its last checkpoint and its encoding: that is all that is left to do.
        epochs = replace(config, train=replace(config.train, epochs=phase.epochs))
        return _plan(manifest, epochs, phase.first_step, phase.first_epoch, corpus_url=corpus_url)
    if is_finished and more:
        epoch = phase.first_epoch + phase.epochs
        return _plan(manifest, config, phase.last_step, epoch, corpus_url=corpus_url)
    if is_finished and (not is_first or config.train.epochs == phase.epochs):
        return None
    if more == is_first:
        verb = "encode" if is_first else "train-more"
        raise RunError(
            f"{run_dir} is trained to step {step} of {phase.last_step} of a "
            f"`polyprag {verb}`; run that again first"
        )
    if len(manifest.partitions) > phase.num_partitions:
        raise RunError(
            f"{corpus_url} has {len(manifest.partitions)} partitions and the training of "
            f"{run_dir} is over the first {phase.num_partitions}: "
            + (
                f"run `polyprag train-more {run_dir}` to train all of them"
                if is_finished
                else f"delete {join(run_dir, 'checkpoints')} to train all of them from the start"
            )
        )
    plan = _plan(manifest, config, phase.first_step, phase.first_epoch, corpus_url=corpus_url)
    if step > plan.last_step:
        raise ConfigError(
            f"{run_dir} is trained for {step} steps, and train.epochs="
            f"{config.train.epochs} makes {plan.last_step}; raise train.epochs to go on"
        )
    return plan


def _plan(
    manifest: CorpusManifest, config: Config, first_step: int, first_epoch: int, *, corpus_url: str
) -> "EncodePlan":
    # Imported here: a checkpoint's manifest has phases, and is to be read without the method.
    from cluster.plan.steps import plan_encoding

    return plan_encoding(
        manifest, config, corpus_url=corpus_url, first_step=first_step, first_epoch=first_epoch
    )
