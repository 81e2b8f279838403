"""A prepared corpus, read: whole shards in order, or single passages by their ids."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.corpus.partitions import read_shard
from sharding.corpus.passages import Record, from_json, parse_records
from sharding.corpus.shard_index import (
    ShardIndex,
    index_from_shard,
    index_name,
    load_index,
    save_index,
)
from sharding.corpus.tar import BLOCK, SHARD_REMEDY, headers, member_name, offsets_of, scan
from sharding.errors import CorpusError, FileError, corpus_errors
from sharding.storage.files import join, read_bytes
from sharding.storage.urls import is_local

if TYPE_CHECKING:
    from sharding.storage.cache import LocalCache

_INDEXES_KEPT = 256  # 20 bytes a passage


class Corpus:
    """A corpus directory and its manifest; every shard that it gives has been checked.

    It may be used by several threads at once, and holds no file open.

    Attributes:
        directory: a path or URL.
        manifest: of that directory.
        cache: where shards of a remote directory are kept on the local disk.
    """

    def __init__(
        self,
        directory: str | Path,
        manifest: CorpusManifest,
        *,
        cache: "LocalCache | None" = None,
    ) -> None:
        """Reads nothing yet; `Corpus.open` reads the manifest itself."""
        self.directory = str(directory)
        self.manifest = manifest
        self.cache = cache
        self._first_ids = [partition.first_id for partition in manifest.partitions]
        self._index = lru_cache(_INDEXES_KEPT)(self._load_or_make_index)

    @classmethod
    def open(cls, directory: str | Path, *, cache: "LocalCache | None" = None) -> "Corpus":
        """Opens a corpus that `polyprag prepare` has made.

        Raises:
            CorpusError: there is no manifest, or it is damaged.
        """
        return cls(directory, CorpusManifest.load(directory), cache=cache)

    def url(self, partition: Partition) -> str:
        """Returns where a partition's shard lies."""
        return join(self.directory, partition.file)

    def shard(self, partition: Partition) -> bytes:
        """Returns the bytes of a shard, which have the manifest's size and SHA-256.

        Raises:
            CorpusError: the shard is missing or not what the manifest says.
        """
        url = self.url(partition)
        if self.cache is not None and not is_local(url):
            with corpus_errors():
                return self.cache.get(
                    url, sha256=partition.sha256, num_bytes=partition.num_bytes, remedy=SHARD_REMEDY
                )
        return read_shard(url, partition)

    def records(self, partition: Partition) -> list[Record]:
        """Returns all records of a partition, in the order of their ids.

        Raises:
            CorpusError: the shard is missing or damaged, or holds other passages than the manifest
                says; names the shard and the member.
        """
        return records_in(self.shard(partition), partition, url=self.url(partition))

    def record(self, passage_id: int) -> Record:
        """Returns one passage's record, by one short read: its place is in the shard's index.

        Raises:
            CorpusError: there is no such passage, or its shard is damaged.
        """
        if not 0 <= passage_id < self.manifest.num_passages:
            raise CorpusError(
                f"{self.directory}: no passage {passage_id}; ids go from 0 to "
                f"{self.manifest.num_passages - 1}"
            )
        position = bisect_right(self._first_ids, passage_id) - 1
        partition = self.manifest.partitions[position]
        url = self.url(partition)
        document = _document(url, self._index(position), passage_id, partition.first_id)
        if document is None:
            # Either the shard or its index has changed. The manifest knows the shard's hash.
            index = self._make_index(partition)
            self._index.cache_clear()
            document = _document(url, index, passage_id, partition.first_id)
        if document is None:
            name = member_name(passage_id)
            raise CorpusError(
                f"{url}, member {name}: isn't what the shard had before; {SHARD_REMEDY}"
            )
        return _record(document, passage_id, url=url)

    def iterate(
        self, partitions: Sequence[Partition] | None = None, *, prefetch: int = 1
    ) -> Iterator[Record]:
        """Records in the order of the partitions, which are read ahead in a thread.

        Args:
            partitions: all by default, which is the order of ids.
            prefetch: partitions that are kept ready.

        Yields:
            Each record. The thread ends with the iteration, or when the iterator is closed or no
            longer used.

        Raises:
            CorpusError: a shard is missing or damaged; after the records before it.
        """
        chosen = self.manifest.partitions if partitions is None else partitions
        coming: deque[Future[list[Record]]] = deque()
        pool = ThreadPoolExecutor(1, thread_name_prefix="corpus")
        try:
            for partition in chosen:
                coming.append(pool.submit(self.records, partition))
                if len(coming) > prefetch:
                    yield from coming.popleft().result()
            while coming:
                yield from coming.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _load_or_make_index(self, position: int) -> ShardIndex:
        partition = self.manifest.partitions[position]
        index = load_index(index_name(self.url(partition)), partition)
        return self._make_index(partition) if index is None else index

    def _make_index(self, partition: Partition) -> ShardIndex:
        url = self.url(partition)
        index = index_from_shard(self.shard(partition), partition, where=url)
        with suppress(FileError, OSError):  # a corpus that can only be read is as good
            save_index(index_name(url), index)
        return index


def records_in(data: bytes, partition: Partition, *, url: str) -> list[Record]:
    """Returns all records in the bytes of a shard; see `Corpus.records`."""
    first_id = partition.first_id
    sizes = scan(data, first_id=first_id, num_members=partition.num_passages, where=url)
    starts = offsets_of(sizes)
    view = memoryview(data)
    documents = [
        view[start:end]
        for start, end in zip(starts.tolist(), (starts + sizes).tolist(), strict=True)
    ]
    try:
        return parse_records(documents, first_id=first_id)
    except ValueError:  # now slowly, to say which and why
        return [
            _record(document, passage_id, url=url)
            for passage_id, document in enumerate(documents, start=first_id)
        ]


def _document(url: str, index: ShardIndex, passage_id: int, first_id: int) -> bytes | None:
    """Returns a document's bytes; None where they don't fit the index."""
    at = passage_id - first_id
    sizes = index.sizes[at : at + 1]
    start = int(index.offsets[at]) - BLOCK
    with corpus_errors():
        data = read_bytes(url, offset=start, length=BLOCK + int(sizes[0]))
    document = data[BLOCK:]
    fits = data[:BLOCK] == headers(passage_id, sizes).tobytes() and crc32(document) == int(
        index.checksums[at]
    )
    return document if fits else None


def _record(document: bytes | memoryview, passage_id: int, *, url: str) -> Record:
    where = f"{url}, member {member_name(passage_id)}"
    record = from_json(document, where=where)
    if record.passage.id != passage_id:
        raise CorpusError(f"{where}: holds passage {record.passage.id}; {SHARD_REMEDY}")
    return record
