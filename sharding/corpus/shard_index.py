"""Where each passage lies in its shard: a small file beside the tar, for reads of one passage.

It is only ever a shortcut. It says which shard it is of by that shard's SHA-256, carries a checksum
of its own and one for each document, and is made again from the shard whenever something doesn't
fit.
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from sharding.corpus.manifest import Partition
from sharding.corpus.tar import MAX_MEMBER_BYTES, Int64Array, offsets_of, scan, shard_bytes
from sharding.errors import FileError
from sharding.storage.files import atomic_write, read_bytes, size_of

_MAGIC = b"polyprag.idx\0\0\0\x01"  # the last byte is the version
_HEADER = struct.Struct("<16s32sQ")  # magic, SHA-256 of the shard, number of members
_MEMBER_BYTES = 8 + 4
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, eq=False)
class ShardIndex:
    """The documents of one shard, in the order of their ids.

    Attributes:
        sha256: of the shard, in hex.
        offsets: int64 (n,), where each document begins in the shard.
        sizes: int64 (n,), its bytes.
        checksums: uint32 (n,), its CRC-32.
    """

    sha256: str
    offsets: Int64Array
    sizes: Int64Array
    checksums: np.ndarray[Any, np.dtype[np.uint32]]

    def __len__(self) -> int:
        """Returns the number of documents."""
        return len(self.sizes)

    def to_bytes(self) -> bytes:
        """Returns the index as its file has it: header, sizes, checksums, SHA-256 of all that."""
        body = b"".join(
            [
                _HEADER.pack(_MAGIC, bytes.fromhex(self.sha256), len(self)),
                self.sizes.astype("<i8").tobytes(),
                self.checksums.astype("<u4").tobytes(),
            ]
        )
        return body + hashlib.sha256(body).digest()


def index_name(shard: str) -> str:
    """Returns the name of a shard's index."""
    return shard.removesuffix(".tar") + ".idx"


def index_length(num_passages: int) -> int:
    """Returns the bytes of an index's file."""
    return _HEADER.size + _MEMBER_BYTES * num_passages + _DIGEST_BYTES


def index_of(data: bytes | bytearray, sizes: Int64Array, *, sha256: str) -> ShardIndex:
    """Returns the index of a shard whose headers are known to be right.

    Args:
        data: the whole shard.
        sizes: int64 (n,), what `tar.scan` found or `tar.pack_shard` made.
        sha256: the shard's, in hex.
    """
    offsets = offsets_of(sizes)
    bounds = zip(offsets.tolist(), (offsets + sizes).tolist(), strict=True)
    with memoryview(data) as view:
        checksums = [zlib.crc32(view[start:end]) for start, end in bounds]
    return ShardIndex(sha256, offsets, sizes, np.array(checksums, np.uint32))


def index_from_shard(data: bytes, partition: Partition, *, where: str) -> ShardIndex:
    """Returns the index of a shard that has the manifest's SHA-256.

    Raises:
        CorpusError: its members aren't what the manifest says; names the first wrong one.
    """
    sizes = scan(data, first_id=partition.first_id, num_members=partition.num_passages, where=where)
    return index_of(data, sizes, sha256=partition.sha256)


def save_index(url: str, index: ShardIndex) -> None:
    """Writes an index, atomically."""
    with atomic_write(url, durable=False) as file:
        file.write(index.to_bytes())


def load_index(url: str, partition: Partition) -> ShardIndex | None:
    """Reads an index.

    Returns:
        None where it isn't there, is damaged, or is of another shard than the manifest's.
    """
    length = index_length(partition.num_passages)
    try:
        if size_of(url) != length:
            return None
        data = read_bytes(url)
    except FileError:
        return None
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if len(data) != length or hashlib.sha256(body).digest() != digest:
        return None
    if _HEADER.unpack_from(body) != (
        _MAGIC,
        bytes.fromhex(partition.sha256),
        partition.num_passages,
    ):
        return None
    sizes = np.frombuffer(body, "<i8", partition.num_passages, _HEADER.size).astype(np.int64)
    checksums = np.frombuffer(
        body, "<u4", partition.num_passages, _HEADER.size + 8 * partition.num_passages
    ).astype(np.uint32)
    if sizes.min() < 0 or sizes.max() > MAX_MEMBER_BYTES:
        return None
    if shard_bytes(sizes) != partition.num_bytes:
        return None
    return ShardIndex(partition.sha256, offsets_of(sizes), sizes, checksums)
