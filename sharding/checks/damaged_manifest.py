"""A corpus manifest that `CorpusManifest.load` refuses: what is wrong with it and what isn't."""

from dataclasses import fields, replace
from typing import Any

from sharding.corpus.manifest import (
    FORMAT,
    MANIFEST_NAME,
    READABLE,
    SHARD_NAME,
    CorpusManifest,
    Partition,
    build,
    read_manifest,
)
from sharding.errors import CorpusError, FileError
from sharding.storage.files import join, read_json

_ABOUT_PARTITIONS = {"partitions", "num_passages", "removed", "format", "version"}


def all_problems(corpus_dir: str) -> list[str]:
    """Returns everything that is wrong with a manifest that `CorpusManifest.load` refuses.

    Returns:
        A message for each, with the file and the field.
    """
    url = join(corpus_dir, MANIFEST_NAME)
    try:
        values = read_manifest(url)
    except (CorpusError, FileError) as error:
        return [str(error)]
    problems: list[str] = []
    parts: list[Partition] = []
    entries = values.get("partitions")
    for position, entry in enumerate(entries if isinstance(entries, list) else []):
        try:
            parts.append(build(Partition, values=entry, where=f"{url}: partitions[{position}]"))
        except CorpusError as error:
            problems.append(str(error))
    if not isinstance(entries, list):
        problems.append(f"{url}: partitions must be a list; run `polyprag prepare` again")
    alone: dict[str, Any] = {"num_passages": 0, "removed": []}
    alone = {"partitions": ()} | {name: alone[name] for name in alone if name in values}
    try:
        manifest = build(CorpusManifest, values=values | alone, where=url)
    except CorpusError as error:
        return [*problems, str(error)]
    num_passages, removed = values["num_passages"], values["removed"]
    if type(num_passages) is not int:
        problems.append(f"{url}: num_passages must be of type int; run `polyprag prepare` again")
    elif type(removed) is not list:
        problems.append(f"{url}: removed must be of type list; run `polyprag prepare` again")
    elif not problems:
        whole = replace(
            manifest, partitions=tuple(parts), num_passages=num_passages, removed=removed
        )
        problems += [f"{url}: {wrong}; prepare again" for wrong in whole.contradictions()]
    return problems


def is_of_other_version(corpus_dir: str) -> bool:
    """Returns whether a manifest is of another polyprag, whose shards may differ, too."""
    values = _values(corpus_dir)
    return values.get("format") == FORMAT and values.get("version") not in (None, *READABLE)


def sound_facts(corpus_dir: str) -> dict[str, Any]:
    """Returns the fields of a damaged manifest that can be, apart from those about partitions."""
    values = _values(corpus_dir)
    sound: dict[str, Any] = {}
    empty = CorpusManifest(source=[], num_passages=0, partition_size=1, partitions=())
    defaults = {field.name: getattr(empty, field.name) for field in fields(CorpusManifest)}
    for name in defaults.keys() - _ABOUT_PARTITIONS:
        if name in values:
            try:
                build(CorpusManifest, values=defaults | {name: values[name]}, where=name)
            except CorpusError:
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
