"""`polyprag augment`: rewrites and question-answer pairs for every passage."""

import click

from polyprag.cli.arguments import config_option, only_overrides, overrides_argument, run_argument
from polyprag.cli.lease import hold_lease
from polyprag.cli.output import echo
from polyprag.cli.workers import augmenters, is_on_ray, ray_option, task_pool, workers_option


@click.command("augment")
@run_argument
@overrides_argument
@workers_option
@ray_option
@config_option
def command(
    run: str,
    arguments: tuple[str, ...],
    workers: int | None,
    use_ray: bool,
    configs: tuple[str, ...],
) -> None:
    """Write rewrites and question-answer pairs for each passage.

    They are kept in the partitions of RUN/corpus. augment.backend says who writes them:
    rules (no model, on any number of workers), hf (a local causal LM) or openai (an
    OpenAI-compatible endpoint); the last two work in this process.

    \b
    Examples:
      polyprag augment runs/wiki
      polyprag augment runs/wiki --workers 16
      polyprag augment runs/wiki augment.backend=hf augment.model=meta-llama/Llama-3.2-1B-Instruct
      polyprag augment runs/wiki augment.backend=openai augment.model=my-model \\
          augment.base_url=http://127.0.0.1:8000/v1
    """
    from polyprag.augment.corpus import augment_corpus, num_without_augmentation
    from polyprag.cli.arguments import settings_of
    from polyprag.config.files import save_config
    from polyprag.progress import progress
    from sharding.corpus.manifest import CorpusManifest
    from sharding.storage.files import join
    from sharding.storage.urls import absolute

    config = settings_of(run, configs, only_overrides(arguments))
    is_parallel = config.augment.backend == "rules"
    if not is_parallel and (workers or use_ray):
        raise click.UsageError(
            f"augment.backend={config.augment.backend} works in this process: leave --workers and "
            "--ray away, or choose augment.backend=rules"
        )
    corpus_dir = join(run, "corpus")
    num_passages = CorpusManifest.load(corpus_dir).num_passages
    on_ray = is_parallel and is_on_ray(config.cluster, use_ray)
    hold_lease(run, "augment")
    at_most = augmenters(num_passages) if is_parallel else 1
    with (
        progress(num_passages, "augmenting", unit="passages") as advance,
        task_pool(config.cluster, workers, on_ray=on_ray, at_most=at_most) as pool,
    ):
        place = absolute(run) if on_ray else run
        manifest = augment_corpus(place, config, progress=advance, pool=pool)
    save_config(config, run)
    without = num_without_augmentation(manifest)
    echo(
        f"{corpus_dir}: {manifest.num_passages:,} passages augmented, {without:,} of them without "
        f"any rewrite or question\nnext: polyprag encode {run}"
    )
