"""Turn corpus files into a corpus directory on any number of workers: parse, number, pack.

Workers parse parts of the input into splits in `work/`: passages without ids, and hashes of their
keys. From the hashes, which are all that is kept of a passage here (8 bytes, 16 while they are
sorted; more for dropping duplicates and cutting texts), the passages that stay are found and
numbered. Workers then pack them into shards. So ids and bytes are the same on any
number of workers, and a run that was stopped or killed goes on with the splits and shards it has.

`work/` takes about as much room as the shards, and is removed when the manifest is written.
"""

import shlex
from collections.abc import MutableMapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from sharding.corpus.manifest import MANIFEST_NAME, CorpusManifest
from sharding.corpus.partitions import check_shard, remove_unnamed_shards
from sharding.errors import CorpusError
from sharding.ingest.document_groups import REPEATED, WITHOUT_TEXT, check_passage_words
from sharding.ingest.document_places import noted_places
from sharding.ingest.documents.names import plain_name
from sharding.ingest.duplicates import Duplicates, find_duplicates
from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.fields.heads import Quoting
from sharding.ingest.pack import write_partitions
from sharding.ingest.parse_input import SPLIT_BYTES, parse_input, unread_documents
from sharding.ingest.parse_task import ParseOptions
from sharding.ingest.positions import error_at
from sharding.ingest.rows import OnError
from sharding.ingest.source_file import SourceFile
from sharding.ingest.sources import expand
from sharding.ingest.splits import SplitInfo
from sharding.printable import without_passwords
from sharding.shown_progress import ShowProgress, show_nothing
from sharding.storage.files import exists, join, remove_directory, sha256_of
from sharding.task_pool import InlinePool, TaskPool

WORK_DIR = "work"


def prepare(
    sources: Sequence[str],
    corpus_dir: str | Path,
    *,
    partition_size: int,
    fields: FieldMap | None = None,
    chunk_words: int | None = None,
    drop_duplicates: bool = False,
    on_error: OnError = "stop",
    quoting: Quoting = "csv",
    overwrite: bool = False,
    pool: TaskPool | None = None,
    show: ShowProgress = show_nothing,
    split_bytes: int = SPLIT_BYTES,
    unread: MutableMapping[str, str] | None = None,
) -> CorpusManifest:
    """Makes a corpus of the passages in some files, in their order.

    The same files again (by their content) with the same options change nothing: the corpus is
    checked and kept, with whatever augmentation it has.

    Args:
        sources: paths or URLs of corpus files, directories or globs; see `sources.expand`.
        corpus_dir: where shards and manifest go. Workers on other machines must see it and the
            sources under the same names.
        partition_size: passages in a shard.
        fields: the files' names for id, title and text, where they aren't recognised.
        chunk_words: cuts longer texts into passages of about as many words; see `chunking`.
        drop_duplicates: whether of passages with equal title and text only the first stays.
        on_error: whether a bad row, or an id that was there before, is an error or is left out and
            counted; a damaged file is always an error.
        quoting: what a quote is in tables; see `Columns`.
        overwrite: whether another corpus in that directory may be replaced.
        pool: who does the work; this process, by default.
        show: shows the stages.
        split_bytes: bytes of input after which work is saved.
        unread: gets the documents that are read now and have no passage, and why.

    Returns:
        The manifest that was saved.

    Raises:
        CorpusError: a source is of no use, or the directory holds another corpus.
        FileError: a source can't be read.
    """
    if chunk_words is not None and chunk_words < 1:
        raise CorpusError(f"passages of {chunk_words} words can't be cut; give at least 1")
    if not sources:
        raise CorpusError("no corpus file was named; give at least one")
    files = expand([str(source) for source in sources], fields=fields)
    check_passage_words(files, chunk_words)
    options = ParseOptions(fields or FieldMap(), chunk_words, drop_duplicates, on_error, quoting)
    pool = pool or InlinePool()
    corpus_dir = str(corpus_dir)
    if exists(join(corpus_dir, MANIFEST_NAME)) and not overwrite:
        manifest = CorpusManifest.load(corpus_dir)
        _check_same(
            corpus_dir,
            manifest,
            list(pool.map(sha256_of, [file.url for file in files])),
            files=files,
            partition_size=partition_size,
            options=options,
        )
        with show(manifest.num_passages, "checking", unit="passages") as advance:
            checks = pool.map(partial(check_shard, corpus_dir), manifest.partitions)
            for partition, _ in zip(manifest.partitions, checks, strict=True):
                advance(partition.num_passages)
    else:
        manifest = _made(
            files,
            corpus_dir,
            options=options,
            partition_size=partition_size,
            pool=pool,
            show=show,
            split_bytes=split_bytes,
            unread={} if unread is None else unread,
        )
        manifest.save(corpus_dir)
    remove_directory(join(corpus_dir, WORK_DIR))
    remove_unnamed_shards(corpus_dir, manifest)
    return manifest


