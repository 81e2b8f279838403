"""The index manifest: what the index was built from, its segments and the parts of each."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec

from polyprag.errors import RunError
from polyprag.retrieval.parts.part import IndexPart
from polyprag.retrieval.parts.span import Span
from polyprag.retrieval.remedy import REMEDY
from sharding.corpus.tar import MAX_ID
from sharding.storage.files import join
from sharding.storage.versioned import FileKind, Natural, Positive, Sha256, Stored

MANIFEST_NAME = "manifest.json"
_FORMAT, _VERSION = "polyprag-index", 3  # version 2 had one directory for each part
_NEEDED = ("passages", "bm25", "embeddings", "dense")
_SOME = msgspec.Meta(min_length=1)


class Segment(Stored, frozen=True):
    """A contiguous range of passages with parts of its own; the first segment is the base.

    Attributes:
        first_id: of its passages.
        num_passages: how many they are.
        shards: SHA-256 of the corpus's shards that it was built from, in order.
        row_files: SHA-256 of the encoding's files that hold its rows, in order; none without one.
        parts: by name: passages, bm25, embeddings, dense, and rows where there was an encoding;
            the base's encoder too. Each is divided into one or more over consecutive passages.
            In the file they are `components`.
    """

    first_id: Natural
    num_passages: Positive
    shards: Annotated[list[Sha256], _SOME]
    row_files: list[Sha256]
    parts: dict[str, Annotated[list[IndexPart], _SOME]] = msgspec.field(name="components")

    @property
    def span(self) -> Span:
        """Its passages' ids."""
        return Span(self.first_id, self.num_passages)


class IndexManifest(Stored, frozen=True, kw_only=True):
    """Written last, so that what it names is there.

    Attributes:
        num_passages: N.
        settings_sha256: of the settings that decide the base's contents.
        experts_sha256: of the experts that the rows belong to; None if there was no encoding.
        removed: ids, ascending, of passages that had been removed from the corpus.
        segments: in the order of their ids, the base first.
    """

    format: str = _FORMAT
    version: int = _VERSION
    num_passages: Natural
    settings_sha256: Sha256
    experts_sha256: Sha256 | None
    removed: list[Natural]
    segments: Annotated[tuple[Segment, ...], _SOME]

    @property
    def has_rows(self) -> bool:
        """Whether an encoding's routing rows are attached."""
        return self.experts_sha256 is not None

    @property
    def parts(self) -> list[IndexPart]:
        """The parts of all segments."""
        return [
            part
            for segment in self.segments
            for divided in segment.parts.values()
            for part in divided
        ]

    def save(self, index_dir: str | Path) -> None:
        """Writes `index_dir/manifest.json`, atomically."""
        _MANIFEST.write(join(index_dir, MANIFEST_NAME), self)

    @classmethod
    def load(cls, index_dir: str | Path) -> "IndexManifest":
        """Reads and checks `index_dir/manifest.json`.

        Raises:
            RunError: it isn't there, or says something that can't be; names the field.
        """
        return _MANIFEST.read(join(index_dir, MANIFEST_NAME))

    def check(self) -> None:
        """Raises `ValueError` naming the field that can't be."""
        next_id = 0
        for i, segment in enumerate(self.segments):
            where = f"segments[{i}]"
            needed = {*_NEEDED} | ({"rows"} if self.has_rows else set())
            needed |= set() if i else {"encoder"}
            if segment.parts.keys() != needed:
                raise ValueError(f"{where}.components must be {', '.join(sorted(needed))}")
            if bool(segment.row_files) != self.has_rows:
                raise ValueError(f"{where}.row_files and experts_sha256 don't fit together")
            if segment.first_id != next_id:
                raise ValueError(f"{where}.first_id must be {next_id}")
            next_id += segment.num_passages
            for name, divided in segment.parts.items():
                for j, part in enumerate(divided):
                    try:
                        part.check()
                    except ValueError as error:
                        wrong = f"{where}.components.{name}[{j}].{error}"
                        raise ValueError(wrong) from None
        if next_id > MAX_ID + 1:
            raise ValueError(f"num_passages must be at most {MAX_ID + 1}")
        if self.num_passages != next_id:
            raise ValueError(f"num_passages must be the segments' sum, {next_id}")
        ascending = all(before < after for before, after in pairwise(self.removed))
        if not ascending or (self.removed and self.removed[-1] >= next_id):
            raise ValueError(f"removed must be ids below {next_id}, each once, ascending")


_MANIFEST = FileKind(
    struct=IndexManifest,
    form=_FORMAT,
    version=_VERSION,
    what="an index manifest",
    error=RunError,
    make="run `polyprag index RUN` first",
    remedy=REMEDY,
)
