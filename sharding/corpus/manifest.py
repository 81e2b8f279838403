"""The corpus manifest: every shard with its id range, checksum and counts."""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sharding.corpus.tar import MAX_ID
from sharding.errors import CorpusError, corpus_errors
from sharding.storage.files import atomic_write, exists, join, read_json

MANIFEST_NAME = "manifest.json"
SHARD_NAME = re.compile(r"part-([0-9]{5,})-([0-9a-f]{12})\.tar")

FORMAT, VERSION = "polyprag-corpus", 3
READABLE = (2, VERSION)  # version 2 knew no `removed`
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Partition:
    """A contiguous range of passage ids, and the tar shard that holds them."""

    index: int
    first_id: int
    num_passages: int
    file: str  # name inside the corpus directory: part-<index>-<first 12 hex of sha256>.tar
    num_bytes: int
    sha256: str
    augmented: bool = False
    counts: dict[str, int] = field(default_factory=dict)  # examples of each kind, after augment

    def check(self) -> None:
        """Raises `ValueError` naming the field that can't be."""
        name = SHARD_NAME.fullmatch(self.file)
        if name is None:
            raise ValueError("file must be part-<index>-<hash>.tar, with no directory in it")
        _require(_SHA256.fullmatch(self.sha256) is not None, "sha256", "64 hex digits")
        _require(int(name[1]) == self.index, "file", f"named for partition {self.index}")
        _require(self.sha256.startswith(name[2]), "file", "named for its sha256")
        _require(self.num_passages > 0, "num_passages", "at least 1")
        _require(self.num_bytes > 0, "num_bytes", "at least 1")
        _require(_is_counts(self.counts), "counts", "whole numbers of 0 or more by name")


@dataclass(frozen=True, slots=True)
class CorpusManifest:
    """What a corpus directory holds; written last, so that what it names is there."""

    source: list[str]
    num_passages: int
    partition_size: int
    partitions: tuple[Partition, ...]
    source_sha256: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)  # how it was prepared
    skipped: dict[str, int] = field(default_factory=dict)  # passages left out, by reason
    augmentation: dict[str, Any] | None = None  # how the rewrites and QAs were made
    removed: list[int] = field(default_factory=list)  # ids of removed passages, ascending
    format: str = FORMAT
    version: int = VERSION

    def save(self, corpus_dir: str | Path, *, name: str = MANIFEST_NAME) -> None:
        """Writes `corpus_dir/manifest.json`, atomically."""
        # With tens of thousands of partitions `asdict` and `json` take seconds, and a command that
        # rewrites shards saves every other second.
        data = msgspec.json.format(msgspec.json.encode(self), indent=1)
        with atomic_write(join(corpus_dir, name)) as file:
            file.write(data + b"\n")

    @classmethod
    def load(cls, corpus_dir: str | Path, *, name: str = MANIFEST_NAME) -> "CorpusManifest":
        """Reads and checks `corpus_dir/manifest.json`.

        Raises:
            CorpusError: it isn't there, or says something that can't be; names the field.
        """
        url = join(corpus_dir, name)
        values = read_manifest(url)
        partitions = values.get("partitions")
        if not isinstance(partitions, list):
            raise CorpusError(f"{url}: partitions must be a list; run `polyprag prepare` again")
        parsed = tuple(
            build(Partition, values=part, where=f"{url}: partitions[{i}]")
            for i, part in enumerate(partitions)
        )
        return build(CorpusManifest, values=values | {"partitions": parsed}, where=url)

    def removed_in(self, partition: Partition) -> list[int]:
        """Returns the ids of a partition's removed passages, ascending."""
        first = bisect_left(self.removed, partition.first_id)
        end = bisect_left(self.removed, partition.first_id + partition.num_passages)
        return self.removed[first:end]

    def check(self) -> None:
        """Raises `ValueError` naming the field that can't be."""
        _require(_are_strings(self.source), "source", "a list of strings")
        _require(_are_strings(self.source_sha256), "source_sha256", "a list of strings")
        _require(self.partition_size > 0, "partition_size", "at least 1")
        _require(_is_counts(self.skipped), "skipped", "whole numbers of 0 or more by reason")
        for wrong in self.contradictions():
            raise ValueError(wrong)

    def contradictions(self) -> Iterator[str]:
        """Yields where ids and partitions contradict each other, such as ids in two of them."""
        next_id = 0
        seen: set[str] = set()
        for position, part in enumerate(self.partitions):
            where = f"partitions[{position}]"
            if part.index != position:
                yield f"{where}.index must be {position}"
            if part.first_id != next_id:
                yield f"{where}.first_id must be {next_id}"
            if part.file in seen:
                yield f"{where}: partitions must be of different file names"
            seen.add(part.file)
            next_id = part.first_id + part.num_passages
        if not 0 <= next_id <= MAX_ID + 1:
            yield f"num_passages must be at most {MAX_ID + 1}"
        total = sum(part.num_passages for part in self.partitions)
        if self.num_passages != total:
            yield f"num_passages must be the partitions' sum, {total}"
        if not _are_ids(self.removed, total):
            yield f"removed must be ids below {total}, each once, ascending"


