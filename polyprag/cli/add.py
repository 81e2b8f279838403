"""`polyprag add`: new passages join a run whose training is over."""

from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import click

from polyprag.cli.arguments import (
    allow_bare_option,
    config_option,
    keep_settings,
    run_argument,
    settings_of,
    show_left_out,
    show_skipped,
    sources_and_overrides,
)
from polyprag.cli.lease import hold_lease
from polyprag.cli.output import echo
from polyprag.cli.workers import (
    is_on_ray,
    ray_option,
    task_pool,
    workers_option,
    writing_pool,
)
from sharding.counted import counted
from sharding.printable import printable

if TYPE_CHECKING:
    from polyprag.config import Config
    from sharding.ingest.fields.heads import Quoting
    from sharding.ingest.rows import OnError
    from sharding.task_pool import TaskPool

_IDS_IN_A_LINE = 50
_ROWS_WORTH_A_PROCESS = 100  # about what is trained while one starts and loads a small model


class OpenPool(Protocol):
    """Opens workers for a step."""

    def __call__(self, *, at_most: int | None) -> "AbstractContextManager[TaskPool]":
        """At most so many local ones have something to do."""
        ...


class OpenWriters(Protocol):
    """Opens workers that write about passages."""

    def __call__(self, *, backend: str, num_passages: int) -> "AbstractContextManager[TaskPool]":
        """See `writing_pool`."""
        ...


@click.command("add")
@run_argument
@click.argument("arguments", nargs=-1, metavar="[SOURCE]... [KEY=VALUE]...")
@workers_option
@ray_option
@click.option(
    "--map",
    "field_map",
    metavar="FIELD=NAME,...",
    help="The source's names for id, title and text. By default, as for all options up to "
    "--drop-duplicates, what `polyprag prepare` was given.",
)
@click.option(
    "--chunk-words",
    type=click.IntRange(min=0),
    metavar="N",
    help="Cut texts into passages of N words; 0 leaves them whole (and documents at 100).",
)
@click.option(
    "--drop-duplicates/--keep-duplicates",
    default=None,
    help="Whether passages with the title and text of another one are left out.",
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="At a passage that can't be used, or whose id RUN has with another text: stop with its "
    "file and line, or leave it out and count it. A damaged file always stops.",
)
@click.option(
    "--quoting",
    type=click.Choice(["csv", "none"]),
    help="What a quote is in tables: `csv`, where a field may be quoted and span lines, or "
    "`none`, a character like any other.",
)
@allow_bare_option
@config_option
def command(
    run: str,
    arguments: tuple[str, ...],
    workers: int | None,
    use_ray: bool,
    field_map: str | None,
    chunk_words: int | None,
    drop_duplicates: bool | None,
    on_error: "OnError",
    quoting: "Quoting | None",
    allow_bare: bool,
    configs: tuple[str, ...],
) -> None:
    """Add passages to RUN: to its corpus, encoding and index.

    The SOURCEs are read as by `polyprag prepare`, and become new partitions; their rewrites
    and questions are written as those of the others were. If RUN is encoded, their routing
    rows are trained with the experts as they are (add.* says how), and join the encoding. If
    RUN has an index, it grows. Nothing that is there is written anew.

    Passages that RUN has already are passed over. Those that an edited document no longer has, and
    those of documents that are gone from a SOURCE folder, are named, and stay until
    `polyprag remove`. So the same command goes on after an
    interruption; without a SOURCE it only does what RUN still lacks. `polyprag train-more`
    trains the new passages together with all others instead.

    \b
    Examples:
      polyprag add runs/wiki new.jsonl
      polyprag add runs/wiki 'news/*.jsonl.gz' --on-error skip --workers 8
      polyprag add runs/wiki new.jsonl add.steps=100
      polyprag add runs/wiki
    """
    from cluster.checkpoints.edit import check_finished
    from polyprag.encoding.base_check import check_run_base
    from sharding.corpus.manifest import CorpusManifest
    from sharding.storage.files import join
    from sharding.storage.urls import absolute

    sources, overrides = sources_and_overrides(arguments)
    config = settings_of(run, configs, overrides)
    CorpusManifest.load(join(run, "corpus"))  # says so where there is nothing to add to
    hold_lease(run, "add")
    check_finished(run)
    check_run_base(run, config)  # before the corpus has grown
    on_ray = is_on_ray(config.cluster, use_ray)
    place = absolute if on_ray else str  # workers of a cluster run in other directories
    with ExitStack() as stack:
        if on_ray:
            from cluster.ray.session import ray_session

            stack.enter_context(ray_session(config.cluster))  # one for all steps
        work = partial(task_pool, config.cluster, workers, on_ray=on_ray)
        if sources:
            options = {
                "field_map": field_map,
                "chunk_words": chunk_words,
                "drop_duplicates": drop_duplicates,
                "on_error": on_error,
                "quoting": quoting,
            }
            _append(place(run), [place(source) for source in sources], options, work)
        writing = partial(writing_pool, config.cluster, workers, on_ray=on_ray)
        _augment(place(run), config, writing, allow_bare=allow_bare)
        _train(place(run), config, work, allow_bare=allow_bare)
    _index(run, config)
    keep_settings(config, run)
    echo(f"next: polyprag {_next(run)}")


