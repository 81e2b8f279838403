"""The indexed passages: one UTF-8 blob and its offsets, memory-mapped; found by id or by text."""

import hashlib
import mmap
import shutil
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from polyprag.errors import CorpusError, RunError
from polyprag.retrieval.parts.span import Span
from polyprag.retrieval.remedy import REMEDY
from sharding.corpus.passages import Passage
from sharding.storage.array_files import map_array
from sharding.storage.local import open_regular

_BLOB, _OFFSETS = "text.bin", "offsets.npy"
_HASHES, _HASHED_IDS = "hashes.npy", "hashed-ids.npy"
_FIELDS = 3  # key, title, text
_COPIED_BYTES = 1 << 24  # at a time


def write_passages(
    directory: Path, passages: Iterable[Passage], *, num_passages: int, first_id: int = 0
) -> None:
    """Writes the store; apart from 24 bytes a passage nothing is held in memory.

    Args:
        directory: an existing directory.
        passages: ids first_id to first_id + num_passages - 1, in this order.
        num_passages: how many.
        first_id: of the first one.

    Raises:
        CorpusError: there are fewer or more passages, or none.
    """
    offsets = np.zeros(_FIELDS * num_passages + 1, dtype=np.int64)
    hashes = np.zeros(num_passages, dtype=np.uint64)
    count = position = 0
    with open(directory / _BLOB, "wb") as blob:
        for passage in passages:
            if passage.id != first_id + count or count == num_passages:
                raise CorpusError(
                    f"passage {passage.id} comes where {first_id + count} was expected, the last "
                    f"being {first_id + num_passages - 1}; prepare the corpus again"
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


def join_passages(directory: Path, stores: Sequence[tuple[Path, int]]) -> None:
    """Writes one store of the passages of several; holds about 50 bytes a passage.

    Args:
        directory: an existing, empty directory.
        stores: directories that `write_passages` filled, of consecutive passages, and how many
            passages each has.
    """
    num_passages = sum(count for _, count in stores)
    offsets = np.zeros(_FIELDS * num_passages + 1, dtype=np.int64)
    hashes, hashed_ids = [], []
    done = position = 0
    with open(directory / _BLOB, "wb") as blob:
        for store, count in stores:
            opened = PassageStore.open(store, num_passages=count)
            with open_regular(store / _BLOB) as source:
                shutil.copyfileobj(source, blob, _COPIED_BYTES)
            ends = opened._offsets[1:]
            offsets[_FIELDS * done + 1 : _FIELDS * (done + count) + 1] = ends + position
            hashes.append(opened._hashes)
            hashed_ids.append(opened._hashed_ids + done)
            done += count
            position += int(ends[-1])
    all_hashes, all_ids = np.concatenate(hashes), np.concatenate(hashed_ids)
    order = np.lexsort((all_ids, all_hashes))
    for name, values in (
        (_OFFSETS, offsets),
        (_HASHES, all_hashes[order]),
        (_HASHED_IDS, all_ids[order]),
    ):
        np.save(directory / name, values, allow_pickle=False)


class PassageStore:
    """The opened store of a range of passages, which go by their ids in the corpus.

    Attributes:
        first_id: of the first passage.
    """

    def __init__(
        self,
        blob: mmap.mmap,
        *,
        offsets: npt.NDArray[np.int64],
        hashes: npt.NDArray[np.uint64],
        hashed_ids: npt.NDArray[np.int64],
        first_id: int,
    ) -> None:
        """Wraps mapped files; `open` maps them."""
        self.first_id = first_id
        self._blob, self._offsets = blob, offsets
        self._hashes, self._hashed_ids = hashes, hashed_ids

    @classmethod
    def open(cls, directory: Path, *, num_passages: int, first_id: int = 0) -> Self:
        """Maps what `write_passages` wrote.

        Raises:
            RunError: it is damaged, or of another number of passages.
        """
        try:
            offsets, hashes, hashed_ids = _mapped(directory)
            with open_regular(directory / _BLOB) as file:
                blob = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise RunError(
                f"{directory}: not a readable passage store ({error}); {REMEDY}"
            ) from error
        if (
            offsets.shape != (_FIELDS * num_passages + 1,)
            or hashes.shape != (num_passages,)
            or hashed_ids.shape != (num_passages,)
            or offsets[-1] != len(blob)
        ):
            raise RunError(f"{directory}: doesn't hold {num_passages} whole passages; {REMEDY}")
        return cls(blob, offsets=offsets, hashes=hashes, hashed_ids=hashed_ids, first_id=first_id)

    def __len__(self) -> int:
        """Returns the number of passages."""
        return len(self._hashes)

    @property
    def span(self) -> Span:
        """The passages' ids."""
        return Span(self.first_id, len(self))

    def __getitem__(self, passage_id: int) -> Passage:
        """Returns the passage of an id.

        `IndexError` for any other number, negative ones included.
        """
        at = passage_id - self.first_id
        if not 0 <= at < len(self):
            last = self.first_id + len(self) - 1
            raise IndexError(f"passage {passage_id}: there are ids {self.first_id} to {last}")
        bounds = self._offsets[_FIELDS * at : _FIELDS * (at + 1) + 1].tolist()
        try:
            if not 0 <= bounds[0] <= bounds[1] <= bounds[2] <= bounds[3] <= len(self._blob):
                raise ValueError(f"it would lie at bytes {bounds}")
            fields = [self._blob[start:end].decode() for start, end in pairwise(bounds)]
        except ValueError as error:
            raise RunError(
                f"passage {passage_id} of the index is damaged ({error}); {REMEDY}"
            ) from error
        return Passage(passage_id, *fields)

    def titled_texts(self, ids: Iterable[int] | None = None) -> Iterator[tuple[str, str]]:
        """(title, text) of the passages, of all of them in the order of their ids by default."""
        every = range(self.first_id, self.first_id + len(self))
        for passage_id in every if ids is None else ids:
            passage = self[passage_id]
            yield passage.title, passage.text

    def find(self, title: str, text: str, *, without: Collection[int] = ()) -> int | None:
        """Returns the first id with this title and text, white space apart.

        None where there is none.

        Args:
            title: of the passage.
            text: of the passage.
            without: ids that aren't found.
        """
        wanted = _hash(title, text)
        first = int(np.searchsorted(self._hashes, wanted))
        for position in range(first, len(self)):
            if self._hashes[position] != wanted:
                return None
            at = int(self._hashed_ids[position])
            if not 0 <= at < len(self):
                raise RunError(f"passage {at} isn't in the index that names it; {REMEDY}")
            passage = self[self.first_id + at]
            same = _plain(passage.title) == _plain(title) and _plain(passage.text) == _plain(text)
            if same and passage.id not in without:
                return passage.id
        return None


def _mapped(
    directory: Path,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Returns a store's offsets, hashes and the ids in the order of the hashes."""
    return (
        map_array(directory / _OFFSETS, dtypes=[np.int64], ndim=1),
        map_array(directory / _HASHES, dtypes=[np.uint64], ndim=1),
        map_array(directory / _HASHED_IDS, dtypes=[np.int64], ndim=1),
    )


class Passages:
    """The stores of all segments as one."""

    def __init__(self, stores: Sequence[PassageStore]) -> None:
        """Takes the stores in the order of their ids."""
        self._stores = tuple(stores)
        self._first_ids = [store.first_id for store in stores]

    def __getitem__(self, passage_id: int) -> Passage:
        """Returns the passage of an id; `IndexError` where there is none."""
        return self._stores[max(0, bisect_right(self._first_ids, passage_id) - 1)][passage_id]

    def find(self, title: str, text: str, *, without: Collection[int] = ()) -> int | None:
        """See `PassageStore.find`."""
        for store in self._stores:
            found = store.find(title, text, without=without)
            if found is not None:
                return found
        return None


def _plain(text: str) -> str:
    return " ".join(text.split())


def _hash(title: str, text: str) -> np.uint64:
    data = f"{_plain(title)}\0{_plain(text)}".encode(errors="surrogatepass")
    return np.uint64(int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little"))
