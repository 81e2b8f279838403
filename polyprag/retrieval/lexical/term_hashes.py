"""Terms as 64-bit hashes: a vocabulary is a sorted, mapped array and not a dictionary in memory.

Ten million terms are 80 MB that way. Two of them share a hash with a probability of 3 in a million,
and would then be counted as one term.
"""

import functools
import hashlib

import numpy as np
import numpy.typing as npt

TermHashes = npt.NDArray[np.uint64]


@functools.lru_cache(1 << 16)
def term_hash(term: str) -> int:
    """Returns the first 8 bytes of a term's BLAKE2b, as an unsigned integer."""
    digest = hashlib.blake2b(term.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def column_of(vocabulary: TermHashes, wanted: int) -> int | None:
    """Returns where a hash is in a sorted vocabulary (V,); None where it isn't."""
    at = int(np.searchsorted(vocabulary, np.uint64(wanted)))
    return at if at < len(vocabulary) and int(vocabulary[at]) == wanted else None
