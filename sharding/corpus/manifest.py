"""The corpus manifest: every shard with its id range, checksum and counts."""

import re
from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from msgspec import field

from sharding.corpus.tar import MAX_ID
from sharding.errors import CorpusError, corpus_errors
from sharding.storage.files import join
from sharding.storage.versioned import (
    FileKind,
    Natural,
    Positive,
    Sha256,
    Stored,
    Values,
    require_field,
)

MANIFEST_NAME = "manifest.json"
SHARD_NAME = re.compile(r"part-([0-9]{5,})-([0-9a-f]{12})\.tar")

FORMAT, VERSION = "polyprag-corpus", 3


class Partition(Stored, frozen=True):
    """A contiguous range of passage ids, and the tar shard that holds them."""

    index: Natural
    first_id: Natural
    num_passages: Positive
    file: str  # name inside the corpus directory: part-<index>-<first 12 hex of sha256>.tar
    num_bytes: Positive
    sha256: Sha256
    augmented: bool
    counts: dict[str, Natural]  # examples of each kind, after augment

    def check(self) -> None:
        """Raises `ValueError` naming the field that can't be."""
        name = SHARD_NAME.fullmatch(self.file)
        if name is None:
            raise ValueError("file must be part-<index>-<hash>.tar, with no directory in it")
        require_field(int(name[1]) == self.index, "file", f"named for partition {self.index}")
        require_field(self.sha256.startswith(name[2]), "file", "named for its sha256")


class CorpusManifest(Stored, frozen=True):
    """What a corpus directory holds; written last, so that what it names is there."""

    source: list[str]
    num_passages: Natural
    partition_size: Positive
    partitions: tuple[Partition, ...]
    source_sha256: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)  # how it was prepared
    skipped: dict[str, Natural] = field(default_factory=dict)  # passages left out, by reason
    augmentation: dict[str, Any] | None = None  # how the rewrites and QAs were made
    removed: list[Natural] = field(default_factory=list)  # ids of removed passages, ascending
    format: str = FORMAT
    version: int = VERSION

    def save(self, corpus_dir: str | Path, *, name: str = MANIFEST_NAME) -> None:
        """Writes `corpus_dir/manifest.json`, atomically."""
        CORPUS_MANIFEST.write(join(corpus_dir, name), self)

    @classmethod
    def load(cls, corpus_dir: str | Path, *, name: str = MANIFEST_NAME) -> "CorpusManifest":
        """Reads and checks `corpus_dir/manifest.json`.

        Raises:
            CorpusError: it isn't there, or says something that can't be; names the field.
        """
        with corpus_errors():
            return CORPUS_MANIFEST.read(join(corpus_dir, name))

    def removed_in(self, partition: Partition) -> list[int]:
        """Returns the ids of a partition's removed passages, ascending."""
        first = bisect_left(self.removed, partition.first_id)
        end = bisect_left(self.removed, partition.first_id + partition.num_passages)
        return self.removed[first:end]

    def check(self) -> None:
        """Raises `ValueError` naming the field that can't be."""
        for position, part in enumerate(self.partitions):
            try:
                part.check()
            except ValueError as error:
                raise ValueError(f"partitions[{position}].{error}") from None
        for wrong in self.contradictions():
            raise ValueError(wrong)

    def contradictions(self) -> Iterator[str]:
        """Yields where ids and partitions contradict each other, such as ids in two of them."""
        next_id = 0
        for position, part in enumerate(self.partitions):
            where = f"partitions[{position}]"
            if part.index != position:
                yield f"{where}.index must be {position}"
            if part.first_id != next_id:
                yield f"{where}.first_id must be {next_id}"
            next_id = part.first_id + part.num_passages
        if not 0 <= next_id <= MAX_ID + 1:
            yield f"num_passages must be at most {MAX_ID + 1}"
        total = sum(part.num_passages for part in self.partitions)
        if self.num_passages != total:
            yield f"num_passages must be the partitions' sum, {total}"
        if not are_ids(self.removed, total):
            yield f"removed must be ids below {total}, each once, ascending"


def _without_removed(values: Values) -> Values:
    """Returns the values of version 2, which knew no `removed`, as those of version 3."""
    return values | {"removed": []}


CORPUS_MANIFEST = FileKind(
    struct=CorpusManifest,
    form=FORMAT,
    version=VERSION,
    what="a corpus manifest",
    error=CorpusError,
    make="run `polyprag prepare` first",
    remedy="run `polyprag prepare` again",
    upgrades={2: _without_removed},
)


def are_ids(ids: list[int], num_passages: int) -> bool:
    """Returns whether numbers of 0 or more are ids of passages, each once, ascending."""
    ascending = all(before < after for before, after in pairwise(ids))
    return ascending and (not ids or ids[-1] < num_passages)
