"""The indexed passages: one UTF-8 blob and its offsets, memory-mapped; found by id or by text."""

import hashlib
import mmap
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from polyprag.errors import CorpusError, RunError
from sharding.passages import Passage

_BLOB, _OFFSETS = "text.bin", "offsets.npy"
_HASHES, _HASHED_IDS = "hashes.npy", "hashed-ids.npy"
_FIELDS = 3  # key, title, text


def write_passages(directory: Path, passages: Iterable[Passage], *, num_passages: int) -> None:
    """Writes the store; apart from 24 bytes a passage nothing is held in memory.

    Args:
        directory: an existing directory.
        passages: ids 0 to num_passages - 1, in this order.
        num_passages: N.

    Raises:
        CorpusError: there are fewer or more passages, or none.
    """
    offsets = np.zeros(_FIELDS * num_passages + 1, dtype=np.int64)
    hashes = np.zeros(num_passages, dtype=np.uint64)
    count = position = 0
    with open(directory / _BLOB, "wb") as blob:
        for passage in passages:
            if passage.id != count or count == num_passages:
                raise CorpusError(
                    f"passage {passage.id} comes where {count} of {num_passages} was expected; "
                    "prepare the corpus again"
                )
            for i, text in enumerate((passage.key, passage.title, passage.text)):
                position += blob.write(text.encode())
                offsets[_FIELDS * count + i + 1] = position
            hashes[count] = _hash(passage.title, passage.text)
            count += 1
    if count != num_passages or count == 0:
        raise CorpusError(
            f"the corpus holds {count} passages and its manifest promises {num_passages}; "
            "prepare it again from at least one passage"
        )
    order = np.argsort(hashes, kind="stable")  # of equal texts the first id is found
    for name, values in (
        (_OFFSETS, offsets),
        (_HASHES, hashes[order]),
        (_HASHED_IDS, order.astype(np.int64)),
    ):
        np.save(directory / name, values, allow_pickle=False)


class PassageStore:
    """The opened store."""

    def __init__(
        self,
        blob: mmap.mmap,
        *,
        offsets: npt.NDArray[np.int64],
        hashes: npt.NDArray[np.uint64],
        hashed_ids: npt.NDArray[np.int64],
    ) -> None:
        """Wraps mapped files; `open` maps them."""
        self._blob, self._offsets = blob, offsets
        self._hashes, self._hashed_ids = hashes, hashed_ids

    @classmethod
    def open(cls, directory: Path, *, num_passages: int) -> Self:
        """Maps what `write_passages` wrote.

        Raises:
            RunError: it is damaged, or of another number of passages.
        """
        try:
            offsets, hashes, hashed_ids = (
                np.load(directory / name, mmap_mode="r", allow_pickle=False)
                for name in (_OFFSETS, _HASHES, _HASHED_IDS)
            )
            with open(directory / _BLOB, "rb") as file:
                blob = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError, EOFError) as error:
            raise RunError(
                f"{directory}: not a readable passage store ({error}); {_REMEDY}"
            ) from error
        if (
            offsets.shape != (_FIELDS * num_passages + 1,)
            or hashes.shape != (num_passages,)
            or hashed_ids.shape != (num_passages,)
            or offsets[-1] != len(blob)
        ):
            raise RunError(f"{directory}: doesn't hold {num_passages} whole passages; {_REMEDY}")
        return cls(blob, offsets=offsets, hashes=hashes, hashed_ids=hashed_ids)

    def __len__(self) -> int:
        """The number of passages."""
        return len(self._hashes)

    def __getitem__(self, passage_id: int) -> Passage:
        """The passage of an id; `IndexError` for any other number, negative ones included."""
        if not 0 <= passage_id < len(self):
            raise IndexError(f"passage {passage_id}: there are ids 0 to {len(self) - 1}")
        bounds = self._offsets[_FIELDS * passage_id : _FIELDS * (passage_id + 1) + 1].tolist()
        try:
            fields = [self._blob[start:end].decode() for start, end in pairwise(bounds)]
        except UnicodeDecodeError as error:
            raise RunError(f"passage {passage_id} of the index is damaged; {_REMEDY}") from error
        return Passage(passage_id, *fields)

    def titled_texts(self, ids: Iterable[int] | None = None) -> Iterator[tuple[str, str]]:
        """(title, text) of the passages, of all of them in the order of their ids by default."""
        for passage_id in range(len(self)) if ids is None else ids:
            passage = self[passage_id]
            yield passage.title, passage.text

    def find(self, title: str, text: str) -> int | None:
        """The first id with this title and text, white space apart; None where there is none."""
        wanted = _hash(title, text)
        first = int(np.searchsorted(self._hashes, wanted))
        for position in range(first, len(self)):
            if self._hashes[position] != wanted:
                return None
            passage = self[int(self._hashed_ids[position])]
            if _plain(passage.title) == _plain(title) and _plain(passage.text) == _plain(text):
                return passage.id
        return None


def _plain(text: str) -> str:
    return " ".join(text.split())


def _hash(title: str, text: str) -> np.uint64:
    data = f"{_plain(title)}\0{_plain(text)}".encode(errors="surrogatepass")
    return np.uint64(int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little"))


_REMEDY = "run `polyprag index RUN` again"
