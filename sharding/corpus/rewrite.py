"""Rewrite a corpus's shards in place, safely stopped and continued at any moment.

New shards go beside the old ones under their own hash's name; the manifest that names them is
saved next, and only then do the old ones go. So the manifest never names a shard that isn't there.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs

from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.corpus.partitions import read_shard, remove_unnamed_shards, write_partition
from sharding.corpus.passages import Record
from sharding.corpus.reader import records_in
from sharding.corpus.shard_index import index_name
from sharding.shown_progress import PartCount
from sharding.storage.files import join, remove
from sharding.task_pool import InlinePool, TaskPool

SAVE_EVERY_S = 2.0  # saving after each shard would be quadratic in the number of shards


def rewrite_partitions(
    corpus_dir: str | Path,
    transform: Callable[[list[Record]], list[Record]],
    *,
    needs: Callable[[Partition], bool],
    describe: dict[str, Any],
    count: Callable[[Record], dict[str, int]],
    progress: Callable[[int], None] | None = None,
    pool: TaskPool | None = None,
) -> CorpusManifest:
    """Replaces the records of every partition that needs it, and marks it as augmented.

    Run again after a stop: partitions that were finished no longer need it, if `needs` looks at
    `augmented` or `counts`. A stop loses at most the last `SAVE_EVERY_S` seconds of work.

    Args:
        corpus_dir: a prepared corpus.
        transform: new records of a partition, of the same passages in the same order. For other
            processes to do it, it and `count` must be functions of a module, or partial ones.
        needs: whether a partition is to be rewritten.
        describe: how, for `manifest.augmentation`.
        count: a new record's training examples by kind; their sums become the partition's counts.
        progress: called with the number of passages done since its last call, with those of the
            partitions that needed nothing too.
        pool: who does the work; this process, by default.

    Returns:
        The manifest that was saved.

    Raises:
        CorpusError: a shard is damaged; those before it are kept as rewritten.
    """
    manifest = CorpusManifest.load(corpus_dir)
    waiting = [partition.index for partition in manifest.partitions if needs(partition)]
    # What waits counts as not augmented from the first save on: after a stop in the middle, what
    # `describe` says would else also be said of shards that hold an earlier augmentation.
    partitions = list(manifest.partitions)
    for index in waiting:
        partitions[index] = structs.replace(partitions[index], augmented=False, counts={})
    if progress:
        progress(manifest.num_passages - sum(partitions[i].num_passages for i in waiting))

    rewritten = (pool or InlinePool()).map(
        partial(_rewritten, str(corpus_dir), transform=transform, count=count),
        [manifest.partitions[index] for index in waiting],
    )
    sizes = [partitions[index].num_passages for index in waiting]
    done = PartCount(progress or (lambda number: None), sizes)
    with done.listening():
        return replace_shards(
            corpus_dir,
            structs.replace(manifest, partitions=tuple(partitions), augmentation=describe),
            rewritten,
            progress=lambda number: done.finish(),
        )


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


def _rewritten(
    corpus_dir: str,
    partition: Partition,
    *,
    transform: Callable[[list[Record]], list[Record]],
    count: Callable[[Record], dict[str, int]],
) -> Partition:
    url = join(corpus_dir, partition.file)
    before = records_in(read_shard(url, partition), partition, url=url)
    after = transform(before)
    if [record.passage for record in after] != [record.passage for record in before]:
        raise ValueError(f"partition {partition.index}: transform changed the passages")
    counts: Counter[str] = Counter()
    for record in after:
        counts.update(count(record))
    return write_partition(
        corpus_dir, partition.index, records=after, augmented=True, counts=dict(counts)
    )