def read_manifest(url: str) -> dict[str, Any]:
    """Returns the JSON values of a manifest, as this version writes them.

    Raises:
        CorpusError: it isn't there, isn't JSON, or isn't a manifest of a version that is read.
    """
    with corpus_errors():
        if not exists(url):
            raise CorpusError(f"{url}: no such file; run `polyprag prepare` first")
        values = read_json(url)
    _check_format(values, url)
    checked: dict[str, Any] = values
    if checked["version"] != VERSION:
        checked = checked | {"version": VERSION, "removed": []}
    return checked


def _check_format(values: Any, url: str) -> None:
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise CorpusError(f'{url}: not a corpus manifest (format must be "{FORMAT}")')
    if values.get("version") not in READABLE:
        raise CorpusError(
            f"{url}: version {values.get('version')!r} can't be read by this polyprag, which reads "
            f"version {VERSION}; prepare the corpus again or install the polyprag that wrote it"
        )


# How a field's JSON value is checked, by the field's annotation.
_TYPES: dict[Any, tuple[type, ...]] = {
    int: (int,),
    str: (str,),
    bool: (bool,),
    list[str]: (list,),
    list[int]: (list,),
    dict[str, int]: (dict,),
    dict[str, Any]: (dict,),
    dict[str, Any] | None: (dict, type(None)),
    tuple[Partition, ...]: (tuple,),
}


T = TypeVar("T", Partition, CorpusManifest)


def build(cls: type[T], *, values: Any, where: str) -> T:
    """Returns a checked `Partition` or `CorpusManifest` from JSON values.

    Raises:
        CorpusError: a field is unknown, missing or can't be; names `where` and the first such one.
    """
    if not isinstance(values, dict):
        raise CorpusError(f"{where}: must be a JSON object; run `polyprag prepare` again")
    kinds_of = _KINDS[cls]
    if odd := values.keys() ^ kinds_of.keys():
        names = ", ".join(sorted(str(name) for name in odd))
        raise CorpusError(f"{where}: missing or unknown fields: {names}; prepare again")
    try:
        for name, kinds in kinds_of.items():
            if type(values[name]) not in kinds:
                allowed = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
                raise ValueError(f"{name} must be of type {allowed}")
        built = cls(**values)
        built.check()
    except ValueError as error:
        raise CorpusError(f"{where}: {error}; run `polyprag prepare` again") from error
    return built


# The types that each field's JSON value may have.
_KINDS: dict[type, dict[str, tuple[type, ...]]] = {
    cls: {spec.name: _TYPES[spec.type] for spec in fields(cls)}
    for cls in (Partition, CorpusManifest)
}


def _require(ok: bool, name: str, allowed: str) -> None:
    if not ok:
        raise ValueError(f"{name} must be {allowed}")


def _are_strings(values: list[str]) -> bool:
    return all(isinstance(value, str) for value in values)


def _are_ids(values: list[int], num_passages: int) -> bool:
    if not all(type(value) is int and 0 <= value < num_passages for value in values):
        return False
    return all(before < after for before, after in pairwise(values))


def _is_counts(counts: dict[str, int]) -> bool:
    return all(type(number) is int and number >= 0 for number in counts.values())
