"""Read a group of documents: their bytes and hashes, and the passages that they make."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sharding.errors import CorpusError
from sharding.ingest.documents.blocks import Block, Document, Heading, document_of
from sharding.ingest.documents.cutting import PASSAGE_WORDS, cut_document
from sharding.ingest.documents.decoding import NotTextError, decode_text
from sharding.ingest.documents.markdown import markdown_items
from sharding.ingest.documents.names import passage_key, title_of_name
from sharding.ingest.documents.plain import plain_items
from sharding.ingest.documents.rst import RstError, rst_items
from sharding.ingest.documents.web_pages import page_items
from sharding.ingest.rows import BadRow, ParsedRows
from sharding.ingest.source_bytes import SourceBytes
from sharding.ingest.source_file import SourceFile
from sharding.storage.files import sha256_of

# What a parser makes of a document takes some hundred times its bytes.
MAX_DOCUMENT_BYTES = {"txt": 16 << 20, "md": 4 << 20, "rst": 4 << 20, "html": 8 << 20}
GROUP_BYTES = 1 << 20  # of documents that one task reads
_GROUP_FILES = 500
_LINES = 1 << 23  # 512 documents' lines in 32 bits; a line behind the 8 millionth is told as that
# What is left out without being wrong.
REPEATED, WITHOUT_TEXT = "passage twice in a document", "document without a text"
MAX_PASSAGE_WORDS = 2000
# Of how documents are read and cut; what an earlier one left in work/ is made again.
CUTTING_VERSION = 3


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A document's bytes.

    Attributes:
        file: whose.
        sha256: of the file as it lies there.
        data: decompressed; none where it can't be used.
        fault: why not.
    """

    file: SourceFile
    sha256: str
    data: bytes
    fault: BadRow | None = None


@dataclass(slots=True)
class ParsedDocuments(ParsedRows):
    """The passages of a group of documents; `lines` say the document, too: see `place_in_group`."""

    def leave_out(self, number: int, fault: BadRow) -> None:
        """Takes in what makes a document of the group unusable."""
        self.stopped_at = self.stopped_at or fault
        if fault.is_fatal:
            self.unread_from = fault
        self.count(fault.reason)
        self.unread.append((number, f"{fault.reason}: {fault.detail}".removesuffix(": ")))

    def count(self, reason: str) -> None:
        """Counts something that is left out."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1


def place_in_group(line: int) -> tuple[int, int]:
    """Returns which document of its group a passage is of, from 0, and at which line of it."""
    return divmod(line, _LINES)


def group_size(files: Sequence[SourceFile], begin: int, *, split_bytes: int) -> int:
    """Returns how many documents from `begin` on are read together, at least one.

    Args:
        files: of the whole input.
        begin: the first document's place among them.
        split_bytes: what is saved at a time.
    """
    size = files[begin].num_bytes or 0
    end = begin + 1
    while end < len(files) and files[end].is_document and end - begin < _GROUP_FILES:
        size += files[end].num_bytes or 0
        if size > min(split_bytes, GROUP_BYTES):
            break
        end += 1
    return end - begin


def read_files(files: Sequence[SourceFile]) -> Iterator[ReadFile]:
    """Yields the bytes of documents, in bounded memory.

    Raises:
        FileError: one can't be opened.
    """
    for file in files:
        source = SourceBytes(file)
        most = MAX_DOCUMENT_BYTES[file.kind]
        data = bytearray()
        for chunk in source:
            data += chunk
            if len(data) > most:
                break
        if source.fault is not None:
            yield ReadFile(file, source.sha256, b"", BadRow(1, *source.fault, file=file.url))
        elif len(data) > most:
            what = f"over {most >> 20} MiB of {file.kind}"
            fault = BadRow(1, "document too large", what, file=file.url)
            yield ReadFile(file, sha256_of(file.url), b"", fault)
        else:
            yield ReadFile(file, source.sha256, bytes(data))


def parse_documents(files: Sequence[ReadFile], *, num_words: int) -> ParsedDocuments:
    """Returns the passages of documents.

    A document without a text, and a passage that its document has twice, are counted.
    """
    parsed = ParsedDocuments(are_cut=True)
    for number, read in enumerate(files):
        document = read.fault or _document(read)
        if isinstance(document, BadRow):
            parsed.leave_out(number, document)
            continue
        keys: set[str] = set()
        is_empty = True
        for cut in cut_document(document, num_words=num_words):
            is_empty = False
            key = passage_key(read.file.name, cut.heading, cut.title, cut.text)
            if key in keys:
                parsed.count(REPEATED)
                continue
            keys.add(key)
            parsed.keys.append(key)
            parsed.titles.append(cut.title)
            parsed.texts.append(cut.text)
            parsed.lines.append(number * _LINES + min(cut.line, _LINES - 1))
        if is_empty:
            parsed.count(WITHOUT_TEXT)
            parsed.unread.append((number, WITHOUT_TEXT))
    return parsed


def _document(read: ReadFile) -> Document | BadRow:
    """Returns a document's blocks, or what is wrong with it."""
    file = read.file
    try:
        text = decode_text(read.data, file=file.url, declares=file.kind == "html")
    except NotTextError as error:
        return BadRow(error.line, "not UTF-8", str(error), file=file.url)
    try:
        titles, items = _items(file.kind, text)
    except Exception as error:  # other people's parsers raise anything at odd input
        detail = str(error) if isinstance(error, RstError) else f"{type(error).__name__}: {error}"
        return BadRow(1, "document not readable", detail, file=file.url)
    return document_of(items, **titles, name_title=title_of_name(file.name))


def check_passage_words(files: Iterable[SourceFile], num_words: int | None) -> None:
    """Refuses passages that no model reads as one, where documents are cut into them.

    Raises:
        CorpusError: there are documents, and their passages would have too many words.
    """
    document = next((file for file in files if file.is_document), None)
    if document is not None and num_words is not None and num_words > MAX_PASSAGE_WORDS:
        raise CorpusError(
            f"{document.url}: documents aren't cut into passages of {num_words:,} words; give "
            f"--chunk-words at most {MAX_PASSAGE_WORDS:,}, or nothing for {PASSAGE_WORDS}"
        )


def _items(kind: str, text: str) -> tuple[dict[str, Any], list[Heading | Block]]:
    """Returns the titles that a document gives itself, and its headings and blocks."""
    if kind == "md":
        title, items = markdown_items(text)
        return {"title": title}, items
    if kind == "html":
        title, items = page_items(text)
        return {"page_title": title}, items
    if kind == "rst":
        return {}, rst_items(text)
    return {}, list(plain_items(text))
