"""Write and read a partition's WebDataset shard: one `<id>.json` member per passage.

The same records give the same bytes, and a shard is named for its hash, so it never changes
under its name: writing again is safe, and what a manifest names can be checked.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from webdataset.tariterators import tar_file_iterator
from webdataset.writer import TarWriter

from sharding.errors import CorpusError
from sharding.files import TEMPORARY_NAME, atomic_write, join, list_names, open_url, remove
from sharding.manifest import SHARD_NAME, CorpusManifest, Partition
from sharding.passages import Record, from_json, to_json


def write_partition(
    corpus_dir: str | Path,
    index: int,
    *,
    records: Iterable[Record],
    augmented: bool = False,
    counts: dict[str, int] | None = None,
) -> Partition:
    """Writes a shard under its content-addressed name.

    Args:
        corpus_dir: Where the shard goes.
        index: The partition's number.
        records: At least one, with consecutive ids. The shard is built in memory.
        augmented: Whether the records carry augmentations.
        counts: Training examples of each kind, for the manifest.

    Returns:
        The manifest's entry for the shard.
    """
    buffer = io.BytesIO()
    ids: list[int] = []
    with TarWriter(buffer, user="polyprag", group="polyprag", encoder=False, mtime=0) as tar:
        for record in records:
            ids.append(record.passage.id)
            tar.write({"__key__": f"{record.passage.id:012d}", "json": to_json(record)})
    if not ids or ids != list(range(ids[0], ids[0] + len(ids))):
        raise ValueError(f"partition {index}: ids must be consecutive, and at least one")
    data = buffer.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"part-{index:05d}-{sha256[:12]}.tar"
    with atomic_write(join(corpus_dir, name)) as file:
        file.write(data)
    return Partition(
        index, ids[0], len(ids), name, len(data), sha256, augmented, dict(counts or {})
    )


def read_partition(
    corpus_dir: str | Path, partition: Partition, *, verify: bool = False
) -> Iterator[Record]:
    """Reads a shard's records in the order of their ids.

    Args:
        corpus_dir: Where the shard lies.
        partition: The manifest's entry for it.
        verify: Whether to check the SHA-256 before anything is yielded.

    Yields:
        Exactly the records that the manifest's id range promises.

    Raises:
        CorpusError: The shard is missing, truncated or damaged, or holds other members; names
            the shard and the member.
    """
    url = join(corpus_dir, partition.file)
    data = _read_shard(url, partition, verify=verify)
    _check_members(data, partition, url)
    try:
        for offset, member in enumerate(tar_file_iterator(io.BytesIO(data))):
            where = f"{url}, member {member['fname']}"
            record = from_json(member["data"], where=where)
            if record.passage.id != partition.first_id + offset:
                raise CorpusError(f"{where}: holds passage {record.passage.id}; {_REMEDY}")
            yield record
    except tarfile.TarError as error:
        raise CorpusError(f"{url}: not a readable tar ({error}); {_REMEDY}") from error


def check_shard(corpus_dir: str | Path, partition: Partition) -> None:
    """Raises `CorpusError` unless the shard is there with the manifest's size and SHA-256."""
    _read_shard(join(corpus_dir, partition.file), partition, verify=True)


def remove_unnamed_shards(corpus_dir: str | Path, manifest: CorpusManifest) -> None:
    """Deletes the shards that the manifest doesn't name, and temporary files of killed writers."""
    named = {partition.file for partition in manifest.partitions}
    for name in list_names(corpus_dir):
        if name not in named and (SHARD_NAME.fullmatch(name) or TEMPORARY_NAME.fullmatch(name)):
            remove(join(corpus_dir, name))


_REMEDY = "it is damaged or was changed: copy it again, or prepare the corpus again"


def _read_shard(url: str, partition: Partition, *, verify: bool) -> bytes:
    with open_url(url) as file:
        data: bytes = file.read()
    if len(data) != partition.num_bytes:
        raise CorpusError(
            f"{url}: holds {len(data)} bytes where the manifest says {partition.num_bytes}; "
            + _REMEDY
        )
    if verify and hashlib.sha256(data).hexdigest() != partition.sha256:
        raise CorpusError(f"{url}: SHA-256 differs from the manifest's; {_REMEDY}")
    return data


def _check_members(data: bytes, partition: Partition, url: str) -> None:
    """Checks every header before any member is unpacked.

    webdataset would unpack whatever it finds: a compressed or sparse member of a hostile shard
    can claim any size, and a member it skips would shift those behind it.
    """
    expected = partition.first_id
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                where = f"{url}, member {member.name!r}"
                if not member.isreg() or member.issparse():
                    raise CorpusError(f"{where}: must be a plain file; {_REMEDY}")
                if member.name != f"{expected:012d}.json":
                    raise CorpusError(f"{where}: expected {expected:012d}.json; {_REMEDY}")
                expected += 1
    except tarfile.TarError as error:
        raise CorpusError(
            f"{url}: not a readable tar after {expected - partition.first_id} members ({error}); "
            + _REMEDY
        ) from error
    found = expected - partition.first_id
    if found != partition.num_passages:
        raise CorpusError(
            f"{url}: holds {found} members where the manifest says {partition.num_passages}; "
            + _REMEDY
        )
