"""The bytes of a shard: a plain ustar archive with one `<id:012d>.json` member for each passage.

A member's header follows from its id and its size, to the last byte. So the same documents always
give the same shard, and reading compares headers with what they must be instead of interpreting
what they say: links, sparse files, pax records, other owners and path tricks are all just wrong.
Headers are made and compared for a whole shard at once: half a microsecond each, where `tarfile`
needs 20.
"""

import tarfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from sharding.errors import CorpusError

BLOCK = 512
END_BYTES = 2 * BLOCK  # zeros
MAX_MEMBER_BYTES = 64 << 20  # of one JSON document
MAX_ID = 10**12 - 1  # twelve digits

SHARD_REMEDY = "it is damaged or was changed: copy it again, or prepare the corpus again"

Int64Array = np.ndarray[Any, np.dtype[np.int64]]
Uint8Array = np.ndarray[Any, np.dtype[np.uint8]]

_NAME = slice(0, 12)  # the id's digits
_SIZE = slice(124, 135)  # octal
_CHECKSUM = slice(148, 154)  # octal
_MAGIC = slice(257, 263)
_OCTAL = 8 ** np.arange(10, -1, -1, dtype=np.int64)


def member_name(passage_id: int) -> str:
    """Returns the name of a passage's member."""
    return f"{passage_id:012d}.json"


def headers(first_id: int, sizes: Int64Array) -> Uint8Array:
    """Returns the headers of members with consecutive ids.

    Args:
        first_id: of the first.
        sizes: int64 (n,), bytes of each document.

    Returns:
        uint8 (n, 512).
    """
    made = np.tile(_TEMPLATE, (len(sizes), 1))
    ids = np.arange(first_id, first_id + len(sizes), dtype=np.int64)
    id_digits = ids[:, None] // 10 ** np.arange(11, -1, -1) % 10
    size_digits = sizes[:, None] >> np.arange(30, -1, -3) & 7
    sums = _TEMPLATE_SUM + id_digits.sum(axis=1) + size_digits.sum(axis=1)
    made[:, _NAME] += id_digits.astype(np.uint8)
    made[:, _SIZE] += size_digits.astype(np.uint8)
    made[:, _CHECKSUM] += (sums[:, None] >> np.arange(15, -1, -3) & 7).astype(np.uint8)
    return made


def offsets_of(sizes: Int64Array) -> Int64Array:
    """Returns where a shard's documents begin: int64 (n,) bytes, a block behind their headers."""
    ends = np.cumsum(BLOCK + _padded(sizes))
    return np.concatenate([[0], ends[:-1]])[: len(sizes)] + BLOCK


def shard_bytes(sizes: Int64Array) -> int:
    """Returns the bytes of a whole shard of documents of these sizes."""
    return int((BLOCK + _padded(sizes)).sum()) + END_BYTES


