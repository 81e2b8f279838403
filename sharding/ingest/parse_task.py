"""The first half of prepare: a part of the input becomes splits in work/.

A task is a block of a file that another process reads, or a whole file (or row group) that the
task reads itself. Which of the two it is changes nothing in the passages that come out.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from sharding.ingest import document_groups as documents
from sharding.ingest.chunking import chunk_rows
from sharding.ingest.documents.cutting import PASSAGE_WORDS
from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.fields.heads import Quoting
from sharding.ingest.formats.json_file import as_lines
from sharding.ingest.formats.jsonl import parse_jsonl
from sharding.ingest.formats.line_blocks import LineBlock, line_blocks
from sharding.ingest.formats.slices import slices_of
from sharding.ingest.formats.tsv import parse_tsv
from sharding.ingest.rows import BadRow, OnError, ParsedRows
from sharding.ingest.source_bytes import SourceBytes
from sharding.ingest.source_file import SourceFile
from sharding.ingest.splits import (
    Split,
    SplitInfo,
    bodies_of,
    key_hashes,
    load_split,
    save_split,
    text_hashes,
)
from sharding.storage.files import join, sha256_of


@dataclass(frozen=True, slots=True)
class ParseOptions:
    """What decides which passages a file has.

    Attributes:
        fields: the file's names for id, title and text.
        chunk_words: words of a passage that a text is cut into; None leaves texts whole.
        drop_duplicates: whether of equal titles and texts only the first stays.
        on_error: whether a bad row is an error or is left out.
        quoting: what a quote is in tables; see `Columns`.
    """

    fields: FieldMap = field(default_factory=FieldMap)
    chunk_words: int | None = None
    drop_duplicates: bool = False
    on_error: OnError = "stop"
    quoting: Quoting = "csv"


@dataclass(frozen=True, slots=True)
class ParseTask:
    """A part of the input to parse.

    Attributes:
        work_dir: where splits go.
        options: of the corpus.
        file: that the part is of.
        position: the part's number in the order of the input, by which splits are named.
        split_bytes: what a split is to have at least.
        block: a block of it; None for the file itself.
        row_group: of a Parquet file; None for all.
        sha256: of a file that isn't text, where it is known.
        group: documents that are read together, the first of which is `file`.
    """

    work_dir: str
    options: ParseOptions
    file: SourceFile
    position: tuple[int, int]
    split_bytes: int
    block: LineBlock | None = None
    row_group: int | None = None
    sha256: str | None = None
    group: tuple[SourceFile, ...] = ()

    @property
    def num_bytes(self) -> int:
        """The data that the task carries."""
        return 0 if self.block is None else len(self.block.data)

    @property
    def num_read(self) -> int:
        """The bytes of the file that are done with the task."""
        if self.block is not None:
            return self.block.num_read
        if self.group:
            return sum(file.num_bytes or 0 for file in self.group)
        return 0 if self.row_group else self.file.num_bytes or 0


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a task made.

    Attributes:
        position: the task's.
        num_read: bytes of the file that are done with it.
        splits: in order.
        sha256: of the file, where the task read all of it.
        group_sha256: of the documents of the task's group.
    """

    position: tuple[int, int]
    num_read: int
    splits: list[SplitInfo]
    sha256: str | None = None
    group_sha256: tuple[str, ...] = ()


def parse(task: ParseTask) -> Parsed:
    """Writes a task's splits, keeping those that are there.

    Raises:
        FileError: the file can't be opened. A bad row comes as `SplitInfo.stopped_at`, for the
            driver, which knows how many lines are before.
    """
    sha256 = None
    if task.group:
        return _parse_group(task)
    task = replace(task, file=as_lines(task.file))
    if task.block is not None:
        splits = [_text_split(task, task.block, task.position)]
    elif task.file.is_text:
        splits, sha256 = _parse_text(task)
    else:
        sha256 = task.sha256 or sha256_of(task.file.url)
        splits = _parse_tables(task, sha256)
    return Parsed(task.position, task.num_read, splits, sha256)


def _parse_group(task: ParseTask) -> Parsed:
    """Returns the one split of several documents."""
    files = list(documents.read_files(task.group))
    key = _key(
        task, [], [documents.CUTTING_VERSION, [[read.file.name, read.sha256] for read in files]]
    )
    num_words = task.options.chunk_words or PASSAGE_WORDS
    read = partial(documents.parse_documents, files, num_words=num_words)
    split = _split(task, key, read, task.position)
    hashes = tuple(read.sha256 for read in files)
    return Parsed(task.position, task.num_read, [split], group_sha256=hashes)


def _parse_tables(task: ParseTask, sha256: str) -> list[SplitInfo]:
    splits = []
    for number, (key, read) in enumerate(_tables(task, sha256)):
        splits.append(_split(task, key, read, (*task.position, number)))
        if splits[-1].stopped_at:
            break
    return splits


