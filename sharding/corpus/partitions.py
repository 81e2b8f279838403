"""Write a partition's WebDataset shard: one `<id>.json` member per passage, and its index.

The same records give the same bytes, and a shard is named for its hash, so it never changes
under its name: writing again is safe, and what a manifest names can be checked.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sharding.corpus.manifest import SHARD_NAME, CorpusManifest, Partition
from sharding.corpus.passages import Record, to_json
from sharding.corpus.shard_index import index_name, index_of, save_index
from sharding.corpus.tar import SHARD_REMEDY, pack_shard
from sharding.errors import corpus_errors
from sharding.storage.files import TEMPORARY_NAME, atomic_write, join, list_names, remove
from sharding.storage.verified import read_verified


def write_shard(
    corpus_dir: str | Path,
    index: int,
    *,
    first_id: int,
    documents: Sequence[bytes],
    augmented: bool = False,
    counts: dict[str, int] | None = None,
) -> Partition:
    """Writes a shard of finished JSON records under its content-addressed name, then its index.

    Args:
        corpus_dir: where the shard goes.
        index: the partition's number.
        first_id: of the first document.
        documents: at least one JSON record, as `passages.to_json` gives it, with the ids `first_id`
            and up. The shard is built in memory.
        augmented: whether the records carry augmentations.
        counts: training examples of each kind, for the manifest.

    Returns:
        The manifest's entry for the shard.

    Raises:
        CorpusError: a document is too large for a shard.
        FileError: the shard can't be written.
    """
    if not documents:
        raise ValueError(f"partition {index}: a shard has at least one document")
    for passage_id, document in enumerate(documents, start=first_id):
        if not document.startswith(b'{"id":%d,' % passage_id):
            raise ValueError(
                f"partition {index}: ids must be consecutive, and this isn't passage {passage_id}: "
                f"{document[:40]!r}"
            )
    data, sizes = pack_shard(first_id, documents)
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"part-{index:05d}-{sha256[:12]}.tar"
    with atomic_write(join(corpus_dir, name)) as file:
        file.write(data)
    save_index(join(corpus_dir, index_name(name)), index_of(data, sizes, sha256=sha256))
    return Partition(
        index, first_id, len(documents), name, len(data), sha256, augmented, dict(counts or {})
    )


def write_partition(
    corpus_dir: str | Path,
    index: int,
    *,
    records: Iterable[Record],
    augmented: bool = False,
    counts: dict[str, int] | None = None,
) -> Partition:
    """Writes a shard of records; see `write_shard`.

    Args:
        corpus_dir: where the shard goes.
        index: the partition's number.
        records: at least one, with consecutive ids.
        augmented: whether the records carry augmentations.
        counts: training examples of each kind, for the manifest.
    """
    records = list(records)
    return write_shard(
        corpus_dir,
        index,
        first_id=records[0].passage.id if records else 0,
        documents=[to_json(record) for record in records],
        augmented=augmented,
        counts=counts,
    )


def read_shard(url: str, partition: Partition) -> bytes:
    """Returns the bytes of a shard, which have the manifest's size and SHA-256.

    Raises:
        CorpusError: the shard is missing, or not the one that the manifest means.
    """
    with corpus_errors():
        return read_verified(
            url, sha256=partition.sha256, num_bytes=partition.num_bytes, remedy=SHARD_REMEDY
        )


def check_shard(corpus_dir: str | Path, partition: Partition) -> None:
    """Raises `CorpusError` unless the shard is there with the manifest's size and SHA-256."""
    read_shard(join(corpus_dir, partition.file), partition)


def unnamed_shards(names: Iterable[str], manifest: CorpusManifest) -> list[str]:
    """Of the names in a corpus directory, shards and indexes that the manifest doesn't name."""
    named = {partition.file for partition in manifest.partitions}
    unnamed = []
    for name in names:
        shard = name.removesuffix(".idx") + ".tar" if name.endswith(".idx") else name
        if SHARD_NAME.fullmatch(shard) and shard not in named:
            unnamed.append(name)
    return unnamed


def remove_unnamed_shards(
    corpus_dir: str | Path,
    manifest: CorpusManifest,
    *,
    forget: Callable[[str], object] = lambda name: None,
) -> None:
    """Deletes shards and indexes that the manifest doesn't name, and files of killed writers.

    Args:
        corpus_dir: where they are.
        manifest: of what stays.
        forget: called with the name of each shard before it goes.
    """
    names = list_names(corpus_dir)
    temporary = [name for name in names if TEMPORARY_NAME.fullmatch(name)]
    for name in (*unnamed_shards(names, manifest), *temporary):
        if SHARD_NAME.fullmatch(name):
            forget(name)
        remove(join(corpus_dir, name))
