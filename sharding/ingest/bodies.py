"""A passage's JSON without its id, which is known only when all files are read; and its hashes."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

Hashes: TypeAlias = NDArray[np.uint64]


class _Body(msgspec.Struct, frozen=True, gc=False):
    """The fields of `passages.to_json` behind `id`, in its order."""

    key: str
    title: str
    text: str
    augmentation: None = None


_encode = msgspec.json.Encoder().encode


def bodies_of(keys: Iterable[str], titles: Iterable[str], texts: Iterable[str]) -> list[bytes]:
    """Passages as JSON objects without ids."""
    return [_encode(_Body(*row)) for row in zip(keys, titles, texts, strict=True)]


def with_id(passage_id: int, body: bytes) -> bytes:
    """Returns the record as `passages.to_json` writes it."""
    return b'{"id":%d,%b' % (passage_id, body[1:])


def hashes_of(values: Sequence[bytes]) -> Hashes:
    """64 bits of each value's BLAKE2b.

    Two different ones of n values have the same hash with probability n^2 / 2^65: 1 in 80,000 for
    Wikipedia's 21 M.
    """
    digests = [blake2b(value, digest_size=8).digest() for value in values]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64, copy=False)


def key_hashes(keys: Iterable[str]) -> Hashes:
    """Hashes of ids."""
    return hashes_of([key.encode() for key in keys])


def text_hashes(titles: Iterable[str], texts: Iterable[str]) -> Hashes:
    """Hashes of titles with texts; 0xff, which UTF-8 never has, parts them."""
    pairs = zip(titles, texts, strict=True)
    return hashes_of([title.encode() + b"\xff" + text.encode() for title, text in pairs])
