"""A corpus manifest that was lost or damaged, made again from the shards that it named.

A shard is named for its number and its hash, and its members for their ids. So where the shards
are whole and their ids dense, all of the manifest that readers need follows from them.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from sharding.checks.shard import problems_in
from sharding.corpus.manifest import MANIFEST_NAME, SHARD_NAME, CorpusManifest, Partition
from sharding.corpus.passages import Record, from_json
from sharding.corpus.tar import BLOCK, SHARD_REMEDY, offsets_of, scan
from sharding.errors import CorpusError, FileError
from sharding.storage.files import atomic_write, exists, join, read_bytes

INDEX_AGAIN = "an index that was built with the one before is built again by `polyprag index`"
_DAMAGED_NAME = "manifest.damaged.json"
_FACTS = {  # of the manifest, that shards don't know, and what is lost with them
    "source": "the names of the source files",
    "source_sha256": "their checksums, by which `polyprag prepare` knows a corpus that is done",
    "options": "how the corpus was prepared",
    "skipped": "what was left out of it",
    "augmentation": "how it was augmented",
}


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A shard that is in a corpus directory, whatever the manifest says.

    Attributes:
        corpus_dir: where.
        name: its name.
        count: how many training examples of each kind a record gives.
    """

    corpus_dir: str
    name: str
    count: Callable[[Record], dict[str, int]] | None


@dataclass(frozen=True, slots=True)
class FoundShard:
    """What a manifest must say of a shard.

    Attributes:
        partition: its entry.
        removed: the ids of its removed passages.
    """

    partition: Partition
    removed: list[int]


def look_at(shard: ShardFile) -> FoundShard | str:
    """Returns what a manifest must say of a shard, found from the shard alone.

    Else what is wrong.
    """
    url = join(shard.corpus_dir, shard.name)
    named = SHARD_NAME.fullmatch(shard.name)
    try:
        if named is None:
            raise CorpusError(f"{url}: isn't named as a shard is; {SHARD_REMEDY}")
        data = read_bytes(url)
        sha256 = hashlib.sha256(data).hexdigest()
        if not sha256.startswith(named[2]):
            raise CorpusError(f"{url}: has another SHA-256 than its name says; {SHARD_REMEDY}")
        first_id, num_passages = _extent(data, url)
        found = Partition(
            int(named[1]), first_id, num_passages, shard.name, len(data), sha256, False, {}
        )
        for message in problems_in(data, found, where=url):
            raise CorpusError(message)
    except (CorpusError, FileError) as error:
        return str(error)
    written, num_live, removed, counts = 0, 0, [], Counter[str]()
    sizes = scan(data, first_id=first_id, num_members=num_passages, where=url)
    for start, size in zip(offsets_of(sizes).tolist(), sizes.tolist(), strict=True):
        record = from_json(data[start : start + size], where=url)
        if record.passage.is_removed:
            removed.append(record.passage.id)
        else:
            num_live += 1
            written += record.augmentation is not None
        if shard.count is not None:
            counts.update(shard.count(record))
    augmented = written > 0 or num_live == 0  # the others are open, and counted as such
    found = structs.replace(found, augmented=augmented, counts=dict(counts) if augmented else {})
    return FoundShard(found, removed)


def _extent(data: bytes, url: str) -> tuple[int, int]:
    """Returns the first member's id, and how many members follow each other.

    `scan` checks the rest.
    """
    at = num_members = 0
    while any(header := data[at : at + BLOCK]):
        try:
            size = int(header[124:135], 8)
            first_id = int(data[:12])
        except ValueError:
            break
        if size < 0:
            break
        num_members += 1
        at += BLOCK + -(-size // BLOCK) * BLOCK
    if num_members == 0:
        raise CorpusError(f"{url}: not a shard of polyprag's; {SHARD_REMEDY}")
    return first_id, num_members


def whole_corpus(
    corpus_dir: str, found: Sequence[FoundShard | str], *, expected: set[str]
) -> tuple[tuple[Partition, ...], list[str]]:
    """Returns the partitions of a corpus, if these shards are all of one.

    Args:
        corpus_dir: where they are.
        found: what `look_at` says of each shard there.
        expected: names of shards that a damaged manifest still tells of.

    Returns:
        The partitions in their order, and why they aren't a whole corpus (nothing, if they are).
    """
    problems = [each for each in found if isinstance(each, str)]
    partitions = sorted(
        (each.partition for each in found if isinstance(each, FoundShard)),
        key=lambda partition: (partition.index, partition.file),
    )
    there = {partition.file for partition in partitions}
    problems += [
        f"{join(corpus_dir, name)}: no such file, and the manifest names it; copy it from elsewhere"
        for name in sorted(expected - there)
        if not any(join(corpus_dir, name) in problem for problem in problems)
    ]
    next_index = next_id = 0
    for partition in partitions:
        url = join(corpus_dir, partition.file)
        if partition.index == next_index - 1:
            problems.append(
                f"{url}: there is another shard of partition {partition.index}, and only the "
                "manifest knew which one counts; move the older one away"
            )
        elif partition.index != next_index:
            problems.append(
                f"{url}: the shards of partitions {next_index} to {partition.index - 1} are lost; "
                "copy them from elsewhere"
            )
        elif partition.first_id != next_id:
            problems.append(f"{url}: begins with passage {partition.first_id}, not {next_id}")
        next_index, next_id = partition.index + 1, partition.first_id + partition.num_passages
    return tuple(partitions), problems


def lost_facts(facts: dict[str, Any]) -> str:
    """Returns what a rebuilt manifest won't say, in words; empty if nothing."""
    lost = [what for name, what in _FACTS.items() if name not in facts]
    return ", ".join(lost)


def rebuild_manifest(
    corpus_dir: str | Path, partitions: tuple[Partition, ...], facts: dict[str, Any]
) -> str:
    """Writes the manifest of these partitions, and keeps a copy of a damaged one.

    Returns:
        What was done.
    """
    url = join(corpus_dir, MANIFEST_NAME)
    kept = ""
    if exists(url):
        copy = join(corpus_dir, _DAMAGED_NAME)
        before = read_bytes(url)
        with atomic_write(copy) as file:
            file.write(before)
        kept = f"; the damaged one is kept as {copy}"
    largest = max(part.num_passages for part in partitions)
    values: dict[str, Any] = {"source": [], "partition_size": largest, **facts}
    manifest = CorpusManifest(
        **values,
        num_passages=sum(part.num_passages for part in partitions),
        partitions=partitions,
    )
    manifest.check()
    manifest.save(corpus_dir)
    return f"{url}: made anew from {len(partitions)} shards{kept}; {INDEX_AGAIN}"
