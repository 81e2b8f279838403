"""`polyprag remove`: passages go from everything in a run."""

import sys
from typing import TYPE_CHECKING

import click

from polyprag.cli.arguments import run_argument, settings_of, trust_option
from polyprag.cli.lease import hold_lease
from polyprag.cli.output import echo
from polyprag.cli.workers import local_pool, workers_option
from sharding.printable import printable

if TYPE_CHECKING:
    from sharding.corpus.reader import Corpus

_SHOWN = 10  # passages that are named before they go


@click.command("remove")
@run_argument
@click.option(
    "--ids",
    "id_lists",
    multiple=True,
    metavar="N,...",
    help="Passages by their ids, such as a search shows them.",
)
@click.option(
    "--keys",
    "key_lists",
    multiple=True,
    metavar="KEY,...",
    help="Passages by the ids that the source gave them; of a cut text ID#1, ID#2 and so on. "
    "Finding them reads the whole corpus once.",
)
@click.option(
    "--keys-file",
    metavar="FILE",
    help="A file with one such key a line, for many keys and for keys with a comma.",
)
@click.option(
    "--documents",
    "document_lists",
    multiple=True,
    metavar="NAME,...",
    help="All passages of documents, by their paths in the folder that was prepared, such as "
    "policies/leave.md.",
)
@click.option("--yes", is_flag=True, help="Don't ask.")
@trust_option
@workers_option
def command(
    run: str,
    id_lists: tuple[str, ...],
    key_lists: tuple[str, ...],
    keys_file: str | None,
    document_lists: tuple[str, ...],
    yes: bool,
    workers: int | None,
) -> None:
    """Remove passages from RUN for good.

    When the command ends, no file in RUN/corpus, teacher, checkpoints, encoding and index has
    anything of the passages: not the text, title and key, the rewrites, questions and
    answers, nor the routing rows. All other passages keep their ids. Shows what will go, and
    asks on a terminal.

    A removal that was interrupted is finished by the same command. The source files, files
    that you wrote elsewhere (answers, question files) and other machines' caches of a remote
    RUN are yours to clean; and the experts, which were trained with the passages, stay as they
    are: only an encoding made anew never saw them.

    \b
    Examples:
      polyprag remove runs/wiki --ids 3,17
      polyprag remove runs/wiki --keys Q937,Q1035 --yes
      polyprag remove runs/mine --documents policies/leave.md
      polyprag remove s3://bucket/run --keys-file takedown.txt --workers 8
    """
    keys = [key for text in key_lists for key in text.split(",") if key]
    documents = [name for text in document_lists for name in text.split(",") if name]
    ids = _ids(id_lists)
    if not ids and not keys and keys_file is None and not documents:
        raise click.UsageError("name passages with --ids, --keys, --keys-file or --documents")
    from cluster.checkpoints.edit import check_finished, forget_checkpoint_rows
    from polyprag.growth.remove import remove_from_run
    from polyprag.progress import progress
    from polyprag.routed.map_file import map_dir
    from sharding.change.keys import ids_of_documents, ids_of_keys
    from sharding.change.removal import check_ids
    from sharding.corpus.reader import Corpus
    from sharding.storage.files import exists, join, open_url

    config = settings_of(run, (), ())
    hold_lease(run, "remove")
    check_finished(run)
    if keys_file is not None:
        with open_url(keys_file, "r") as file:
            keys += [line for line in file.read().splitlines() if line]
    corpus = Corpus.open(join(run, "corpus"))
    check_ids(corpus.directory, corpus.manifest, ids)
    with local_pool(workers) as pool:
        if keys:
            ids |= set(ids_of_keys(corpus, keys, pool=pool, show=progress))
        if documents:
            ids |= set(ids_of_documents(corpus, documents, pool=pool, show=progress))
        left = sorted(ids.difference(corpus.manifest.removed))
        _show(corpus, left)
        if left and not yes and _is_terminal():
            click.confirm(
                f"Remove {_passages(len(left))} from {printable(run)} for good?", abort=True
            )
        had_map = exists(map_dir(run))
        removed = remove_from_run(
            run,
            sorted(ids),
            config=config,
            forget_in_checkpoint=forget_checkpoint_rows,
            pool=pool,
            show=progress,
        )
    before = f", {removed.num_before:,} had been before" if removed.num_before else ""
    left_over = corpus.manifest.num_passages - len(removed.manifest.removed)
    if had_map:
        echo(
            f"{map_dir(run)}: deleted, as the map was fitted to questions on what was removed; "
            f"make another with `polyprag distill {run}`"
        )
    echo(
        f"{run}: {_passages(len(removed.ids))} removed{before}; {left_over:,} of "
        f"{corpus.manifest.num_passages:,} are left"
    )


def _ids(texts: tuple[str, ...]) -> set[int]:
    """Returns the numbers in lists such as 3,17."""
    parts = [part.strip() for text in texts for part in text.split(",")]
    for part in parts:
        if not (part.isascii() and part.isdigit()):
            raise click.UsageError(f"--ids: {part!r} is no id: ids are whole numbers, such as 3,17")
    return {int(part) for part in parts}


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _show(corpus: "Corpus", ids: list[int]) -> None:
    """Names some of the passages that will go."""
    for passage_id in ids[:_SHOWN]:
        passage = corpus.record(passage_id).passage
        key, title = printable(passage.key), printable(passage.title)
        echo(f"  {passage_id}  {key}  {title}", err=True)
    if len(ids) > _SHOWN:
        echo(f"  and {len(ids) - _SHOWN:,} more", err=True)


def _passages(count: int) -> str:
    return f"{count:,} passage{'' if count == 1 else 's'}"
