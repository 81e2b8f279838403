"""Whether an index still fits the corpus and the encoding beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from polyprag.encoding.manifest import EncodingManifest, RowsPart
from polyprag.retrieval.parts.manifest import IndexManifest
from polyprag.retrieval.parts.span import Span, span_of
from polyprag.run_dir import CORPUS, ENCODING
from sharding.corpus.manifest import MANIFEST_NAME, CorpusManifest
from sharding.storage.files import exists, join


@dataclass(frozen=True, slots=True)
class Freshness:
    """What has changed in the corpus and the encoding since an index was built from them.

    Attributes:
        changed: the names in RUN of what the index doesn't fit any more, so that it can't be used.
        hidden: ids, ascending, of passages that were removed after it was built.
        num_newer: passages of the corpus that came after the index's last one.
    """

    changed: tuple[str, ...] = ()
    hidden: tuple[int, ...] = ()
    num_newer: int = 0

    @classmethod
    def of(
        cls,
        manifest: IndexManifest,
        *,
        corpus: CorpusManifest | None,
        encoding: EncodingManifest | None,
    ) -> Self:
        """Compares an index with what is there.

        A shard or a file of rows may only differ where passages were removed from it since.

        Args:
            manifest: the index's.
            corpus: None where there is none.
            encoding: None where there is none.
        """
        changed = []
        hidden: list[int] = []
        if corpus is not None:
            known = set(manifest.removed)
            hidden = [i for i in corpus.removed if i not in known and i < manifest.num_passages]
            if not known.issubset(corpus.removed) or not _fits_corpus(manifest, corpus, hidden):
                changed.append(CORPUS)
        if encoding is not None and not _fits_encoding(manifest, encoding, hidden):
            changed.append(ENCODING)
        newer = 0 if corpus is None else max(0, corpus.num_passages - manifest.num_passages)
        return cls(tuple(changed), tuple(hidden), newer)

    @property
    def note(self) -> str | None:
        """What a user should know of a usable index, and what to do; None where nothing."""
        behind = []
        if self.num_newer:
            behind.append(f"{self.num_newer:,} passages of the corpus aren't in the index yet")
        if self.hidden:
            behind.append(f"{len(self.hidden):,} removed ones still lie in its files")
        return f"{' and '.join(behind)}; run `polyprag index RUN`" if behind else None


def corpus_and_encoding(
    run_dir: str | Path,
) -> tuple[CorpusManifest | None, EncodingManifest | None]:
    """Returns the manifests in a run directory, those that are there.

    Raises:
        CorpusError: the corpus's is damaged.
        RunError: the encoding's is damaged.
    """
    corpus, encoding = join(run_dir, CORPUS), join(run_dir, ENCODING)
    return (
        CorpusManifest.load(corpus) if exists(join(corpus, MANIFEST_NAME)) else None,
        EncodingManifest.load(encoding) if exists(join(encoding, MANIFEST_NAME)) else None,
    )


def row_parts(encoding: EncodingManifest, span: Span) -> list[RowsPart]:
    """Returns the encoding's parts that hold rows of a range of passages."""
    end = span.first_id + span.num_passages
    return [
        part
        for part in encoding.parts
        if part.first_id < end and span.first_id < part.first_id + part.num_passages
    ]


def _fits_corpus(manifest: IndexManifest, corpus: CorpusManifest, hidden: list[int]) -> bool:
    end = 0
    for segment in manifest.segments:
        partitions = corpus.partitions[end : end + len(segment.shards)]
        end += len(segment.shards)
        if len(partitions) != len(segment.shards) or span_of(partitions) != segment.span:
            return False
        for partition, sha256 in zip(partitions, segment.shards, strict=True):
            if partition.sha256 != sha256 and not len(span_of([partition]).positions(hidden)):
                return False
    return True


def _fits_encoding(manifest: IndexManifest, encoding: EncodingManifest, hidden: list[int]) -> bool:
    if manifest.experts_sha256 != encoding.experts.sha256:
        return False
    for segment in manifest.segments:
        parts = row_parts(encoding, segment.span)
        if len(parts) != len(segment.row_files):
            return False
        for part, sha256 in zip(parts, segment.row_files, strict=True):
            span = Span(part.first_id, part.num_passages)
            if part.sha256 != sha256 and not len(span.positions(hidden)):
                return False
    return True
