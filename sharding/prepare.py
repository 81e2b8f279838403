"""Turn corpus files into a corpus directory: shards and a manifest, in constant memory.

Stopping at any time is fine: run again, what was written is kept. `progress.json` lists it until
the manifest, which is written last, takes its place.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from sharding.errors import CorpusError
from sharding.files import exists, join, remove, sha256_of
from sharding.key_set import KeySet
from sharding.manifest import MANIFEST_NAME, CorpusManifest, Partition
from sharding.partitions import check_shard, remove_unnamed_shards, write_partition
from sharding.passages import Passage, Record
from sharding.readers import OnError, check_readable, read_passages

PROGRESS_NAME = "progress.json"
SAVE_EVERY_S = 5.0  # saving after each shard would be quadratic in the number of shards


def prepare(
    sources: Sequence[str],
    corpus_dir: str | Path,
    *,
    partition_size: int,
    on_error: OnError = "stop",
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> CorpusManifest:
    """Makes a corpus of the passages in some files, in their order.

    The same files again (by their content) change nothing: the corpus is checked and kept, with
    whatever augmentation it has.

    Args:
        sources: Paths or URLs of corpus files; see `readers.read_passages` for the formats.
        corpus_dir: Where shards and manifest go.
        partition_size: Passages in a shard.
        on_error: Whether a bad line is an error or is left out and counted.
        overwrite: Whether another corpus in that directory may be replaced.
        progress: Called with the number of passages done since its last call.

    Returns:
        The manifest that was saved.

    Raises:
        CorpusError: A source can't be read, or the directory holds another corpus.
    """
    if not sources:
        raise CorpusError("no corpus file was named; give at least one .jsonl or .tsv file")
    for source in sources:
        check_readable(source)
    hashes = [sha256_of(source) for source in sources]
    progress = progress or (lambda _: None)
    if exists(join(corpus_dir, MANIFEST_NAME)) and not overwrite:
        manifest = CorpusManifest.load(corpus_dir)
        _check_same(corpus_dir, manifest, hashes, partition_size=partition_size, on_error=on_error)
        for partition in manifest.partitions:
            check_shard(corpus_dir, partition)
            progress(partition.num_passages)
        _tidy(corpus_dir, manifest)
        return manifest

    manifest = _written(
        sources,
        corpus_dir,
        hashes=hashes,
        partition_size=partition_size,
        on_error=on_error,
        progress=progress,
    )
    manifest.save(corpus_dir)
    _tidy(corpus_dir, manifest)
    return manifest


def _written(
    sources: Sequence[str],
    corpus_dir: str | Path,
    *,
    hashes: list[str],
    partition_size: int,
    on_error: OnError,
    progress: Callable[[int], None],
) -> CorpusManifest:
    """Writes the shards, keeping those of a stopped run; the manifest isn't saved yet."""
    skipped: Counter[str] = Counter()
    records = _records(sources, on_error, skipped)
    begun = _begun(corpus_dir, hashes, partition_size)

    def manifest_of(partitions: list[Partition]) -> CorpusManifest:
        return CorpusManifest(
            source=list(sources),
            source_sha256=hashes,
            num_passages=sum(partition.num_passages for partition in partitions),
            partition_size=partition_size,
            partitions=tuple(partitions),
            skipped=dict(sorted(skipped.items())),
        )

    partitions: list[Partition] = []
    saved_at = time.monotonic()
    try:
        while batch := list(islice(records, partition_size)):
            partitions.append(_partition(corpus_dir, batch, len(partitions), begun))
            progress(len(batch))
            if time.monotonic() - saved_at >= SAVE_EVERY_S:
                manifest_of(partitions).save(corpus_dir, name=PROGRESS_NAME)
                saved_at = time.monotonic()
    except BaseException:
        if partitions:
            manifest_of(partitions).save(corpus_dir, name=PROGRESS_NAME)
        raise
    if not partitions:
        raise CorpusError(f"{', '.join(sources)}: no passages in it; nothing was written")
    return manifest_of(partitions)


def _tidy(corpus_dir: str | Path, manifest: CorpusManifest) -> None:
    """Removes what stopped runs left, now that the manifest says what counts."""
    remove(join(corpus_dir, PROGRESS_NAME))
    remove_unnamed_shards(corpus_dir, manifest)


def _check_same(
    corpus_dir: str | Path,
    manifest: CorpusManifest,
    hashes: list[str],
    *,
    partition_size: int,
    on_error: OnError,
) -> None:
    """Refuses when the corpus that is there isn't the one asked for."""
    if manifest.source_sha256 != hashes:
        what = f"from other files ({', '.join(manifest.source)})"
    elif manifest.partition_size != partition_size:
        what = f"with data.partition_size={manifest.partition_size}"
    elif manifest.skipped and on_error == "stop":
        what = f"with --on-error skip, which left out {sum(manifest.skipped.values())} lines"
    else:
        return
    raise CorpusError(
        f"{corpus_dir}: already holds a corpus that was made {what}; choose another RUN "
        "directory, or replace it with --overwrite"
    )


def _records(sources: Sequence[str], on_error: OnError, skipped: Counter[str]) -> Iterator[Record]:
    seen = KeySet()
    next_id = 0
    for source in sources:
        passages = read_passages(source, on_error=on_error, skipped=skipped, seen=seen)
        for key, title, text in passages:
            yield Record(Passage(next_id, key, title, text))
            next_id += 1


def _begun(corpus_dir: str | Path, hashes: list[str], partition_size: int) -> tuple[Partition, ...]:
    """The shards that a stopped run over the same files had written."""
    try:
        manifest = CorpusManifest.load(corpus_dir, name=PROGRESS_NAME)
    except CorpusError:  # none was stopped here, or its list is of no use
        return ()
    same = (manifest.source_sha256, manifest.partition_size) == (hashes, partition_size)
    return manifest.partitions if same else ()


def _partition(
    corpus_dir: str | Path, records: list[Record], index: int, begun: tuple[Partition, ...]
) -> Partition:
    """A shard of these records: the one that was written before the stop, or a new one."""
    if index < len(begun) and begun[index].num_passages == len(records):
        try:
            check_shard(corpus_dir, begun[index])
            return begun[index]
        except CorpusError:  # lost or damaged since: written again
            pass
    return write_partition(corpus_dir, index, records=records)