def pack_shard(first_id: int, documents: Sequence[bytes]) -> tuple[bytearray, Int64Array]:
    """Returns a whole shard.

    Args:
        first_id: of the first document; the others follow.
        documents: complete JSON records.

    Returns:
        The shard, and the sizes of its documents.

    Raises:
        CorpusError: a document is too large, or an id has more than twelve digits.
    """
    sizes = np.fromiter(map(len, documents), np.int64, len(documents))
    if len(sizes) and int(sizes.max()) > MAX_MEMBER_BYTES:
        index = int(sizes.argmax())
        raise CorpusError(
            f"passage {first_id + index}: {sizes[index]} bytes with its augmentation, and "
            f"{MAX_MEMBER_BYTES} is the most that a shard takes; cut it into several passages"
        )
    if first_id + len(sizes) - 1 > MAX_ID:
        raise CorpusError(f"passage {first_id + len(sizes) - 1}: ids go up to {MAX_ID}")
    offsets = offsets_of(sizes)
    data = bytearray(shard_bytes(sizes))
    blocks = np.frombuffer(data, np.uint8).reshape(-1, BLOCK)
    blocks[offsets // BLOCK - 1] = headers(first_id, sizes)
    del blocks  # a bytearray can't be used freely while an array looks into it
    with memoryview(data) as view:
        for start, end, document in zip(
            offsets.tolist(), (offsets + sizes).tolist(), documents, strict=True
        ):
            view[start:end] = document
    return data, sizes


def scan(data: bytes, *, first_id: int, num_members: int, where: str) -> Int64Array:
    """Checks every header of a shard.

    Args:
        data: the whole shard.
        first_id: the id that the first member must have.
        num_members: how many members there must be.
        where: the shard, for errors.

    Returns:
        int64 (num_members,), the documents' sizes; see `offsets_of`.

    Raises:
        CorpusError: there are other members or other bytes in a header than there must be, or the
            shard is cut; names the first wrong member.
    """
    num_blocks = len(data) // BLOCK
    blocks = np.frombuffer(data, np.uint8, num_blocks * BLOCK).reshape(-1, BLOCK)
    sizes = _sizes_at_a_glance(blocks, num_members)
    if sizes is None:
        sizes = np.array(_claimed_sizes(data, num_members), np.int64)
    at = offsets_of(sizes) // BLOCK - 1
    there = at < num_blocks
    found = blocks[at[there]]
    wrong = np.flatnonzero((found != headers(first_id, sizes[there])).any(axis=1))
    if len(wrong):
        index = int(wrong[0])
        raise CorpusError(f"{where}{_what_is_wrong(found[index].tobytes(), first_id, index)}")
    if len(found) < num_members:
        missing = member_name(first_id + len(found))
        raise CorpusError(
            f"{where}: holds {len(found)} members where the manifest says {num_members}, and is "
            f"cut before {missing}; {SHARD_REMEDY}"
        )
    if len(data) < shard_bytes(sizes):
        last = member_name(first_id + num_members - 1)
        raise CorpusError(f"{where}: is cut in or after its last member, {last}; {SHARD_REMEDY}")
    if len(data) > shard_bytes(sizes) or any(data[-END_BYTES:]):
        raise CorpusError(
            f"{where}: holds more than the {num_members} members of the manifest; {SHARD_REMEDY}"
        )
    return sizes


def _padded(sizes: Int64Array) -> Int64Array:
    return (sizes + (BLOCK - 1)) // BLOCK * BLOCK


def _sizes_at_a_glance(blocks: Uint8Array, num_members: int) -> Int64Array | None:
    """Returns the sizes in all blocks that look like headers; None unless these lie where they say.

    Only four times as fast as following them, but every shard of every epoch comes by here.
    """
    at = np.flatnonzero(blocks[:, _MAGIC.start] == _TEMPLATE[_MAGIC.start])
    rows = blocks[at]
    alike = (rows[:, _MAGIC] == _TEMPLATE[_MAGIC]).all(axis=1)
    at, rows = at[alike], rows[alike]
    sizes: Int64Array = (rows[:, _SIZE].astype(np.int64) - ord("0")) @ _OCTAL
    if len(sizes) != num_members or (sizes < 0).any() or (sizes > MAX_MEMBER_BYTES).any():
        return None
    return sizes if np.array_equal(at, offsets_of(sizes) // BLOCK - 1) else None


def _claimed_sizes(data: bytes, num_members: int) -> list[int]:
    """Returns what the headers say, followed from one to the next.

    What isn't a number, or can't be, is 0 and the last: `scan` then finds that header wrong.
    """
    sizes: list[int] = []
    add, at, last = sizes.append, 0, len(data) - BLOCK
    for _ in range(num_members):
        if at > last:
            break
        try:
            size = int(data[at + _SIZE.start : at + _SIZE.stop], 8)
        except ValueError:
            size = -1
        if not 0 <= size <= MAX_MEMBER_BYTES:
            add(0)
            break
        add(size)
        at += BLOCK + (size + (BLOCK - 1)) // BLOCK * BLOCK
    return sizes


def _what_is_wrong(header: bytes, first_id: int, index: int) -> str:
    """Returns what to say of a header that isn't the one that must be there."""
    name = header[:100].rstrip(b"\0").decode("utf-8", "replace")
    expected = member_name(first_id + index)
    if header[257:262] != b"ustar":
        found = "no more of them" if not any(header) else "something else"
        return f": not a readable tar after {index} members, there is {found}; {SHARD_REMEDY}"
    if header[156:157] != b"0":
        return f", member {name!r}: must be a plain file; {SHARD_REMEDY}"
    if name != expected:
        return f", member {name!r}: expected {expected}; {SHARD_REMEDY}"
    return f", member {name!r}: has another header than polyprag writes; {SHARD_REMEDY}"


def _template() -> Uint8Array:
    """Returns a header with zeros for the digits of the id, the size and the checksum."""
    info = tarfile.TarInfo(member_name(0))
    info.mode, info.uname, info.gname = 0o444, "polyprag", "polyprag"
    header = np.frombuffer(info.tobuf(tarfile.USTAR_FORMAT), np.uint8).copy()
    header[_CHECKSUM] = ord("0")
    return header


_TEMPLATE = _template()
# As the format wants it: over the header with its checksum's eight bytes taken as spaces.
_TEMPLATE_SUM = int(_TEMPLATE.sum()) - int(_TEMPLATE[148:156].sum()) + 8 * ord(" ")
