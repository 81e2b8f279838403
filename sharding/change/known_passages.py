"""Which passages of parsed input a corpus has already, and of which it has another version."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.json import decode
from numpy.typing import NDArray

from sharding.change.keys import FIRST, ShardKeys, all_keys, matches
from sharding.corpus.reader import Corpus
from sharding.ingest.positions import bodies_at
from sharding.ingest.splits import Hashes, SplitInfo, hashes_of, key_hashes
from sharding.shown_progress import ShowProgress
from sharding.task_pool import TaskPool

Int64s = NDArray[np.int64]
_NONE: Int64s = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Passages of the input by their positions in its order, ascending.

    Attributes:
        same: those that the corpus has with this key, title and text.
        changed: those whose key it has with another title or text, or cut where the input isn't,
            or the other way round.
        changed_ids: the ids of its passages of these keys.
        texts: those of whose title and text it has a passage, whatever its key; none where
            duplicates may stay.
        outdated_ids: the ids of its passages of the input's documents that aren't in these any
            more, ascending.
    """

    same: Int64s
    changed: Int64s
    changed_ids: Int64s
    texts: Int64s
    outdated_ids: Int64s


def find_known(
    corpus: Corpus,
    splits: Sequence[SplitInfo],
    *,
    repeated: Int64s,
    documents: Sequence[str] = (),
    pool: TaskPool,
    show: ShowProgress,
) -> Known:
    """Compares the input with every passage of a corpus.

    Passages are the same if 64 bits of their keys' hashes and 64 bits of the whole passages' agree.
    Where only the first do, both keys are read: another version, or a chance in 2^64.

    Args:
        corpus: what is there.
        splits: of the whole input, in order.
        repeated: positions of passages whose key came before in the input; they aren't looked for.
        documents: the names of the input's documents.
        pool: who reads the shards.
        show: shows how far it is.

    Raises:
        CorpusError: a shard or a split is damaged.
    """
    keys = _Sorted.of([split.keys for split in splits], left_out=repeated)
    with_texts = [split.texts for split in splits if split.texts is not None]
    texts = _Sorted.of(with_texts, left_out=_NONE)
    cutting = _Cutting.of(splits)
    found: list[tuple[Int64s, Int64s, Hashes]] = []
    same_text: list[Int64s] = []
    names = np.sort(key_hashes(documents))
    outdated: list[Int64s] = [_NONE]
    shards = all_keys(
        corpus,
        what="comparing with the corpus",
        with_bodies=True,
        with_texts=bool(with_texts),
        with_documents=bool(documents),
        pool=pool,
        show=show,
    )
    for shard in shards:
        there = np.flatnonzero(~shard.is_removed)
        at, positions = keys.find(shard.keys[there])
        if len(at):
            assert shard.bodies is not None  # asked for
            bodies = shard.bodies[there[at]]
            found.append((positions, shard.partition.first_id + there[at], bodies))
        cutting.compare(shard)
        if shard.documents is not None:
            of_these = there[matches(shard.documents[there], names)[0]]
            is_in_them = np.isin(shard.keys[of_these], keys.hashes)
            outdated.append(shard.partition.first_id + of_these[~is_in_them])
        if shard.texts is not None:
            same_text.append(texts.find(shard.texts[there])[1])
    positions, ids, bodies = _joined(found)
    is_same, is_changed = _compared(corpus, splits, positions, ids, bodies)
    recut, recut_ids = cutting.confirmed(corpus, splits)
    changed = np.concatenate([positions[is_changed], recut])
    order = np.argsort(changed, kind="stable")
    return Known(
        positions[is_same],
        changed[order],
        np.concatenate([ids[is_changed], recut_ids])[order],
        np.unique(np.concatenate([_NONE, *same_text])),
        np.concatenate(outdated),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Sorted:
    """Hashes in ascending order, with their positions."""

    hashes: Hashes
    positions: Int64s

    @classmethod
    def of(cls, parts: Sequence[Hashes], *, left_out: Int64s) -> "_Sorted":
        """Returns all but those at some positions."""
        hashes = np.concatenate([np.zeros(0, np.uint64), *parts])
        positions = np.delete(np.arange(len(hashes)), left_out)
        order = np.argsort(hashes[positions], kind="stable")
        positions = positions[order]
        return cls(hashes[positions], positions)

    def find(self, hashes: Hashes) -> tuple[NDArray[np.intp], Int64s]:
        """Finds values of `hashes` that are here: their positions there and (first) here."""
        at, here = matches(hashes, self.hashes)
        return at, self.positions[here]


class _Cutting:
    """Texts of which the corpus has passages ID#1 and so on and the input only ID, or the reverse.

    Both would stand there, one of them out of date.
    """

    def __init__(self, cut: _Sorted, whole: _Sorted) -> None:
        """Takes the ids of rows, at the position of their first passage, that were cut or not."""
        self._cut, self._whole = cut, whole
        self._found: list[tuple[Int64s, Int64s]] = []  # positions, ids

    @classmethod
    def of(cls, splits: Sequence[SplitInfo]) -> "_Cutting":
        """Returns those of the input; none where texts aren't cut."""
        with_sources = [split for split in splits if split.sources is not None]
        if not with_sources:
            nothing = _Sorted.of([], left_out=_NONE)
            return cls(nothing, nothing)
        sources = [split.sources for split in with_sources if split.sources is not None]
        is_cut = np.concatenate([split.keys for split in splits]) != np.concatenate(sources)
        return cls(
            _Sorted.of(sources, left_out=np.flatnonzero(~is_cut)),
            _Sorted.of(sources, left_out=np.flatnonzero(is_cut)),
        )

    def compare(self, shard: ShardKeys) -> None:
        """Notes what seems to be cut otherwise in a shard."""
        at, positions = self._cut.find(shard.keys)
        self._found.append((positions, shard.partition.first_id + at))
        at, positions = self._whole.find(shard.cut)
        self._found.append((positions, shard.partition.first_id + shard.firsts[at]))

    def confirmed(self, corpus: Corpus, splits: Sequence[SplitInfo]) -> tuple[Int64s, Int64s]:
        """Returns positions, ascending, and ids of what its keys confirm, not its hashes only."""
        positions, ids = (
            np.concatenate(columns) for columns in zip((_NONE, _NONE), *self._found, strict=True)
        )
        order = np.argsort(positions, kind="stable")
        positions, ids = positions[order], ids[order]
        is_so = np.zeros(len(positions), bool)
        for at, (_, body) in enumerate(bodies_at(splits, positions)):
            new, there = decode(body)["key"], corpus.record(int(ids[at])).passage
            is_so[at] = not there.is_removed and (
                new == there.key + FIRST or new + FIRST == there.key
            )
        return positions[is_so], ids[is_so]


def _joined(found: Sequence[tuple[Int64s, Int64s, Hashes]]) -> tuple[Int64s, Int64s, Hashes]:
    nothing = (_NONE, _NONE, np.zeros(0, np.uint64))
    positions, ids, bodies = (
        np.concatenate(columns) for columns in zip(nothing, *found, strict=True)
    )
    order = np.argsort(positions, kind="stable")
    return positions[order], ids[order], bodies[order]


def _compared(
    corpus: Corpus, splits: Sequence[SplitInfo], positions: Int64s, ids: Int64s, bodies: Hashes
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns which passages are the corpus's own, and which are another version of one of its."""
    is_same, is_changed = np.zeros(len(positions), bool), np.zeros(len(positions), bool)
    for at, (_, body) in enumerate(bodies_at(splits, positions)):
        is_same[at] = hashes_of([body])[0] == bodies[at]
        if not is_same[at]:
            key = corpus.record(int(ids[at])).passage.key
            is_changed[at] = key == decode(body)["key"]
    return is_same, is_changed
