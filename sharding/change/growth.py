"""Grow a corpus: new files become new partitions behind those that are there.

Nothing that exists is rewritten. New passages are parsed, numbered and packed as `prepare` does,
with ids from N on in partitions from P on; the manifest is saved last. So a stop at any moment
leaves the old corpus, and the same call goes on with the splits and shards that it wrote.

Passages that are there already (same key, title and text) are left out and counted. To find them
every shard's keys are compared with the new ones, as 64-bit hashes: in memory are 8 bytes (24
while they are sorted) for each new passage, none for those of the corpus.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from msgspec import structs

from sharding.change.known_passages import Known, find_known
from sharding.corpus.manifest import MANIFEST_NAME, CorpusManifest
from sharding.corpus.partitions import remove_unnamed_shards
from sharding.corpus.reader import Corpus
from sharding.errors import CorpusError
from sharding.ingest.document_groups import WITHOUT_TEXT, check_passage_words
from sharding.ingest.document_places import (
    gone_from,
    named_as_before,
    noted_places,
    places_in,
)
from sharding.ingest.duplicates import Duplicates, find_duplicates
from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.fields.heads import Quoting
from sharding.ingest.pack import write_partitions
from sharding.ingest.parse_input import SPLIT_BYTES, ParsedFile, parse_input, unread_documents
from sharding.ingest.parse_task import ParseOptions
from sharding.ingest.positions import error_at, place_of
from sharding.ingest.prepare import WORK_DIR, left_out_by_reason
from sharding.ingest.rows import OnError
from sharding.ingest.sources import expand
from sharding.printable import without_passwords
from sharding.shown_progress import ShowProgress, show_nothing
from sharding.storage.files import join, remove_directory
from sharding.task_pool import InlinePool, TaskPool


@dataclass(frozen=True, slots=True)
class Grown:
    """What came of it.

    Attributes:
        manifest: as saved.
        first_id: of the first new passage.
        num_added: new passages.
        num_there: passages of the files that were in the corpus already.
        skipped: rows and passages of the files that were left out, by reason.
        outdated: ids of passages that came from earlier versions of the files' documents and
            aren't in them any more, or from documents that are gone from a folder among the
            sources, ascending.
        unread: documents that have no passage, and why.
    """

    manifest: CorpusManifest
    first_id: int
    num_added: int
    num_there: int
    skipped: dict[str, int]
    outdated: list[int]
    unread: dict[str, str]


def append_passages(
    corpus_dir: str | Path,
    sources: Sequence[str],
    *,
    fields: FieldMap | None = None,
    chunk_words: int | None = None,
    drop_duplicates: bool | None = None,
    on_error: OnError = "stop",
    quoting: Quoting | None = None,
    pool: TaskPool | None = None,
    show: ShowProgress = show_nothing,
    split_bytes: int = SPLIT_BYTES,
) -> Grown:
    """Adds the passages of some files to a corpus, in their order.

    The same call again adds nothing: what is there already is left out.

    Args:
        corpus_dir: a prepared corpus.
        sources: paths or URLs, as of `prepare`.
        fields: the files' names for id, title and text; by default as the corpus was prepared, and
            so are the next two.
        chunk_words: cuts longer texts; 0 leaves them whole.
        drop_duplicates: whether passages with title and text of another one are left out, be that
            one of the corpus or of these files.
        on_error: whether a bad row, an id that comes twice or an id of the corpus with another
            title or text is an error, or is left out and counted.
        quoting: what a quote is in tables; by default as the corpus was prepared.
        pool: who does the work; this process, by default.
        show: shows the stages.
        split_bytes: bytes of input after which work is saved.

    Raises:
        CorpusError: a file has something that isn't to be left out: names file, line and key. The
            corpus is as before.
        FileError: a file can't be read.
    """
    if not sources:
        raise CorpusError("no corpus file was named; give at least one")
    corpus_dir, pool = str(corpus_dir), pool or InlinePool()
    corpus = Corpus.open(corpus_dir)
    manifest = corpus.manifest
    options = _options(
        corpus, fields=fields, chunk_words=chunk_words, drop_duplicates=drop_duplicates
    )
    options = replace(options, on_error=on_error)
    if quoting is not None:
        options = replace(options, quoting=quoting)
    work_dir = join(corpus_dir, WORK_DIR)
    places = places_in(manifest.options)
    found = expand([str(source) for source in sources], fields=options.fields)
    files = named_as_before(found, places)
    check_passage_words(files, options.chunk_words)
    parsed = parse_input(
        files, work_dir, options=options, pool=pool, show=show, split_bytes=split_bytes
    )
    splits = [split for file in parsed for split in file.splits]
    unread = unread_documents(parsed)
    duplicates = find_duplicates(splits)
    if on_error == "stop" and len(duplicates.ids):
        raise error_at(parsed, int(duplicates.ids[0]), "duplicate id")
    repeated = np.union1d(duplicates.ids, duplicates.made)
    known = find_known(
        corpus,
        splits,
        repeated=repeated,
        # Passages of a document that couldn't be read would count as gone.
        documents=[
            file.name
            for file in files
            if file.is_document and unread.get(file.url, WITHOUT_TEXT) == WITHOUT_TEXT
        ]
        + gone_from(sources, files, places),
        pool=pool,
        show=show,
    )
    if on_error == "stop" and len(known.changed):
        raise _changed(corpus, parsed, known)
    duplicates = Duplicates(
        np.union1d(duplicates.ids, known.changed),
        np.setdiff1d(
            np.union1d(duplicates.texts, known.texts), np.union1d(known.same, known.changed)
        ),
        duplicates.made,
    )
    partitions = write_partitions(
        corpus_dir,
        work_dir,
        splits,
        left_out=np.union1d(duplicates.all(), known.same),
        partition_size=manifest.partition_size,
        pool=pool,
        show=show,
        first_partition=len(manifest.partitions),
        first_id=manifest.num_passages,
    )
    skipped = left_out_by_reason(splits, duplicates)
    grown = manifest
    if partitions:
        grown = structs.replace(
            manifest,
            source=manifest.source + [without_passwords(file.url) for file in files],
            source_sha256=manifest.source_sha256 + [file.sha256 for file in parsed],
            num_passages=manifest.num_passages + sum(part.num_passages for part in partitions),
            partitions=manifest.partitions + partitions,
            options=manifest.options
            | noted_places(files, [file.sha256 for file in parsed], places),
            skipped=_sums(manifest.skipped, skipped),
        )
        grown.save(corpus_dir)
    remove_directory(work_dir)
    remove_unnamed_shards(corpus_dir, grown)
    num_added = grown.num_passages - manifest.num_passages
    return Grown(
        grown,
        manifest.num_passages,
        num_added,
        len(known.same),
        skipped,
        known.outdated_ids.tolist(),
        unread,
    )


def known_fields(corpus_dir: str | Path) -> FieldMap:
    """Returns the names of fields that a corpus was prepared with."""
    corpus = Corpus.open(str(corpus_dir))
    return _options(corpus, fields=None, chunk_words=None, drop_duplicates=None).fields


def _options(
    corpus: Corpus,
    *,
    fields: FieldMap | None,
    chunk_words: int | None,
    drop_duplicates: bool | None,
) -> ParseOptions:
    """Returns what was given, and for the rest how the corpus was prepared."""
    if chunk_words is not None and chunk_words < 0:
        raise CorpusError(f"passages of {chunk_words} words can't be cut; give at least 1, or 0")
    before = corpus.manifest.options
    try:
        had = FieldMap(**before.get("fields", {}))
        had_quoting = before.get("quoting", "csv")
        had_words, had_drop = before.get("chunk_words"), before.get("drop_duplicates", False)
        if not (had_words is None or type(had_words) is int) or type(had_drop) is not bool:
            raise TypeError
        if had_quoting not in ("csv", "none"):
            raise TypeError
    except TypeError as error:
        raise CorpusError(
            f"{join(corpus.directory, MANIFEST_NAME)}: options: not how a corpus can be prepared "
            f"({before}); give --map, --chunk-words and --drop-duplicates"
        ) from error
    words = had_words if chunk_words is None else chunk_words or None
    drop = had_drop if drop_duplicates is None else drop_duplicates
    return ParseOptions(fields or had, words, drop, quoting=had_quoting)


def _changed(corpus: Corpus, parsed: Sequence[ParsedFile], known: Known) -> CorpusError:
    """Returns an error for the first passage whose key the corpus has with another text."""
    file, line, key = place_of(parsed, int(known.changed[0]))
    passage_id = int(known.changed_ids[0])
    there = corpus.record(passage_id).passage.key
    how = "with another title or text" if there == key else f"cut otherwise, such as {there!r}"
    is_cut = corpus.manifest.options.get("chunk_words") is not None
    rest = ", and the rest of its text" if is_cut else ""
    return CorpusError(
        f"{file}:{line}: id {key!r} is in {corpus.directory} {how} (passage {passage_id}); "
        f"nothing was added. Remove that one first (`polyprag remove RUN --ids {passage_id}`)"
        f"{rest}, or leave such lines out with --on-error skip"
    )


def _sums(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    names = sorted(one.keys() | other.keys())
    return {name: one.get(name, 0) + other.get(name, 0) for name in names}