def _parse_text(task: ParseTask) -> tuple[list[SplitInfo], str | None]:
    """Returns a whole file in its order; a row that a block leaves open goes on in the next."""
    source = SourceBytes(task.file)
    splits: list[SplitInfo] = []
    rest = b""
    for number, block in enumerate(blocks_of(task, source)):
        whole = replace(block, data=rest + block.data) if rest else block
        found = _text_split(task, whole, (*task.position, number))
        splits.append(found)
        if found.stopped_at:
            return splits, None
        rest = b"" if found.open_at is None else whole.data[found.open_at :]
    return splits, source.sha256


def blocks_of(task: ParseTask, source: SourceBytes) -> Iterator[LineBlock]:
    """Yields the blocks of a task's file."""
    options = task.options
    return line_blocks(
        task.file,
        source,
        fields=options.fields,
        quoting=options.quoting,
        block_bytes=task.split_bytes,
    )


def _text_split(task: ParseTask, block: LineBlock, position: tuple[int, ...]) -> SplitInfo:
    known = [astuple(part) for part in (block.layout, block.columns) if part is not None]
    key = _key(task, [block.data], [known, block.lines_before, block.is_last, block.fault])
    read = parse_jsonl if task.file.kind == "jsonl" else parse_tsv
    return _split(task, key, partial(read, block), position)


def _tables(task: ParseTask, sha256: str) -> Iterator[tuple[str, Callable[[], ParsedRows]]]:
    """Yields each slice's key, and how to parse it."""
    file, fields, size = task.file, task.options.fields, task.split_bytes
    found, parse = slices_of(file, fields, row_group=task.row_group, slice_bytes=size)
    for number, part in enumerate(found):
        key = _key(task, [], [sha256, task.row_group, number, size])
        if isinstance(part, BadRow):
            yield key, partial(ParsedRows, stopped_at=part, unread_from=part)
        else:
            yield key, partial(parse, part)


def _key(task: ParseTask, data: list[bytes], further: list[Any]) -> str:
    digest = hashlib.sha256()
    for part in data:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    # Bad rows that were left out are looked at when a split is kept.
    options = asdict(replace(task.options, on_error="stop"))
    digest.update(json.dumps([task.file.kind, options, further]).encode())
    return digest.hexdigest()


def _split(
    task: ParseTask, key: str, read: Callable[[], ParsedRows], position: tuple[int, ...]
) -> SplitInfo:
    url = join(task.work_dir, "-".join(["split", *(f"{n:06d}" for n in position)]))
    kept = load_split(url, key=key)
    if kept is not None and (task.options.on_error == "skip" or not kept.skipped):
        return _info(url, kept)
    rows = read().settle(task.options.on_error)
    if rows.stopped_at is not None:
        nothing = np.zeros(0, np.uint64)
        return SplitInfo(
            "", key, 0, rows.num_lines, {}, rows.stopped_at, None, nothing, None, None, None
        )
    split = _made(key, rows, task.options)
    save_split(url, split)
    return _info(url, split)


def _made(key: str, rows: ParsedRows, options: ParseOptions) -> Split:
    columns: dict[str, Any] = {}
    if options.chunk_words is not None and rows.are_cut:
        columns["sources"] = key_hashes(rows.keys)
    elif options.chunk_words is not None:
        whole = key_hashes(rows.keys)
        rows, numbers = chunk_rows(rows, num_words=options.chunk_words)
        columns["sources"] = whole[numbers]
    if options.drop_duplicates:
        columns["texts"] = text_hashes(rows.titles, rows.texts)
    columns["keys"] = key_hashes(rows.keys)
    bodies = bodies_of(rows.keys, rows.titles, rows.texts)
    columns["lengths"] = np.fromiter(map(len, bodies), np.uint32, len(bodies))
    columns["lines"] = np.array(rows.lines, np.uint32)
    return Split(
        key,
        rows.num_lines,
        rows.skipped,
        rows.open_at,
        rows.has_made_ids,
        tuple(rows.unread),
        columns,
        b"".join(bodies),
    )


def _info(url: str, split: Split) -> SplitInfo:
    keys = split.hashes("keys")
    assert keys is not None  # every split has them
    sources = split.hashes("sources")
    return SplitInfo(
        url,
        split.key,
        len(keys),
        split.num_lines,
        split.skipped,
        None,
        split.open_at,
        keys.copy(),
        None if sources is None else sources.copy(),
        None if sources is None else split.columns["lines"].astype(np.uint32),
        None if (texts := split.hashes("texts")) is None else texts.copy(),
        split.has_made_ids,
        split.unread,
    )
