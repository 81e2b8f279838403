"""A file that passages are read from: where it is, of which kind, how it is compressed."""

from dataclasses import dataclass

from sharding.ingest.documents.kinds import DOCUMENT_KINDS

_READ_BY_LINES = ("jsonl", "csv", "tsv")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read.

    Attributes:
        url: its path or URL.
        kind: jsonl, json, csv, tsv, tar, parquet or arrow; of a document md, txt, rst or html.
        compression: gz, zst or none.
        num_bytes: its size as it lies there; None where the server doesn't tell.
        name: of a document, in the folder that was named, as its passages' ids have it.
    """

    url: str
    kind: str
    compression: str | None
    num_bytes: int | None
    name: str = ""

    @property
    def is_document(self) -> bool:
        """Whether it is prose, which makes passages by its structure."""
        return self.kind in DOCUMENT_KINDS

    @property
    def is_text(self) -> bool:
        """Whether it is read by lines."""
        return self.kind in _READ_BY_LINES
