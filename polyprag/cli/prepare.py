"""`polyprag prepare`: passage files become the partitions that everything else reads."""

from typing import TYPE_CHECKING

import click

from polyprag.cli.arguments import (
    config_option,
    keep_settings,
    run_argument,
    settings_of,
    show_left_out,
    show_skipped,
    sources_and_overrides,
    with_checked_model,
)
from polyprag.cli.lease import hold_lease
from polyprag.cli.output import echo
from polyprag.cli.workers import is_on_ray, ray_option, task_pool, workers_option

if TYPE_CHECKING:
    from sharding.ingest.fields.heads import Quoting
    from sharding.ingest.rows import OnError


@click.command("prepare")
@run_argument
@click.argument("arguments", nargs=-1, metavar="SOURCE... [KEY=VALUE]...")
@workers_option
@ray_option
@click.option(
    "--map",
    "field_map",
    metavar="FIELD=NAME,...",
    help="The source's names for id, title and text, where they aren't recognised: text=story. "
    "`title=` says that there are no titles.",
)
@click.option(
    "--chunk-words",
    type=click.IntRange(min=1),
    metavar="N",
    help="Cut texts into passages of N words with the text's title. A last one of less than N/2 "
    "words stays with the passage before it. The passages of a cut text get the ids ID#1, ID#2 "
    "and so on. Documents are always cut, along their headings: about N words, by default 100.",
)
@click.option(
    "--drop-duplicates",
    is_flag=True,
    help="Keep only the first of passages with the same title and text.",
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="At a passage that can't be used: stop with its file and line, or leave it out and "
    "count it. A damaged file always stops.",
)
@click.option(
    "--quoting",
    type=click.Choice(["csv", "none"]),
    default="csv",
    show_default=True,
    help="What a quote is in tables: `csv`, where a field may be quoted and span lines, or "
    "`none`, a character like any other.",
)
@click.option("--overwrite", is_flag=True, help="Replace another corpus that is in RUN.")
@config_option
def command(
    run: str,
    arguments: tuple[str, ...],
    workers: int | None,
    use_ray: bool,
    field_map: str | None,
    chunk_words: int | None,
    drop_duplicates: bool,
    on_error: "OnError",
    quoting: "Quoting",
    overwrite: bool,
    configs: tuple[str, ...],
) -> None:
    """Cut documents or passage files into partitions in RUN/corpus.

    A SOURCE is JSON (.jsonl, .ndjson, .json), a table (.csv, .tsv), WebDataset's shards of
    .json or .txt members (.tar), each also as .gz or .zst, a Parquet or Arrow file, a directory
    that `datasets` saved, or a directory or a glob of such files. Paths and URLs both work.
    Which fields are id, title and text is recognised; where there is no id, one is made. Or
    it is a document, or a folder of documents: Markdown, plain text, reStructuredText or HTML
    (.md, .txt, .rst, .html), which is cut along its headings into passages of about 100 words.

    Ids and partitions don't depend on the number of workers. While it runs, RUN/corpus/work
    takes about as much room as the partitions.

    \b
    Examples:
      polyprag prepare runs/handbook handbook/
      polyprag prepare runs/wiki passages.jsonl --config quickstart
      polyprag prepare runs/dpr psgs_w100.tsv.gz --config wikipedia-21m
      polyprag prepare runs/beir corpus.jsonl.zst --drop-duplicates
      polyprag prepare runs/squad train-v2.0.json
      polyprag prepare runs/pages 'shards/pages-*.tar' --map text=caption,title=
      polyprag prepare runs/pages 'pages/*.parquet' --chunk-words 100 --workers 16
      polyprag prepare s3://bucket/run s3://bucket/passages --ray --on-error skip
    """
    from polyprag.encoding.lanes import empty_lanes
    from polyprag.progress import progress
    from sharding.counted import counted
    from sharding.ingest.fields.field_map import parse_field_map
    from sharding.ingest.folders import LeftOut
    from sharding.ingest.parse_input import SPLIT_BYTES
    from sharding.ingest.prepare import prepare
    from sharding.ingest.sources import expand, num_parts
    from sharding.storage.files import join
    from sharding.storage.urls import absolute

    sources, overrides = sources_and_overrides(arguments)
    config = settings_of(run, configs, overrides)
    if not sources:
        raise click.UsageError("name at least one passage file after RUN")
    fields = parse_field_map(field_map) if field_map is not None else None
    config = with_checked_model(config)
    on_ray = is_on_ray(config.cluster, use_ray)
    place = absolute if on_ray else str  # workers of a cluster run in other directories
    left_out = LeftOut()
    unread: dict[str, str] = {}
    files = expand(sources, left_out, fields=fields)
    at_most = None if on_ray else num_parts(files, part_bytes=SPLIT_BYTES)
    hold_lease(run, "prepare", new=True)
    with task_pool(config.cluster, workers, on_ray=on_ray, at_most=at_most) as pool:
        manifest = prepare(
            [place(source) for source in sources],
            place(join(run, "corpus")),
            partition_size=config.data.partition_size,
            fields=fields,
            chunk_words=chunk_words,
            drop_duplicates=drop_duplicates,
            on_error=on_error,
            quoting=quoting,
            overwrite=overwrite,
            pool=pool,
            show=progress,
            unread=unread,
        )
    keep_settings(config, run)
    show_left_out(left_out)
    show_skipped(manifest.skipped, unread)
    empty = empty_lanes(
        config, num_passages=manifest.num_passages, num_partitions=len(manifest.partitions)
    )
    if empty is not None:
        echo(f"note: {empty}", err=True)
    echo(
        f"{join(run, 'corpus')}: {counted(manifest.num_passages, 'passage')} in "
        f"{counted(len(manifest.partitions), 'partition')}\nnext: polyprag augment {run}"
    )
