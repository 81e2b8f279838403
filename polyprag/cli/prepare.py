"""`polyprag prepare`: a passage file becomes the partitions that everything else reads."""

from typing import TYPE_CHECKING

import click

from polyprag.cli.arguments import (
    config_option,
    refuse_bare_override,
    run_argument,
    settings_of,
    split_overrides,
)

if TYPE_CHECKING:
    from sharding.readers import OnError


@click.command("prepare")
@run_argument
@click.argument("arguments", nargs=-1, metavar="SOURCE... [KEY=VALUE]...")
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="At a passage that can't be used: stop with its file and line, or leave it out and "
    "count it.",
)
@click.option("--overwrite", is_flag=True, help="Replace another corpus that is in RUN.")
@config_option
def command(
    run: str,
    arguments: tuple[str, ...],
    on_error: "OnError",
    overwrite: bool,
    configs: tuple[str, ...],
) -> None:
    """Cut passage files into partitions in RUN/corpus.

    A SOURCE is JSON lines with the fields id, title and text (.jsonl, .jsonl.gz), or DPR's
    table with the columns id, text and title (.tsv, .tsv.gz). Paths and URLs both work.

    \b
    Examples:
      polyprag prepare runs/wiki passages.jsonl --config quickstart
      polyprag prepare runs/dpr psgs_w100.tsv.gz --config wikipedia-21m --on-error skip
      polyprag prepare s3://bucket/run part-1.jsonl.gz part-2.jsonl.gz data.partition_size=4096
    """
    from polyprag.config_files import save_config
    from polyprag.progress import progress
    from sharding.files import exists, join
    from sharding.prepare import prepare

    sources, overrides = split_overrides(arguments)
    config = settings_of(run, configs, overrides)
    for source in sources:
        if not exists(source):
            refuse_bare_override(source)
    if not sources:
        raise click.UsageError("name at least one passage file after RUN")
    corpus_dir = join(run, "corpus")
    with progress(None, "preparing", unit="passages") as advance:
        manifest = prepare(
            sources,
            corpus_dir,
            partition_size=config.data.partition_size,
            on_error=on_error,
            overwrite=overwrite,
            progress=advance,
        )
    save_config(config, run)
    for reason, count in manifest.skipped.items():
        click.echo(f"skipped {count:,} passages: {reason}")
    click.echo(
        f"{corpus_dir}: {manifest.num_passages:,} passages in {len(manifest.partitions):,} "
        f"partitions\nnext: polyprag augment {run}"
    )
