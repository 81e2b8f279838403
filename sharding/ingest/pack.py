"""The second half of prepare: the passages that stay are numbered and become partitions.

Which passages of which splits make which partition is worked out over integers (`pack_plan`);
tasks on a pool of workers write the partitions.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sharding.corpus.manifest import Partition
from sharding.corpus.partitions import check_shard, write_shard
from sharding.errors import CorpusError, FileError
from sharding.ingest.splits import SplitInfo, load_split, with_id
from sharding.shown_progress import ShowProgress
from sharding.storage.decoding import convert
from sharding.storage.files import exists, join, read_json, write_json
from sharding.task_pool import TaskPool


@dataclass(frozen=True, slots=True)
class Piece:
    """Passages of a split.

    Attributes:
        split: its number.
        passages: which, by their positions in it, ascending.
    """

    split: int
    passages: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pack:
    """Partitions that one task writes.

    Attributes:
        first_partition: their first one's number.
        first_id: of its first passage.
        sizes: passages in each.
        pieces: where the passages come from, in order.
    """

    first_partition: int
    first_id: int
    sizes: list[int]
    pieces: list[Piece]


def pack_plan(
    sizes: Sequence[int],
    left_out: NDArray[np.int64],
    *,
    partition_size: int,
    pack_size: int,
    first_partition: int = 0,
    first_id: int = 0,
) -> Iterator[Pack]:
    """Numbers the passages that stay densely, and parts them into full partitions.

    Args:
        sizes: passages in each split.
        left_out: positions over all splits of passages that don't stay, ascending.
        partition_size: passages in a partition; the last may have less.
        pack_size: passages that a task should write at least.
        first_partition: the first partition's number: how many a corpus has before.
        first_id: the first passage's id, likewise.

    Yields:
        The tasks, in the order of the ids.
    """
    begins = np.concatenate([[0], np.cumsum(np.asarray(sizes, np.int64))])
    # Kept passages before each split: where its ids begin.
    first_ids = begins - np.searchsorted(left_out, begins)
    total = int(first_ids[-1])
    per_pack = max(1, -(-pack_size // partition_size)) * partition_size
    for first in range(0, total, per_pack):
        end = min(first + per_pack, total)
        edges = [*range(first, end, partition_size), end]
        yield Pack(
            first_partition + first // partition_size,
            first_id + first,
            [b - a for a, b in pairwise(edges)],
            _pieces(first, end, begins, first_ids, left_out),
        )


def _pieces(
    first: int,
    end: int,
    begins: NDArray[np.int64],
    first_ids: NDArray[np.int64],
    left_out: NDArray[np.int64],
) -> list[Piece]:
    """Returns the passages that are kept from the `first` to before the `end`."""
    split = int(np.searchsorted(first_ids, first, side="right")) - 1
    pieces = []
    while first < end:
        a, b = np.searchsorted(left_out, begins[split : split + 2])
        stays = np.ones(begins[split + 1] - begins[split], bool)
        stays[left_out[a:b] - begins[split]] = False
        at = first - int(first_ids[split])
        passages = np.flatnonzero(stays)[at : at + end - first]
        if len(passages):
            pieces.append(Piece(split, passages))
        first += len(passages)
        split += 1
    return pieces


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


def write_pack(task: PackTask) -> list[Partition]:
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
    except (CorpusError, FileError, ValueError, KeyError, TypeError):
        return None
    return written


def write_partitions(
    corpus_dir: str,
    work_dir: str,
    splits: Sequence[SplitInfo],
    *,
    left_out: NDArray[np.int64],
    partition_size: int,
    pool: TaskPool,
    show: ShowProgress,
    first_partition: int = 0,
    first_id: int = 0,
) -> tuple[Partition, ...]:
    """Writes the shards, keeping those of a stopped run; no manifest names them yet.

    Args:
        corpus_dir: where they go.
        work_dir: where the splits are, and notes of what is written.
        splits: of the whole input, in order.
        left_out: positions over all splits of passages that don't stay, ascending.
        partition_size: passages in a shard; the last may have less.
        pool: who does the work.
        show: shows how far it is.
        first_partition: the first shard's number: how many the corpus has before.
        first_id: the first passage's id, likewise.
    """
    sizes = [split.num_passages for split in splits]
    plan = pack_plan(
        sizes,
        left_out,
        partition_size=partition_size,
        pack_size=max(1, sum(sizes) // max(1, len(sizes))),
        first_partition=first_partition,
        first_id=first_id,
    )

    def tasks() -> Iterator[PackTask]:
        for part in plan:
            pieces = [(splits[p.split].url, splits[p.split].key, p.passages) for p in part.pieces]
            yield PackTask(
                corpus_dir, work_dir, part.first_partition, part.first_id, part.sizes, pieces
            )

    partitions: list[Partition] = []
    with show(sum(sizes) - len(left_out), "writing partitions", unit="passages") as advance:
        for written in pool.map(write_pack, tasks()):
            partitions += written
            advance(sum(partition.num_passages for partition in written))
    return tuple(partitions)
