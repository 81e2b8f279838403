"""What a command trains next: the first phase (`encode`), or one more (`train-more`)."""

from dataclasses import replace

from cluster.checkpoints.manifest import CheckpointManifest
from cluster.plan.encode_plan import EncodePlan, plan_encoding
from polyprag.config import Config
from polyprag.errors import ConfigError, RunError
from sharding.corpus.manifest import CorpusManifest
from sharding.storage.files import join


def plan_phase(
    run_dir: str,
    config: Config,
    manifest: CorpusManifest,
    checkpoint: CheckpointManifest | None,
    *,
    more: bool,
    is_written: bool,
) -> EncodePlan | None:
    """Plans what is left to train of a run.

    Args:
        run_dir: named in errors.
        config: of the command.
        manifest: of the corpus as it is now.
        checkpoint: the run's, which belongs to this corpus or to a beginning of it.
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
    if checkpoint is None:
        if more:
            raise RunError(f"{run_dir} isn't trained yet; run `polyprag encode {run_dir}` first")
        return plan_encoding(manifest, config, corpus_url=corpus_url)
    phase, is_first = checkpoint.phase, len(checkpoint.phases) == 1
    if checkpoint.is_finished and not is_written:
        # It ended between its last checkpoint and its encoding: that is all that is left to do.
        epochs = replace(config, train=replace(config.train, epochs=phase.epochs))
        return _plan(manifest, epochs, phase.first_step, phase.first_epoch, corpus_url=corpus_url)
    if checkpoint.is_finished and more:
        epoch = phase.first_epoch + phase.epochs
        return _plan(manifest, config, phase.last_step, epoch, corpus_url=corpus_url)
    if checkpoint.is_finished and (not is_first or config.train.epochs == phase.epochs):
        return None
    if more == is_first:
        verb = "encode" if is_first else "train-more"
        raise RunError(
            f"{run_dir} is trained to step {checkpoint.step} of {phase.last_step} of a "
            f"`polyprag {verb}`; run that again first"
        )
    if len(manifest.partitions) > phase.num_partitions:
        raise RunError(
            f"{corpus_url} has {len(manifest.partitions)} partitions and the training of "
            f"{run_dir} is over the first {phase.num_partitions}: "
            + (
                f"run `polyprag train-more {run_dir}` to train all of them"
                if checkpoint.is_finished
                else f"delete {join(run_dir, 'checkpoints')} to train all of them from the start"
            )
        )
    plan = _plan(manifest, config, phase.first_step, phase.first_epoch, corpus_url=corpus_url)
    if checkpoint.step > plan.last_step:
        raise ConfigError(
            f"{run_dir} is trained for {checkpoint.step} steps, and train.epochs="
            f"{config.train.epochs} makes {plan.last_step}; raise train.epochs to go on"
        )
    return plan


def _plan(
    manifest: CorpusManifest, config: Config, first_step: int, first_epoch: int, *, corpus_url: str
) -> EncodePlan:
    return plan_encoding(
        manifest, config, corpus_url=corpus_url, first_step=first_step, first_epoch=first_epoch
    )
