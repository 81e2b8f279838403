"""All that is wrong with one shard and its index, member by member."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from sharding.checks.problem import Problem
from sharding.corpus.manifest import Partition
from sharding.corpus.partitions import read_shard
from sharding.corpus.passages import Record, from_json, to_json
from sharding.corpus.shard_index import index_from_shard, index_length, index_name, save_index
from sharding.corpus.tar import SHARD_REMEDY, member_name, offsets_of, scan
from sharding.errors import CorpusError, FileError
from sharding.storage.files import join, read_bytes

_SHOWN = 10  # members of a shard that are named


@dataclass(frozen=True, slots=True)
class ShardTask:
    """A shard to look at.

    Attributes:
        corpus_dir: where it is.
        partition: what the manifest says of it.
        num_bytes: what the storage says that it holds; None where it isn't there.
        index_bytes: the same of its index.
        count: how many training examples of each kind a record gives, where that is to be checked.
        quick: whether the sizes are all that is looked at.
        removed: the ids of its passages that the manifest says are removed.
    """

    corpus_dir: str
    partition: Partition
    num_bytes: int | None
    index_bytes: int | None
    count: Callable[[Record], dict[str, int]] | None
    quick: bool
    removed: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ShardFindings:
    """What came of it; `counts` and `removed` are the true ones where the manifest has others."""

    partition: Partition
    problems: list[Problem]
    counts: dict[str, int] | None = None
    removed: list[int] | None = None


def inspect_shard(task: ShardTask) -> ShardFindings:
    """Reads and checks a shard and its index, of which no more is believed than is necessary."""
    part = task.partition
    url = join(task.corpus_dir, part.file)
    if task.num_bytes is None:
        lost = f"{url}: no such file; copy it from elsewhere, or prepare the corpus again"
        return ShardFindings(part, [Problem(url, lost)])
    if task.num_bytes != part.num_bytes or task.quick:
        what = f"{url}: holds {task.num_bytes} bytes where the manifest says {part.num_bytes}"
        if task.num_bytes == part.num_bytes:
            return ShardFindings(part, list(_index_size(task)))
        read = min(task.num_bytes, part.num_bytes)
        first = None if task.quick else _first_of(url, part, num_bytes=read)
        return ShardFindings(part, [Problem(url, _with_member(what, first))])
    try:
        data = read_bytes(url)
    except FileError as error:
        return ShardFindings(part, [Problem(url, str(error))])
    if hashlib.sha256(data).hexdigest() != part.sha256:
        what = f"{url}: SHA-256 differs from the manifest's"
        first = next(problems_in(data, part, where=url), None)
        return ShardFindings(part, [Problem(url, _with_member(what, first))])
    counts: Counter[str] = Counter()
    removed: list[int] = []
    found = list(
        problems_in(data, part, where=url, count=task.count, counts=counts, removed=removed)
    )
    if found:
        shown = [Problem(url, message) for message in found[:_SHOWN]]
        if len(found) > _SHOWN:
            more = f"{url}: {len(found) - _SHOWN} more of its members are wrong; {SHARD_REMEDY}"
            shown.append(Problem(url, more))
        return ShardFindings(part, shown)
    differs = task.count is not None and part.augmented and +counts != +Counter(part.counts)
    return ShardFindings(
        part,
        list(_index(task, data)),
        dict(counts) if differs else None,
        removed if removed != task.removed else None,
    )


def problems_in(
    data: bytes,
    partition: Partition,
    *,
    where: str,
    count: Callable[[Record], dict[str, int]] | None = None,
    counts: Counter[str] | None = None,
    removed: list[int] | None = None,
) -> Iterator[str]:
    """Yields all that is wrong with a shard's bytes, whatever its checksum.

    Args:
        data: the whole shard.
        partition: what it must hold.
        where: the shard, for the messages.
        count: how many training examples of each kind a record gives.
        counts: the sums are added here.
        removed: the ids of removed passages are added here.

    Yields:
        A message for each wrong member.
    """
    first_id = partition.first_id
    try:
        sizes = scan(data, first_id=first_id, num_members=partition.num_passages, where=where)
    except CorpusError as error:
        yield str(error)
        return
    starts = offsets_of(sizes)
    bounds = zip(starts.tolist(), (starts + sizes).tolist(), strict=True)
    for passage_id, (start, end) in enumerate(bounds, start=first_id):
        member = f"{where}, member {member_name(passage_id)}"
        try:
            record = from_json(data[start:end], where=member)
        except CorpusError as error:
            yield str(error)
            continue
        if record.passage.id != passage_id:
            yield f"{member}: holds passage {record.passage.id}; {SHARD_REMEDY}"
        elif to_json(record) != data[start:end]:
            yield (
                f"{member}: isn't written as polyprag writes it (a field that comes twice, spaces "
                f"or escapes); {SHARD_REMEDY}"
            )
        elif record.passage.is_removed and record.augmentation is not None:
            yield f"{member}: has an augmentation, and its passage is removed; {SHARD_REMEDY}"
        else:
            if count is not None and counts is not None:
                counts.update(count(record))
            if removed is not None and record.passage.is_removed:
                removed.append(passage_id)


def _first_of(url: str, partition: Partition, *, num_bytes: int) -> str | None:
    """Returns the first thing that is wrong in a shard of another size."""
    try:
        return next(problems_in(read_bytes(url, length=num_bytes), partition, where=url), None)
    except FileError as error:
        return str(error)


def _with_member(what: str, first: str | None) -> str:
    """Words what is wrong with a shard, and the first damage in it where that can be seen."""
    if first is None:
        return f"{what}; {SHARD_REMEDY}"
    return f"{what} ({first.removesuffix(f'; {SHARD_REMEDY}')}); {SHARD_REMEDY}"


def _index_size(task: ShardTask) -> Iterator[Problem]:
    url = join(task.corpus_dir, index_name(task.partition.file))
    if task.index_bytes is None:
        yield _index_problem(url, "no such file", task)
    elif task.index_bytes != index_length(task.partition.num_passages):
        yield _index_problem(url, f"holds {task.index_bytes} bytes, which can't be", task)


def _index(task: ShardTask, data: bytes) -> Iterator[Problem]:
    """Yields what is wrong with the index of a shard that is sound."""
    wrong = list(_index_size(task))
    if wrong:
        yield from wrong
        return
    url = join(task.corpus_dir, index_name(task.partition.file))
    true = index_from_shard(data, task.partition, where=url).to_bytes()
    try:
        found = read_bytes(url)
    except FileError as error:
        yield Problem(url, str(error))
        return
    if found != true:
        yield _index_problem(url, "isn't the index of its shard", task)


def _index_problem(url: str, what: str, task: ShardTask) -> Problem:
    message = f"{url}: {what}; --repair makes it anew (so does the first read of a single passage)"
    return Problem(url, message, partial(_rebuild_index, task.corpus_dir, task.partition))


def _rebuild_index(corpus_dir: str, partition: Partition) -> str:
    shard = join(corpus_dir, partition.file)
    data = read_shard(shard, partition)
    url = join(corpus_dir, index_name(partition.file))
    save_index(url, index_from_shard(data, partition, where=shard))
    return f"{url}: made anew from its shard"
