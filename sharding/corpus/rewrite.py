"""Rewrite a corpus's shards in place, safely stopped and continued at any moment.

New shards go beside the old ones under their own hash's name; the manifest that names them is
saved next, and only then do the old ones go. So the manifest never names a shard that isn't there.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs

from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.corpus.partitions import read_shard, remove_unnamed_shards, write_partition
from sharding.corpus.passages import Passage, Record
from sharding.corpus.reader import records_in
from sharding.corpus.shard_index import index_name
from sharding.shown_progress import PartCount
from sharding.storage.files import join, remove
from sharding.task_pool import InlinePool, TaskPool

SAVE_EVERY_S = 2.0  # saving after each shard would be quadratic in the number of shards


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What becomes of a partition.

    Attributes:
        records: its new ones, of the same passages in the same order; None: it stays as it is.
        is_changed: whether they say more than those of before. Of partitions where nothing came,
            none is marked as augmented unless another one is.
        notes: for the `see` of `rewrite_partitions`.
    """

    records: list[Record] | None
    is_changed: bool = True
    notes: Any = None


Transform = Callable[[list[Record]], Rewritten]
See = Callable[[Partition, Any], object]


def rewrite_partitions(
    corpus_dir: str | Path,
    transform_of: Callable[[Partition], Transform],
    *,
    needs: Callable[[Partition], bool],
    describe: Callable[[], dict[str, Any]],
    count: Callable[[Record], dict[str, int]],
    anew: bool = False,
    see: See = lambda partition, notes: None,
    progress: Callable[[int], None] | None = None,
    pool: TaskPool | None = None,
) -> CorpusManifest:
    """Replaces the records of every partition that needs it, and marks it as augmented.

    Run again after a stop: partitions that were finished no longer need it, if `needs` looks at
    `augmented` or `counts`. A stop loses at most the last `SAVE_EVERY_S` seconds of work.

    Args:
        corpus_dir: a prepared corpus.
        transform_of: gives what makes new records of a partition's. For other processes to do it,
            that and `count` must be functions of a module, or partial ones.
        needs: whether a partition is to be rewritten.
        describe: how, for `manifest.augmentation`; asked whenever a manifest with a rewritten
            partition is saved.
        count: a new record's training examples by kind; their sums become the partition's counts.
        anew: whether what partitions hold no longer counts: they are marked as not augmented with
            the first one that is done, or after a stop what `describe` says would also be said of
            shards that hold an earlier augmentation.
        see: is given each partition's notes as it is done; what it raises ends the work.
        progress: called with the number of passages done since its last call, with those of the
            partitions that needed nothing too.
        pool: who does the work; this process, by default.

    Returns:
        The manifest that was saved.

    Raises:
        CorpusError: a shard is damaged; those before it are kept as rewritten.
    """
    manifest = CorpusManifest.load(corpus_dir)
    waiting = [partition for partition in manifest.partitions if needs(partition)]
    if progress:
        progress(manifest.num_passages - sum(partition.num_passages for partition in waiting))
    rewritten = (pool or InlinePool()).map(
        partial(_rewritten, str(corpus_dir), count=count),
        (_Task(partition, transform_of(partition)) for partition in waiting),
    )
    done = PartCount(
        progress or (lambda number: None), [partition.num_passages for partition in waiting]
    )

    def adapt(saved: CorpusManifest, indices: set[int]) -> CorpusManifest:
        if not indices:
            return manifest  # nothing is written, so nothing is said of how
        partitions = list(saved.partitions)
        if anew:
            for index in {partition.index for partition in waiting} - indices:
                partitions[index] = structs.replace(partitions[index], augmented=False, counts={})
        return structs.replace(saved, partitions=tuple(partitions), augmentation=describe())

    def seen() -> Iterator[_Done]:
        for partition, each in zip(waiting, rewritten, strict=True):
            see(partition, each.notes)
            done.finish()
            yield each

    is_written = any(partition.augmented for partition in manifest.partitions)
    with done.listening():
        return replace_shards(
            corpus_dir, manifest, _entries(seen(), is_written=is_written), adapt=adapt
        )


@dataclass(frozen=True, slots=True)
class _Task:
    partition: Partition
    transform: Transform


@dataclass(frozen=True, slots=True)
class _Done:
    entry: Partition | None
    is_changed: bool
    notes: Any


def _entries(done: Iterable[_Done], *, is_written: bool) -> Iterator[Partition]:
    """Yields the new entries; those to which nothing was added wait for one with something new."""
    held: list[Partition] = []
    for each in done:
        if each.entry is None:
            continue
        held.append(each.entry)
        is_written |= each.is_changed
        if is_written:
            yield from held
            held.clear()


def replace_shards(
    corpus_dir: str | Path,
    manifest: CorpusManifest,
    rewritten: Iterable[Partition],
    *,
    adapt: Callable[[CorpusManifest, set[int]], CorpusManifest] = lambda manifest, done: manifest,
    forget: Callable[[str], object] = lambda name: None,
    progress: Callable[[int], None] | None = None,
) -> CorpusManifest:
    """Puts new shards in the place of old ones, a few at a time; see the top of this file.

    Args:
        corpus_dir: where they are.
        manifest: what is true before the first of them.
        rewritten: entries of shards that are written just before they come.
        adapt: says in a manifest what else is new with these partitions, given by their numbers.
        forget: called with the name of a shard that is about to be deleted.
        progress: called with the number of passages of each.

    Returns:
        The manifest that was saved.
    """
    partitions = list(manifest.partitions)
    done: set[int] = set()

    def save() -> CorpusManifest:
        saved = adapt(structs.replace(manifest, partitions=tuple(partitions)), done)
        saved.save(corpus_dir)
        return saved

    replaced: list[str] = []
    saved_at = time.monotonic()
    try:
        for partition in rewritten:
            replaced.append(partitions[partition.index].file)
            partitions[partition.index] = partition
            done.add(partition.index)
            if progress:
                progress(partition.num_passages)
            if time.monotonic() - saved_at >= SAVE_EVERY_S:
                _remove_replaced(corpus_dir, save(), replaced, forget)
                replaced.clear()
                saved_at = time.monotonic()
    finally:
        saved = save()
        remove_unnamed_shards(corpus_dir, saved, forget=forget)
    return saved


def _remove_replaced(
    corpus_dir: str | Path,
    manifest: CorpusManifest,
    names: list[str],
    forget: Callable[[str], object],
) -> None:
    kept = {partition.file for partition in manifest.partitions}
    for name in names:
        if name not in kept:  # the same bytes again keep their name
            forget(name)
            remove(join(corpus_dir, index_name(name)))
            remove(join(corpus_dir, name))


def _rewritten(corpus_dir: str, task: _Task, *, count: Callable[[Record], dict[str, int]]) -> _Done:
    partition = task.partition
    url = join(corpus_dir, partition.file)
    before = records_in(read_shard(url, partition), partition, url=url)
    made = task.transform(before)
    if made.records is None:
        return _Done(None, made.is_changed, made.notes)
    if _passages(made.records) != _passages(before):
        raise ValueError(f"partition {partition.index}: transform changed the passages")
    counts: Counter[str] = Counter()
    for record in made.records:
        counts.update(count(record))
    entry = write_partition(
        corpus_dir, partition.index, records=made.records, augmented=True, counts=dict(counts)
    )
    return _Done(entry, made.is_changed, made.notes)


def _passages(records: Sequence[Record]) -> list[Passage]:
    return [record.passage for record in records]
