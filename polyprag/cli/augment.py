"""`polyprag augment`: rewrites and question-answer pairs for every passage."""

import click

from polyprag.cli.arguments import config_option, only_overrides, overrides_argument, run_argument


@click.command("augment")
@run_argument
@overrides_argument
@config_option
def command(run: str, arguments: tuple[str, ...], configs: tuple[str, ...]) -> None:
    """Write rewrites and question-answer pairs for each passage.

    They are kept in the partitions of RUN/corpus. augment.backend says who writes them:
    rules (no model), hf (a local causal LM) or openai (an OpenAI-compatible endpoint).

    \b
    Examples:
      polyprag augment runs/wiki
      polyprag augment runs/wiki augment.backend=hf augment.model=meta-llama/Llama-3.2-1B-Instruct
      polyprag augment runs/wiki augment.backend=openai augment.model=my-model \\
          augment.base_url=http://127.0.0.1:8000/v1
    """
    from polyprag.augment.corpus import augment_corpus, num_without_augmentation
    from polyprag.cli.arguments import settings_of
    from polyprag.config_files import save_config
    from polyprag.progress import progress
    from sharding.files import join
    from sharding.manifest import CorpusManifest

    config = settings_of(run, configs, only_overrides(arguments))
    corpus_dir = join(run, "corpus")
    num_passages = CorpusManifest.load(corpus_dir).num_passages
    with progress(num_passages, "augmenting", unit="passages") as advance:
        manifest = augment_corpus(run, config, progress=advance)
    save_config(config, run)
    without = num_without_augmentation(manifest)
    click.echo(
        f"{corpus_dir}: {manifest.num_passages:,} passages augmented, {without:,} of them without "
        f"any rewrite or question\nnext: polyprag encode {run}"
    )
