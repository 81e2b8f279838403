"""Parse all files of a corpus on a pool of workers, and keep account of what they found.

A file that is larger than a worker's fair share is read and decompressed here, once and in its
order, and its blocks go to the workers; any other file is read by a worker.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from sharding.ingest.document_groups import group_size
from sharding.ingest.formats.json_file import as_lines
from sharding.ingest.parse_task import Parsed, ParseOptions, ParseTask, blocks_of, parse
from sharding.ingest.source_bytes import SourceBytes
from sharding.ingest.source_file import SourceFile
from sharding.ingest.splits import SplitInfo
from sharding.shown_progress import Advance, ShowProgress
from sharding.storage.files import sha256_of
from sharding.task_pool import TaskPool

# Decompressed bytes of a split: what is held several times over by whoever parses it, and what a
# stop may lose of its work.
SPLIT_BYTES = 16 << 20
_MB = 1_000_000
_FEW_BYTES = 10 * _MB  # are counted in kB


@dataclass(slots=True)
class ParsedFile:
    """A file and the splits that were made of it, in order."""

    file: SourceFile
    sha256: str = ""
    splits: list[SplitInfo] = field(default_factory=list)


def parse_input(
    files: Sequence[SourceFile],
    work_dir: str,
    *,
    options: ParseOptions,
    pool: TaskPool,
    show: ShowProgress,
    split_bytes: int,
) -> list[ParsedFile]:
    """Writes the splits of all files, keeping those of a stopped run.

    Raises:
        CorpusError: a file has a bad row that isn't to be left out: the first one of the first
            such file.
        FileError: a file can't be read.
    """
    reading = _Reading(files, pool, split_bytes=split_bytes)
    new = partial(ParseTask, work_dir=work_dir, options=options, split_bytes=split_bytes)
    sizes = [file.num_bytes for file in files]
    num_bytes = None if None in sizes else sum(filter(None, sizes))
    is_small = num_bytes is not None and num_bytes < _FEW_BYTES
    unit_bytes, unit = (1000, "kB") if is_small else (_MB, "MB")
    total = None if num_bytes is None else max(1, num_bytes // unit_bytes)
    with show(total, "reading", unit=unit) as advance:
        reading.run(new, advance, unit_bytes=unit_bytes)
    return reading.parsed


def unread_documents(parsed: Sequence[ParsedFile]) -> dict[str, str]:
    """Returns why documents have no passage, by their files, in their order."""
    return {
        parsed[first + number].file.url: why
        for first, file in enumerate(parsed)
        for split in file.splits
        for number, why in split.unread
    }


class _Reading:
    """What is known while the input is read."""

    def __init__(self, files: Sequence[SourceFile], pool: TaskPool, *, split_bytes: int) -> None:
        self.parsed = [ParsedFile(file) for file in files]
        self._pool = pool
        sizes = [file.num_bytes for file in files]
        share = sum(filter(None, sizes)) // pool.num_workers
        # Of a remote file whose size isn't told, the worst is expected.
        self._is_large = [size is None or size > max(share - 1, 2 * split_bytes) for size in sizes]
        self._torn: set[int] = set()  # files with a block that ends inside a row

    def run(self, new: Callable[..., ParseTask], advance: Advance, *, unit_bytes: int) -> None:
        """Parses all files; `advance` is told of units of so many bytes."""
        begun = time.monotonic()
        num_passages = num_bytes = 0

        def take(results: Iterator[Parsed]) -> None:
            nonlocal num_passages, num_bytes
            for result in results:
                num_passages += self._take(result)
                num_bytes += result.num_read
                rate = num_passages / max(time.monotonic() - begun, 1e-3)
                note = f"{num_passages:,} passages, {rate:,.0f} passages/s"
                advance(num_bytes // unit_bytes, note)
                num_bytes %= unit_bytes

        take(self._pool.map(parse, self._tasks(new), num_bytes=lambda task: task.num_bytes))
        torn = sorted(self._torn)
        self._torn.clear()
        for index in torn:
            self.parsed[index].splits.clear()
        again = [new(file=self.parsed[index].file, position=(index, 0)) for index in torn]
        take(replace(result, num_read=0) for result in self._pool.map(parse, again))

    def _tasks(self, new: Callable[..., ParseTask]) -> Iterator[ParseTask]:
        files = [parsed.file for parsed in self.parsed]
        grouped = 0  # files that are in a group of documents
        for index, (parsed, is_large) in enumerate(zip(self.parsed, self._is_large, strict=True)):
            if is_large:
                parsed.file = as_lines(parsed.file)
            file = parsed.file
            if file.is_document:
                if index >= grouped:
                    whole = new(file=file, position=(index, 0))
                    grouped = index + group_size(files, index, split_bytes=whole.split_bytes)
                    yield replace(whole, group=tuple(files[index:grouped]))
                continue
            if is_large and file.is_text:
                source = SourceBytes(file)
                whole = new(file=file, position=(index, 0))
                for number, block in enumerate(blocks_of(whole, source)):
                    if index in self._torn:
                        break
                    yield new(file=file, position=(index, number), block=block)
                parsed.sha256 = source.sha256
            elif is_large and file.kind == "parquet" and self._pool.num_workers > 1:
                yield from self._row_groups(new, index, file)
            else:
                yield new(file=file, position=(index, 0))

    def _row_groups(
        self, new: Callable[..., ParseTask], index: int, file: SourceFile
    ) -> Iterator[ParseTask]:
        from sharding.ingest.formats.arrow import num_row_groups

        sha256 = sha256_of(file.url)
        for group in range(num_row_groups(file)):
            yield new(file=file, position=(index, group), row_group=group, sha256=sha256)

    def _take(self, result: Parsed) -> int:
        """Keeps what a task made; returns how many passages that is."""
        index = result.position[0]
        parsed = self.parsed[index]
        parsed.sha256 = result.sha256 or parsed.sha256
        for number, sha256 in enumerate(result.group_sha256):
            self.parsed[index + number].sha256 = sha256
        if index in self._torn:
            return 0
        num_passages = 0
        for split in result.splits:
            if split.stopped_at is not None:
                lines_before = sum(before.num_lines for before in parsed.splits)
                raise split.stopped_at.error(parsed.file.url, lines_before=lines_before)
            num_passages += split.num_passages
            parsed.splits.append(split)
        if self._is_large[index] and parsed.file.is_text and parsed.splits[-1].open_at is not None:
            self._torn.add(index)
            self._is_large[index] = False
        return num_passages