def _check_same(
    corpus_dir: str,
    manifest: CorpusManifest,
    hashes: list[str],
    *,
    files: Sequence[SourceFile],
    partition_size: int,
    options: ParseOptions,
) -> None:
    """Refuses when the corpus that is there isn't the one asked for."""
    now = _described(options)
    before = {"quoting": "csv"} | manifest.options  # which earlier versions had no choice of
    different = [name for name in now if before.get(name) != now[name]]
    harmless = ("duplicate text", REPEATED, WITHOUT_TEXT)
    bad_rows = sum(n for reason, n in manifest.skipped.items() if reason not in harmless)
    had = manifest.source_sha256
    if had[: len(hashes)] == hashes and len(had) > len(hashes):
        later = ", ".join(manifest.source[len(hashes) :][:5])
        raise CorpusError(
            f"{corpus_dir}: was made of these files and has grown since by `polyprag add` (of "
            f"{later}); it is kept as it is and needs no `polyprag prepare`. To begin anew with "
            "these files alone, choose another RUN directory, or replace it with --overwrite"
        )
    if had != hashes and (unread := _not_among(had, hashes)):
        names = [files[at].url for at in unread]
        what = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise CorpusError(
            f"{corpus_dir}: was made of these files but for {len(names):,} ({what}), which are new "
            f"or which an earlier version of polyprag left out; it is kept as it is. `polyprag add "
            f"RUN {shlex.quote(names[0])}` and so on adds them; to go on without, leave this "
            "`polyprag prepare` out; to begin anew with all, choose another RUN directory, or "
            "replace it with --overwrite"
        )
    if had != hashes or not all(map(_has_same_name, files, manifest.source)):
        what = f"from other files ({', '.join(manifest.source[:5])})"
        if news := _news(files, hashes, manifest):
            raise CorpusError(
                f"{corpus_dir}: already holds a corpus that was made from other files: {news}. "
                "`polyprag add RUN SOURCE` takes in what is new in the same source; to begin anew, "
                "choose another RUN directory, or replace it with --overwrite"
            )
    elif manifest.partition_size != partition_size:
        what = f"with data.partition_size={manifest.partition_size}"
    elif different:
        name = different[0]
        what = f"with {name}={before.get(name)!r}, and this is {now[name]!r}"
    elif bad_rows and options.on_error == "stop":
        what = f"with --on-error skip, which left out {bad_rows} lines"
    else:
        return
    raise CorpusError(
        f"{corpus_dir}: already holds a corpus that was made {what}; choose another RUN "
        "directory, or replace it with --overwrite"
    )


def _news(files: Sequence[SourceFile], hashes: Sequence[str], manifest: CorpusManifest) -> str:
    """Says what has changed in the files of a corpus; "" where these are others altogether."""
    had, urls = set(manifest.source_sha256), {without_passwords(file.url) for file in files}
    new = [file.url for file, sha256 in zip(files, hashes, strict=True) if sha256 not in had]
    gone = [url for url in manifest.source if url not in urls]
    if len(new) == len(files) or len(gone) == len(manifest.source):
        return ""
    return "; ".join(
        f"{', '.join(some[:5])}{', ...' if len(some) > 5 else ''} {what}"
        for some, what in ((new, "new or changed since"), (gone, "no longer there"))
        if some
    )


def _not_among(had: Sequence[str], hashes: Sequence[str]) -> list[int]:
    """Returns which files a corpus wasn't made of, where it was made of all others in their order.

    None where it is of other files.
    """
    unread = []
    waiting = list(reversed(had))
    for at, sha256 in enumerate(hashes):
        if waiting and waiting[-1] == sha256:
            waiting.pop()
        else:
            unread.append(at)
    return [] if waiting or len(unread) == len(hashes) else unread


def _has_same_name(file: SourceFile, source: str) -> bool:
    """Returns whether a document has the name that its passages' ids begin with."""
    return not file.is_document or f"/{plain_name(source)}".endswith(f"/{file.name}")


def _described(options: ParseOptions) -> dict[str, Any]:
    """Returns the options that decide what a corpus holds, for its manifest.

    What becomes of bad rows isn't one: it is seen from the manifest's `skipped`.
    """
    described = asdict(options)
    del described["on_error"]
    return described


def _made(
    files: list[SourceFile],
    corpus_dir: str,
    *,
    options: ParseOptions,
    partition_size: int,
    pool: TaskPool,
    show: ShowProgress,
    split_bytes: int,
    unread: MutableMapping[str, str],
) -> CorpusManifest:
    """Writes the shards, keeping those of a stopped run; the manifest isn't saved yet."""
    work_dir = join(corpus_dir, WORK_DIR)
    parsed = parse_input(
        files, work_dir, options=options, pool=pool, show=show, split_bytes=split_bytes
    )
    unread.update(unread_documents(parsed))
    splits = [split for file in parsed for split in file.splits]
    names = ", ".join(file.url for file in files[:5])
    if not any(split.num_passages for split in splits):
        remove_directory(work_dir)
        raise CorpusError(f"{names}: no passages in it; nothing was written")
    duplicates = find_duplicates(splits)
    if options.on_error == "stop" and len(duplicates.ids):
        raise error_at(parsed, int(duplicates.ids[0]), "duplicate id")
    partitions = write_partitions(
        corpus_dir,
        work_dir,
        splits,
        left_out=duplicates.all(),
        partition_size=partition_size,
        pool=pool,
        show=show,
    )
    return CorpusManifest(
        source=[without_passwords(file.url) for file in files],
        source_sha256=[file.sha256 for file in parsed],
        num_passages=sum(partition.num_passages for partition in partitions),
        partition_size=partition_size,
        partitions=partitions,
        options=_described(options)
        | {"on_error": options.on_error}
        | noted_places(files, [file.sha256 for file in parsed], {}),
        skipped=left_out_by_reason(splits, duplicates),
    )


def left_out_by_reason(splits: list[SplitInfo], duplicates: Duplicates) -> dict[str, int]:
    """Returns how many rows and passages are left out for which reason."""
    counts: dict[str, int] = {}
    for split in splits:
        for reason, count in split.skipped.items():
            counts[reason] = counts.get(reason, 0) + count
    num_texts = len(duplicates.texts) + len(duplicates.made)
    for reason, count in (("duplicate id", len(duplicates.ids)), ("duplicate text", num_texts)):
        if count:
            counts[reason] = count
    return dict(sorted(counts.items()))
