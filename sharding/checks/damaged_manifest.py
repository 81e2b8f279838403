"""A corpus manifest that `CorpusManifest.load` refuses: what is wrong with it and what isn't."""

from typing import Any

import msgspec

from sharding.corpus.manifest import (
    CORPUS_MANIFEST,
    MANIFEST_NAME,
    SHARD_NAME,
    CorpusManifest,
    Partition,
)
from sharding.errors import CorpusError, FileError
from sharding.storage.decoding import convert
from sharding.storage.files import join, read_json

_ABOUT_PARTITIONS = {"partitions", "num_passages", "removed", "format", "version"}


def all_problems(corpus_dir: str) -> list[str]:
    """Returns everything that is wrong with a manifest that `CorpusManifest.load` refuses.

    Returns:
        A message for each, with the file and the field.
    """
    url = join(corpus_dir, MANIFEST_NAME)
    try:
        values = CORPUS_MANIFEST.values(url)
    except (CorpusError, FileError) as error:
        return [str(error)]
    return [f"{url}: {wrong}; {CORPUS_MANIFEST.remedy}" for wrong in _wrong(values)]


def _wrong(values: dict[str, Any]) -> list[str]:
    """Returns what is wrong with a manifest's values, each of which begins with the field."""
    wrong: list[str] = []
    parts: list[Partition] = []
    entries = values.get("partitions")
    for position, entry in enumerate(entries if isinstance(entries, list) else []):
        try:
            part = convert(entry, Partition)
            part.check()
        except ValueError as error:
            wrong.append(f"partitions[{position}]: {error}")
        else:
            parts.append(part)
    if not isinstance(entries, list):
        wrong.append("partitions must be a list")
    try:
        whole = CORPUS_MANIFEST.converted(values | {"partitions": []})
    except ValueError as error:
        return [*wrong, str(error)]
    if not wrong:
        wrong += msgspec.structs.replace(whole, partitions=tuple(parts)).contradictions()
    return wrong


def is_of_other_version(corpus_dir: str) -> bool:
    """Returns whether a manifest is of another polyprag, whose shards may differ, too."""
    values = _values(corpus_dir)
    known = (None, *CORPUS_MANIFEST.readable)
    return values.get("format") == CORPUS_MANIFEST.form and values.get("version") not in known


def sound_facts(corpus_dir: str) -> dict[str, Any]:
    """Returns the fields of a damaged manifest that can be, apart from those about partitions."""
    values = _values(corpus_dir)
    sound: dict[str, Any] = {}
    empty = CorpusManifest(source=[], num_passages=0, partition_size=1, partitions=())
    defaults = msgspec.structs.asdict(empty)
    for name in defaults.keys() - _ABOUT_PARTITIONS:
        if name in values:
            try:
                CORPUS_MANIFEST.checked(defaults | {name: values[name]})
            except ValueError:
                continue
            sound[name] = values[name]
    return sound


def named_shards(corpus_dir: str) -> set[str]:
    """Returns the shards that a damaged manifest tells of."""
    entries = _values(corpus_dir).get("partitions")
    if not isinstance(entries, list):
        return set()
    files = [entry.get("file") for entry in entries if isinstance(entry, dict)]
    return {file for file in files if isinstance(file, str) and SHARD_NAME.fullmatch(file)}


def _values(corpus_dir: str) -> dict[str, Any]:
    try:
        values = read_json(join(corpus_dir, MANIFEST_NAME))
    except FileError:
        return {}
    return values if isinstance(values, dict) else {}
