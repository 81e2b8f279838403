"""Remove passages from a corpus: their ids stay, nothing else of them does.

A removed passage's record becomes a tombstone: an empty text without an augmentation, under a key
that tells of the old one no more than 24 digits of its hash. So the ids of all others stay as they
are. The shards that hold removed passages are written anew; the manifest that names them, and the
ids, comes next; then the old ones are deleted, before this returns. Stopped at any moment, the same
call does the rest.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from msgspec import structs

from sharding.corpus.manifest import SHARD_NAME, CorpusManifest, Partition
from sharding.corpus.partitions import read_shard, remove_unnamed_shards, write_partition
from sharding.corpus.passages import Record, tombstone
from sharding.corpus.reader import records_in
from sharding.corpus.rewrite import replace_shards
from sharding.errors import CorpusError
from sharding.ingest.prepare import WORK_DIR
from sharding.shown_progress import ShowProgress, show_nothing
from sharding.storage.cache import LocalCache
from sharding.storage.files import join, remove_directory
from sharding.task_pool import InlinePool, TaskPool

_NAMED = 5  # unknown ids


@dataclass(frozen=True, slots=True)
class Removed:
    """What came of it.

    Attributes:
        manifest: as saved.
        ids: passages that were removed now.
        num_before: how many of those asked for were removed before.
    """

    manifest: CorpusManifest
    ids: list[int]
    num_before: int


@dataclass(frozen=True, slots=True)
class _Task:
    """A shard to write anew without some of its passages."""

    partition: Partition
    ids: frozenset[int]


def remove_passages(
    corpus_dir: str | Path,
    ids: Iterable[int],
    *,
    count: Callable[[Record], dict[str, int]],
    cache: LocalCache | None = None,
    pool: TaskPool | None = None,
    show: ShowProgress = show_nothing,
) -> Removed:
    """Removes passages; a stopped `prepare` or `add` of this corpus begins anew after it.

    Args:
        corpus_dir: a prepared corpus.
        ids: of the passages, in any order; some may be removed already.
        count: a record's training examples by kind, as `rewrite_partitions` takes it: the counts of
            augmented partitions are renewed.
        cache: forgets the shards that go.
        pool: who does the work; this process, by default.
        show: shows how far it is.

    Raises:
        CorpusError: there is no passage of an id (then nothing is changed), or a shard is damaged.
    """
    corpus_dir = str(corpus_dir)
    manifest = CorpusManifest.load(corpus_dir)
    wanted = set(ids)
    check_ids(corpus_dir, manifest, wanted)
    left = wanted.difference(manifest.removed)
    tasks = list(_tasks(manifest, left))

    def adapt(saved: CorpusManifest, done: set[int]) -> CorpusManifest:
        gone = (task.ids for task in tasks if task.partition.index in done)
        return structs.replace(saved, removed=sorted(set(manifest.removed).union(*gone)))

    def forget(name: str) -> None:
        shard = SHARD_NAME.fullmatch(name)
        if cache is not None and shard is not None:
            cache.drop(shard[2])

    remove_directory(join(corpus_dir, WORK_DIR))  # texts of files that were being read
    if not tasks:  # a stop may have left old shards
        remove_unnamed_shards(corpus_dir, manifest, forget=forget)
        return Removed(manifest, [], len(wanted))
    total = sum(task.partition.num_passages for task in tasks)
    with show(total, "rewriting partitions", unit="passages") as advance:
        written = (pool or InlinePool()).map(partial(_without, corpus_dir, count=count), tasks)
        saved = replace_shards(
            corpus_dir, manifest, written, adapt=adapt, forget=forget, progress=advance
        )
    return Removed(saved, sorted(left), len(wanted) - len(left))


def check_ids(corpus_dir: str, manifest: CorpusManifest, ids: Collection[int]) -> None:
    """Raises `CorpusError` that names ids of which a corpus has no passage and never had one."""
    unknown = sorted(each for each in ids if not 0 <= each < manifest.num_passages)
    if unknown:
        some = ", ".join(map(str, unknown[:_NAMED]))
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        raise CorpusError(
            f"{corpus_dir}: has no passage {some}{more}; ids go from 0 to "
            f"{manifest.num_passages - 1}. Nothing was removed"
        )


def _tasks(manifest: CorpusManifest, ids: set[int]) -> Iterable[_Task]:
    ordered = structs.replace(manifest, removed=sorted(ids))
    for partition in manifest.partitions:
        mine = ordered.removed_in(partition)
        if mine:
            yield _Task(partition, frozenset(mine))


def _without(
    corpus_dir: str, task: _Task, *, count: Callable[[Record], dict[str, int]]
) -> Partition:
    """Writes a shard's successor and returns its entry."""
    partition = task.partition
    url = join(corpus_dir, partition.file)
    records = [
        tombstone(record.passage) if record.passage.id in task.ids else record
        for record in records_in(read_shard(url, partition), partition, url=url)
    ]
    counts: Counter[str] = Counter()
    if partition.augmented:
        for record in records:
            counts.update(count(record))
    return write_partition(
        corpus_dir,
        partition.index,
        records=records,
        augmented=partition.augmented,
        counts=dict(counts),
    )