def _append(run: str, sources: list[str], options: dict[str, Any], work: "OpenPool") -> None:
    """Makes new partitions."""
    from polyprag.progress import progress
    from sharding.change.growth import append_passages, known_fields
    from sharding.ingest.fields.field_map import parse_field_map
    from sharding.ingest.folders import LeftOut
    from sharding.ingest.parse_input import SPLIT_BYTES
    from sharding.ingest.sources import expand, num_parts
    from sharding.storage.files import join

    field_map = options.pop("field_map")
    left_out = LeftOut()
    given = parse_field_map(field_map) if field_map is not None else None
    files = expand(sources, left_out, fields=given or known_fields(join(run, "corpus")))
    with work(at_most=num_parts(files, part_bytes=SPLIT_BYTES)) as pool:
        grown = append_passages(
            join(run, "corpus"),
            sources,
            fields=given,
            pool=pool,
            show=progress,
            **options,
        )
    show_left_out(left_out)
    show_skipped(grown.skipped, grown.unread)
    there = f", {grown.num_there:,} were there already" if grown.num_there else ""
    ids = f" (ids from {grown.first_id} on)" if grown.num_added else ""
    echo(
        f"{join(run, 'corpus')}: {counted(grown.num_added, 'passage')} added{ids}{there}; "
        f"{grown.manifest.num_passages:,} in all"
    )
    if grown.outdated:
        _name_outdated(run, grown.outdated)


def _name_outdated(run: str, ids: list[int]) -> None:
    """Says which passages are of earlier versions of the documents, and how they go."""
    from sharding.corpus.reader import Corpus
    from sharding.storage.files import atomic_write, join

    corpus = Corpus.open(join(run, "corpus"))
    which = f"--ids {','.join(map(str, ids))}"
    if len(ids) > _IDS_IN_A_LINE:
        file_name = join(run, "outdated-keys.txt")
        with atomic_write(file_name, "w") as file:
            file.writelines(f"{corpus.record(number).passage.key}\n" for number in ids)
        which = f"--keys-file {file_name}"
    echo(
        f"{counted(len(ids), 'passage')} not in the documents any more (edited, or gone), such as "
        f"{printable(corpus.record(ids[0]).passage.key)}; until this they stay, and answer: "
        f"polyprag remove {run} {which}"
    )


def _augment(run: str, config: "Config", writing: "OpenWriters", *, allow_bare: bool) -> None:
    """Writes about new passages; those that stay open are an error unless the user lets them go."""
    from polyprag.augment.corpus import OpenPassagesError
    from polyprag.augment.settings import recorded_settings
    from polyprag.growth.extend import augment_new, what_is_lacking
    from polyprag.progress import progress
    from sharding.corpus.manifest import CorpusManifest
    from sharding.storage.files import join

    number = what_is_lacking(run).augmentation
    recorded = recorded_settings(CorpusManifest.load(join(run, "corpus")))
    if not number or recorded is None:
        return
    with writing(backend=str(recorded.get("backend")), num_passages=number) as pool:
        try:
            augment_new(run, config, lets_go=allow_bare, pool=pool, show=progress)
        except OpenPassagesError as error:
            if not allow_bare:
                raise
            _note(str(error))


def _train(run: str, config: "Config", work: "OpenPool", *, allow_bare: bool) -> None:
    """Trains rows of new passages, if the others have some."""
    from polyprag.growth.extend import check_new_bare, train_new_rows, what_is_lacking
    from polyprag.progress import progress

    lacking = what_is_lacking(run)
    if not lacking.rows:
        return
    check_new_bare(run, lacking, allow=allow_bare, say=_note)
    with work(at_most=_trainers(lacking.num_rows)) as pool:
        train_new_rows(run, config, pool=pool, show=progress, say=_note)
    echo(f"{run}/encoding: {lacking.num_rows:,} new rows; the experts are as they were")


def _note(text: str) -> None:
    echo(f"note: {printable(text)}", err=True)


def _trainers(num_rows: int) -> int:
    """Returns local processes that are worth it.

    Each loads the base model, onto a GPU if there is one.
    """
    import torch

    return 1 if torch.cuda.is_available() else max(1, num_rows // _ROWS_WORTH_A_PROCESS)


def _index(run: str, config: "Config") -> None:
    """Brings the index up to date, if there is one."""
    from polyprag.progress import progress
    from polyprag.retrieval.building.index import build_index
    from polyprag.retrieval.parts.manifest import MANIFEST_NAME
    from sharding.corpus.manifest import CorpusManifest
    from sharding.storage.files import exists, join

    if not exists(join(run, "index", MANIFEST_NAME)):
        return
    total = CorpusManifest.load(join(run, "corpus")).num_passages
    notes: list[str] = []
    with progress(total, "indexing", unit="passages") as advance:
        index = build_index(run, config, advance, say=notes.append)
    for note in notes:
        echo(f"note: {printable(note)}", err=True)
    echo(f"{join(run, 'index')}: {counted(index.num_passages, 'passage')}")


def _next(run: str) -> str:
    """Returns what to do with the run now."""
    from sharding.corpus.manifest import CorpusManifest
    from sharding.storage.files import exists, join

    if not all(part.augmented for part in CorpusManifest.load(join(run, "corpus")).partitions):
        return f"augment {run}"
    for stage, command in (("encoding", "encode"), ("index", "index")):
        if not exists(join(run, stage, "manifest.json")):
            return f"{command} {run}"
    return f'ask {run} "a question"'
