"""Cut a file that is read by lines into blocks of whole rows, in bounded memory.

A block ends behind a line that is a whole row by itself. That a line inside a quoted field looks
like one is possible, so whoever parses a block says whether its last row was left open.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from sharding.ingest.source_bytes import SourceBytes
from sharding.ingest.sources import SourceFile

MAX_LINE_BYTES = 16 << 20
_LINES_TRIED = 100
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class LineBlock:
    """Whole lines of a file.

    Attributes:
        data: them, with their ends; a line over the limit is cut short behind it.
        header: the file's first line, of a TSV file.
        lines_before: that belong to the block and aren't in `data`: the header, in the first.
        is_last: whether nothing follows.
        fault: reason and detail of damage that ended the file behind the block.
        num_read: bytes of the file that were read for it.
    """

    data: bytes
    header: bytes = b""
    lines_before: int = 0
    is_last: bool = False
    fault: tuple[str, str] | None = None
    num_read: int = 0

    def is_cut(self, line: bytes) -> bool:
        """Returns whether a bad line is the file's last, and its end is missing.

        So ends a copy that was broken off, and nobody knows how many rows it lacks.
        """
        return self.is_last and self.fault is None and not line.endswith(b"\n")


def line_blocks(file: SourceFile, source: SourceBytes, *, block_bytes: int) -> Iterator[LineBlock]:
    """Cuts a file into blocks; at least one comes, if only to say that the file is empty.

    Args:
        file: a jsonl or tsv file.
        source: its bytes.
        block_bytes: what a block is to have at least, the last one excepted.
    """
    header: bytes | None = None
    num_read = 0
    waiting: LineBlock | None = None
    for data in _cut(source, block_bytes=block_bytes, is_tsv=file.kind == "tsv"):
        lines_before = 0
        if header is None:
            data = data.removeprefix(_BYTE_ORDER_MARK)
            header = b""
            if file.kind == "tsv":
                first, end, data = data.partition(b"\n")
                header, lines_before = first + end, 1
        if waiting is not None:
            yield waiting
        waiting = LineBlock(data, header, lines_before, num_read=source.num_read - num_read)
        num_read = source.num_read
    if waiting is None:
        waiting = LineBlock(b"", num_read=source.num_read)
    yield replace(waiting, is_last=True, fault=source.fault)


def _cut(source: SourceBytes, *, block_bytes: int, is_tsv: bool) -> Iterator[bytes]:
    pending = bytearray()
    end = 0  # behind the last line end in `pending`
    too_long = False
    for chunk in _pieces(source, block_bytes):
        if too_long:
            at = chunk.find(b"\n")
            if at < 0:
                continue
            chunk, too_long = chunk[at:], False
        pending += chunk
        end = max(end, pending.rfind(b"\n", end) + 1)
        if len(pending) - end > MAX_LINE_BYTES:
            del pending[end + MAX_LINE_BYTES + 1 :]
            too_long = True
        if end >= block_bytes:
            at = _row_end(pending, end) if is_tsv else end
            yield bytes(memoryview(pending)[:at])
            del pending[:at]
            end -= at
    if source.fault:
        del pending[end:]  # a line that damage cut in two
    if pending:
        yield bytes(pending)


def _pieces(source: Iterable[bytes], num_bytes: int) -> Iterator[bytes]:
    for chunk in source:
        if len(chunk) <= num_bytes:
            yield chunk
            continue
        for begin in range(0, len(chunk), num_bytes):
            yield chunk[begin : begin + num_bytes]


def _row_end(data: bytearray, end: int) -> int:
    """Returns the end of the last line that is a row by itself.

    The last line's where there is none.
    """
    at = end
    for _ in range(_LINES_TRIED):
        begin = data.rfind(b"\n", 0, at - 1) + 1
        if begin == 0:
            break
        if _is_row(bytes(data[begin:at])):
            return at
        at = begin
    return end


def _is_row(line: bytes) -> bool:
    try:
        rows = list(csv.reader([line.decode()], delimiter="\t", strict=True))
    except (UnicodeDecodeError, csv.Error):
        return False
    return len(rows) == 1 and len(rows[0]) > 1
