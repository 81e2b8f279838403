"""The second half of prepare: numbered passages of splits become partitions."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sharding.corpus.manifest import Partition
from sharding.corpus.partitions import check_shard, write_shard
from sharding.errors import CorpusError
from sharding.ingest.bodies import with_id
from sharding.ingest.split_file import load_split
from sharding.storage.decoding import convert
from sharding.storage.files import exists, join, read_json, write_json

_WRITERS = 8


@dataclass(frozen=True, slots=True)
class PackTask:
    """Partitions to write.

    Attributes:
        corpus_dir: where they go.
        work_dir: where the note goes that they are written.
        first_partition: their first one's number.
        first_id: of its first passage.
        sizes: passages in each.
        pieces: URL and key of each split, and the passages to take from it.
    """

    corpus_dir: str
    work_dir: str
    first_partition: int
    first_id: int
    sizes: list[int]
    pieces: list[tuple[str, str, NDArray[np.int64]]]


def pack(task: PackTask) -> list[Partition]:
    """Writes partitions, keeping those that a stopped run wrote.

    Raises:
        CorpusError: a split was lost or damaged since it was written.
    """
    note = join(task.work_dir, f"packed-{task.first_partition:06d}.json")
    key = _key(task)
    written = _kept(note, key, task)
    if written is not None:
        return written
    # Most of the time of a small shard is waiting for the disk, which several can do at once.
    with ThreadPoolExecutor(_WRITERS) as writers:
        written = list(
            writers.map(lambda shard: write_shard(task.corpus_dir, **shard), _shards(task))
        )
    write_json(note, {"key": key, "partitions": msgspec.to_builtins(written)})
    return written


def _shards(task: PackTask) -> Iterator[dict[str, Any]]:
    """Yields the arguments of `write_shard` for each partition."""
    documents = _documents(task)
    first_id = task.first_id
    for index, size in enumerate(task.sizes, start=task.first_partition):
        yield {"index": index, "first_id": first_id, "documents": list(islice(documents, size))}
        first_id += size


def _documents(task: PackTask) -> Iterator[bytes]:
    passage_id = task.first_id
    for url, key, passages in task.pieces:
        split = load_split(url, key=key)
        if split is None:
            raise CorpusError(
                f"{url}: lost or damaged since it was written; run `polyprag prepare` again, which "
                "makes it anew"
            )
        offsets = split.body_offsets()
        begins, ends = offsets[passages].tolist(), offsets[passages + 1].tolist()
        for begin, end in zip(begins, ends, strict=True):
            yield with_id(passage_id, split.bodies[begin:end])
            passage_id += 1


def _key(task: PackTask) -> str:
    """Of everything that decides the partitions' bytes."""
    digest = hashlib.sha256(json.dumps([task.first_id, task.sizes]).encode())
    for _, key, passages in task.pieces:
        digest.update(key.encode())
        digest.update(passages.astype("<i8").tobytes())
    return digest.hexdigest()


def _kept(note: str, key: str, task: PackTask) -> list[Partition] | None:
    """Returns the partitions that a stopped run wrote from the same, if all are whole."""
    if not exists(note):
        return None
    try:
        values = read_json(note)
        if values["key"] != key:
            return None
        written = convert(values["partitions"], list[Partition])
        for partition in written:
            partition.check()
            check_shard(task.corpus_dir, partition)
    except (CorpusError, ValueError, KeyError, TypeError):
        return None
    return written
