"""`polyprag teach`: what the base model says with the passages in its prompt, kept for training."""

from typing import TYPE_CHECKING

import click

from polyprag.cli.arguments import (
    config_option,
    json_option,
    keep_settings,
    only_overrides,
    overrides_argument,
    run_argument,
    settings_of,
    show_result,
)
from polyprag.cli.lease import hold_lease
from polyprag.cli.output import echo
from polyprag.cli.workers import gpu_pool, is_on_ray, ray_option, task_pool, workers_option

if TYPE_CHECKING:
    from polyprag.config import Config
    from sharding.corpus.manifest import CorpusManifest

_PASSAGES_WORTH_A_PROCESS = 100  # each loads the base model


@click.command("teach")
@run_argument
@overrides_argument
@workers_option
@ray_option
@config_option
@json_option
def command(
    run: str,
    arguments: tuple[str, ...],
    workers: int | None,
    use_ray: bool,
    configs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Ask the base model with each passage in its prompt.

    Where train.objective is distill or both, passages learn to make the model say without
    them what it says with them. Asks the questions in RUN/corpus, writes the answers that
    are missing (train.teacher_answers=all: every answer), and keeps the likeliest
    train.teacher_top_k tokens at each token of an answer in RUN/teacher. Asks only what it
    hasn't asked before.

    `polyprag encode`, `add` and `train-more` do this by themselves. Run it before them to
    do it on other machines, or to look at what it costs.

    \b
    Examples:
      polyprag teach runs/wiki train.objective=distill
      polyprag teach runs/wiki train.objective=both --ray
      polyprag teach runs/wiki train.objective=distill train.teacher_answers=all
    """
    from polyprag.errors import ConfigError
    from polyprag.progress import progress
    from polyprag.teaching.counts import TaughtCounts
    from polyprag.teaching.manifest import needs_teacher, teacher_dir
    from polyprag.teaching.teach import teach_corpus
    from sharding.corpus.manifest import CorpusManifest
    from sharding.storage.files import join
    from sharding.storage.urls import absolute

    config = settings_of(run, configs, only_overrides(arguments))
    corpus = CorpusManifest.load(join(run, "corpus"))
    if not needs_teacher(config, corpus):
        raise ConfigError(
            "train.objective=answers learns from no teacher, and every question has its answer: "
            "set train.objective=distill or both, or train.teacher_answers=all"
        )
    on_ray = is_on_ray(config.cluster, use_ray)
    hold_lease(run, "teach")
    _check_continues(run, config, corpus)
    at_most = max(1, corpus.num_passages // _PASSAGES_WORTH_A_PROCESS)
    with task_pool(config.cluster, workers, on_ray=on_ray, at_most=at_most) as pool:
        if on_ray:
            pool = gpu_pool(config.cluster, workers) or pool
        place = absolute(run) if on_ray else run
        manifest = teach_corpus(place, config, pool=pool, show=progress)
    keep_settings(config, run)
    counts = TaughtCounts.of(manifest)
    show_result(
        as_json,
        {"teacher": teacher_dir(run), **counts.fields()},
        f"{teacher_dir(run)}: {counts.text()}\nnext: polyprag encode {run}",
    )
    if (advice := counts.advice(config)) is not None:
        echo(f"warning: {advice}", err=True)


def _check_continues(run: str, config: "Config", corpus: "CorpusManifest") -> None:
    """Refuses settings under which `encode` wouldn't go on from the run's checkpoint.

    Raises:
        ConfigError: names the first setting that differs.
    """
    from cluster.checkpoints.manifest import CheckpointManifest, check_identity, identity_of
    from polyprag.encoding.base import describe_base
    from polyprag.method.base_model import load_tokenizer
    from sharding.storage.files import join

    checkpoint = CheckpointManifest.load(join(run, "checkpoints"))
    if checkpoint is not None:
        base = describe_base(config.model, load_tokenizer(config.model))
        check_identity(checkpoint, identity_of(config, corpus, base), run)
