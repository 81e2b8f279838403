"""The index manifest: what the index was built from, its segments and the parts of each."""

import re
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from polyprag.errors import RunError
from polyprag.retrieval.parts.components import Component
from polyprag.retrieval.parts.span import Span
from polyprag.retrieval.remedy import REMEDY
from polyprag.versioned_json import read_versioned
from sharding.storage.files import join, write_json

MANIFEST_NAME = "manifest.json"
_FORMAT, _VERSION = "polyprag-index", 3  # version 2 had one directory for each part
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NEEDED = ("passages", "bm25", "embeddings", "dense")


@dataclass(frozen=True, slots=True)
class Segment:
    """A contiguous range of passages with parts of its own; the first segment is the base.

    Attributes:
        first_id: of its passages.
        num_passages: how many they are.
        shards: SHA-256 of the corpus's shards that it was built from, in order.
        row_files: SHA-256 of the encoding's files that hold its rows, in order; none without one.
        components: by name: passages, bm25, embeddings, dense, and rows where there was an
            encoding; the base's encoder too. Each is divided into one directory or more, over
            consecutive passages.
    """

    first_id: int
    num_passages: int
    shards: list[str]
    row_files: list[str]
    components: dict[str, list[Component]]

    @property
    def span(self) -> Span:
        """Its passages' ids."""
        return Span(self.first_id, self.num_passages)


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """Written last, so that what it names is there.

    Attributes:
        num_passages: N.
        settings_sha256: of the settings that decide the base's contents.
        experts_sha256: of the experts that the rows belong to; None if there was no encoding.
        removed: ids, ascending, of passages that had been removed from the corpus.
        segments: in the order of their ids, the base first.
    """

    num_passages: int
    settings_sha256: str
    experts_sha256: str | None
    removed: list[int]
    segments: tuple[Segment, ...]

    @property
    def has_rows(self) -> bool:
        """Whether an encoding's routing rows are attached."""
        return self.experts_sha256 is not None

    @property
    def components(self) -> list[Component]:
        """The parts of all segments."""
        return [
            component
            for segment in self.segments
            for components in segment.components.values()
            for component in components
        ]

    def save(self, index_dir: str | Path) -> None:
        """Writes `index_dir/manifest.json`, atomically."""
        values = {"format": _FORMAT, "version": _VERSION, **asdict(self)}
        write_json(join(index_dir, MANIFEST_NAME), values)

    @classmethod
    def load(cls, index_dir: str | Path) -> "IndexManifest":
        """Reads and checks `index_dir/manifest.json`.

        Raises:
            RunError: it isn't there, or says something that can't be.
        """
        path = join(index_dir, MANIFEST_NAME)
        values = read_versioned(
            path,
            form=_FORMAT,
            version=_VERSION,
            what="an index manifest",
            command="polyprag index RUN",
        )
        try:
            return cls._parse(values, path)
        except ValueError as error:
            raise RunError(f"{path}: {error}; {REMEDY}") from error

    @classmethod
    def _parse(cls, values: dict[str, Any], path: str) -> "IndexManifest":
        num_passages, experts = values.get("num_passages"), values.get("experts_sha256")
        settings: Any = values.get("settings_sha256")
        removed, segments = values.get("removed"), values.get("segments")
        if not _are_hashes([settings]) or not (experts is None or _are_hashes([experts])):
            raise ValueError("settings_sha256 or experts_sha256 isn't a SHA-256")
        if not isinstance(segments, list) or not segments:
            raise ValueError("segments must be a list of at least one")
        needed = {*_NEEDED, "rows"} if experts is not None else {*_NEEDED}
        parsed = tuple(
            _segment(segment, needed if i else {*needed, "encoder"}, where=f"{path}: segments[{i}]")
            for i, segment in enumerate(segments)
        )
        next_id = 0
        for i, segment in enumerate(parsed):
            if segment.first_id != next_id:
                raise ValueError(f"segments[{i}].first_id must be {next_id}")
            next_id += segment.num_passages
        if type(num_passages) is not int or num_passages != next_id:
            raise ValueError(f"num_passages must be the segments' sum, {next_id}")
        if not isinstance(removed, list) or not _are_ids(removed, num_passages):
            raise ValueError("removed must be ids, each once, ascending")
        return cls(num_passages, settings, experts, removed, parsed)


def _segment(values: Any, needed: set[str], *, where: str) -> Segment:
    """Returns a checked segment from JSON values."""
    if not isinstance(values, dict):
        raise RunError(f"{where}: must be an object; {REMEDY}")
    first_id, num_passages = values.get("first_id"), values.get("num_passages")
    shards: Any = values.get("shards")
    row_files: Any = values.get("row_files")
    parts = values.get("components")
    if type(first_id) is not int or type(num_passages) is not int or num_passages < 1:
        raise RunError(f"{where}: first_id and num_passages, at least 1, are needed; {REMEDY}")
    if not _are_hashes(shards) or not shards or not _are_hashes(row_files):
        raise RunError(f"{where}: shards and row_files must be lists of SHA-256; {REMEDY}")
    if bool(row_files) != ("rows" in needed):
        raise RunError(f"{where}: row_files and experts_sha256 don't fit together; {REMEDY}")
    if not isinstance(parts, dict) or parts.keys() != needed:
        names = ", ".join(sorted(needed))
        raise RunError(f"{where}: components must be {names}; {REMEDY}")
    components = {}
    for name, divided in parts.items():
        whole = f"{where}.components.{name}"
        if not isinstance(divided, list) or not divided:
            raise RunError(f"{whole}: must be a list of at least one; {REMEDY}")
        components[name] = [
            Component.parse(part, where=f"{whole}[{i}]") for i, part in enumerate(divided)
        ]
    return Segment(first_id, num_passages, shards, row_files, components)


def _are_hashes(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, str) and _SHA256.fullmatch(value) for value in values
    )


def _are_ids(values: list[Any], num_passages: int) -> bool:
    ids = all(type(value) is int and 0 <= value < num_passages for value in values)
    return ids and all(before < after for before, after in pairwise(values))
