"""Which passages of a corpus have given keys: every shard's keys as hashes, made by any pool.

A corpus has no index of its keys: 21 M of them are read in minutes, once in a while. What comes
from a shard is 8 to 24 bytes a passage, and is dropped before the next one is looked at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from sharding.corpus.manifest import Partition
from sharding.corpus.partitions import read_shard
from sharding.corpus.passages import Passage, removed_key
from sharding.corpus.reader import Corpus
from sharding.corpus.tar import SHARD_REMEDY, offsets_of, scan
from sharding.errors import CorpusError
from sharding.ingest.documents.names import document_of_key
from sharding.ingest.splits import Hashes, bodies_of, hashes_of, key_hashes, text_hashes
from sharding.shown_progress import ShowProgress, show_nothing
from sharding.storage.files import join
from sharding.task_pool import InlinePool, TaskPool

FIRST = "#1"  # how the key of a cut text's first passage ends
_NAMED = 5  # unknown keys


@dataclass(frozen=True, slots=True, eq=False)
class ShardKeys:
    """The keys of a shard's passages.

    Attributes:
        partition: whose shard.
        keys: uint64 (n,), hashes of the keys; of a removed passage of what stands for its key.
        is_removed: bool (n,).
        bodies: uint64 (n,), hashes of key, title and text as `ingest.splits` writes them, if they
            were asked for.
        texts: uint64 (n,), hashes of title and text, likewise.
        firsts: where keys end with #1, as that of a cut text's first passage does.
        cut: uint64, hashes of these keys without it.
        documents: uint64 (n,), hashes of the documents' names that the keys begin with, if they
            were asked for; of "" for keys of other sources.
    """

    partition: Partition
    keys: Hashes
    is_removed: NDArray[np.bool_]
    bodies: Hashes | None
    texts: Hashes | None
    firsts: NDArray[np.intp]
    cut: Hashes
    documents: Hashes | None = None


class _Named(msgspec.Struct, gc=False):
    """What is read of a record."""

    id: int
    key: str
    title: str
    text: str


_decode = msgspec.json.Decoder(_Named).decode


def keys_in_shard(
    partition: Partition,
    *,
    corpus_dir: str,
    with_bodies: bool,
    with_texts: bool,
    with_documents: bool,
) -> ShardKeys:
    """Reads a shard's keys.

    Raises:
        CorpusError: the shard is missing or damaged.
    """
    url = join(corpus_dir, partition.file)
    data = read_shard(url, partition)
    sizes = scan(data, first_id=partition.first_id, num_members=partition.num_passages, where=url)
    starts = offsets_of(sizes)
    try:
        with memoryview(data) as view:
            bounds = zip(starts.tolist(), (starts + sizes).tolist(), strict=True)
            rows = [_decode(view[start:end]) for start, end in bounds]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorpusError(
            f"{url}: holds a record that can't be read ({error}); {SHARD_REMEDY}"
        ) from error
    keys = [row.key for row in rows]
    titles, texts = [row.title for row in rows], [row.text for row in rows]
    gone = [Passage(row.id, row.key, row.title, row.text).is_removed for row in rows]
    firsts = [at for at, key in enumerate(keys) if key.endswith(FIRST)]
    return ShardKeys(
        partition,
        key_hashes(keys),
        np.array(gone, bool),
        hashes_of(bodies_of(keys, titles, texts)) if with_bodies else None,
        text_hashes(titles, texts) if with_texts else None,
        np.array(firsts, np.intp),
        key_hashes(keys[at].removesuffix(FIRST) for at in firsts),
        key_hashes(document_of_key(key) or "" for key in keys) if with_documents else None,
    )


def all_keys(
    corpus: Corpus,
    *,
    what: str,
    with_bodies: bool = False,
    with_texts: bool = False,
    with_documents: bool = False,
    pool: TaskPool | None = None,
    show: ShowProgress = show_nothing,
) -> Iterator[ShardKeys]:
    """Yields the keys of every shard, in order.

    Args:
        corpus: to read.
        what: is being done, for the progress.
        with_bodies: whether `ShardKeys.bodies` are wanted.
        with_texts: whether `ShardKeys.texts` are.
        with_documents: whether `ShardKeys.documents` are.
        pool: who reads the shards; this process, by default.
        show: shows how far it is.

    Raises:
        CorpusError: a shard is missing or damaged.
    """
    read = partial(
        keys_in_shard,
        corpus_dir=corpus.directory,
        with_bodies=with_bodies,
        with_texts=with_texts,
        with_documents=with_documents,
    )
    with show(corpus.manifest.num_passages, what, unit="passages") as advance:
        for found in (pool or InlinePool()).map(read, corpus.manifest.partitions):
            yield found
            advance(found.partition.num_passages)


def ids_of_keys(
    corpus: Corpus,
    keys: Sequence[str],
    *,
    pool: TaskPool | None = None,
    show: ShowProgress = show_nothing,
) -> list[int]:
    """Returns the ids of the passages with these keys, ascending.

    Each match is confirmed by its record.

    A key whose passages are all removed stands for these: it is recognised by its hash.

    Args:
        corpus: to look in.
        keys: in any order.
        pool: who reads the shards; this process, by default.
        show: shows how far it is.

    Raises:
        CorpusError: the corpus has no passage of a key and never had one; names such keys.
    """
    wanted = sorted(set(keys))
    # A key as it is, and as it is recognised after its removal.
    spelled = [(spelling, key) for key in wanted for spelling in (key, removed_key(key))]
    hashes = key_hashes(spelling for spelling, _ in spelled)
    order = np.argsort(hashes)
    ordered = hashes[order]
    there: dict[str, list[int]] = {key: [] for key in wanted}
    gone: dict[str, list[int]] = {key: [] for key in wanted}
    for shard in all_keys(corpus, what="looking for the keys", pool=pool, show=show):
        found, nearest = matches(shard.keys, ordered)
        for at, which in zip(found.tolist(), order[nearest].tolist(), strict=True):
            spelling, key = spelled[which]
            passage = corpus.record(shard.partition.first_id + at).passage
            if passage.key == spelling and passage.is_removed == (spelling != key):
                (gone if passage.is_removed else there)[key].append(passage.id)
    unknown = [key for key in wanted if not there[key] and not gone[key]]
    if unknown:
        raise CorpusError(
            f"{corpus.directory}: has no passage with the key {_some(unknown)}; a key is the id "
            "that the source gave it (of a cut text followed by #1, #2 and so on): check the "
            "spelling; all passages of a document go by --documents"
        )
    return sorted(passage_id for key in wanted for passage_id in there[key] or gone[key])


def ids_of_documents(
    corpus: Corpus,
    names: Sequence[str],
    *,
    pool: TaskPool | None = None,
    show: ShowProgress = show_nothing,
) -> list[int]:
    """Returns the ids of all passages that documents were cut into, ascending.

    Args:
        corpus: to look in.
        names: of documents, as their passages' keys begin: `policies/leave.md`.
        pool: who reads the shards; this process, by default.
        show: shows how far it is.

    Raises:
        CorpusError: no passage that is left is of a document; names such documents.
    """
    wanted = sorted(set(names))
    hashes = key_hashes(wanted)
    order = np.argsort(hashes)
    ordered = hashes[order]
    found: dict[str, list[int]] = {name: [] for name in wanted}
    what = "looking for the documents"
    for shard in all_keys(corpus, what=what, with_documents=True, pool=pool, show=show):
        assert shard.documents is not None
        places, nearest = matches(shard.documents, ordered)
        for at, which in zip(places.tolist(), order[nearest].tolist(), strict=True):
            passage = corpus.record(shard.partition.first_id + at).passage
            if not passage.is_removed and document_of_key(passage.key) == wanted[which]:
                found[wanted[which]].append(passage.id)
    unknown = [name for name in wanted if not found[name]]
    if unknown:
        raise CorpusError(
            f"{corpus.directory}: has no passage of a document {_some(unknown)}; a document's name "
            "is its path in the folder that was prepared, and begins its passages' keys"
        )
    return sorted(passage_id for ids in found.values() for passage_id in ids)


def _some(unknown: Sequence[str]) -> str:
    """Names a few of what wasn't found, and counts the rest."""
    more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
    return ", ".join(map(repr, unknown[:_NAMED])) + more


def matches(hashes: Hashes, ordered: Hashes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Finds equal values: positions in `hashes`, and in `ordered` (ascending, unique)."""
    if not len(ordered):
        nothing = np.zeros(0, np.intp)
        return nothing, nothing
    nearest = np.minimum(np.searchsorted(ordered, hashes), len(ordered) - 1)
    found = np.flatnonzero(ordered[nearest] == hashes)
    return found, nearest[found]
