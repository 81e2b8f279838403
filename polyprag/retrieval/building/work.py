"""The kinds of work that tasks of an index build do in parallel: each makes one kind of part."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polyprag.retrieval.analysis import Analyzer
from polyprag.retrieval.building.groups import Group
from polyprag.retrieval.dense.embeddings import Embeddings, write_embeddings
from polyprag.retrieval.dense.faiss_index import fill, read_index, write_index, write_place
from polyprag.retrieval.encoders.choice import saved_encoder
from polyprag.retrieval.encoders.interface import Encoder
from polyprag.retrieval.lexical.bm25 import write_bm25
from polyprag.retrieval.lexical.term_counts import TermCounts, write_term_counts
from polyprag.retrieval.lexical.term_statistics import TermStatistics
from polyprag.retrieval.parts.index_store import IndexStore
from polyprag.retrieval.parts.part import IndexPart
from polyprag.retrieval.parts.passages import write_passages
from polyprag.retrieval.parts.span import Span
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.passages import Passage
from sharding.corpus.reader import Corpus
from sharding.storage.cache import cache_for

_VECTORS_AT_ONCE = 16_384  # that are turned to fp32 and added to a FAISS index


@dataclass(frozen=True, slots=True)
class GroupSource:
    """The passages of a group, read from the corpus.

    Attributes:
        corpus_url: RUN/corpus.
        manifest: its manifest, with the group's partitions only.
        cache_dir: `data.cache_dir`.
        cache_gb: `data.cache_gb`.
    """

    corpus_url: str
    manifest: CorpusManifest
    cache_dir: str | None
    cache_gb: float

    @property
    def span(self) -> Span:
        """The passages' ids."""
        return Group(tuple(self.manifest.partitions)).span

    def passages(self) -> Iterator[Passage]:
        """Yields the passages in the order of their ids."""
        cache = cache_for(self.corpus_url, directory=self.cache_dir, max_gb=self.cache_gb)
        corpus = Corpus(self.corpus_url, self.manifest, cache=cache)
        for record in corpus.iterate():
            yield record.passage


@dataclass(frozen=True, slots=True)
class Texts:
    """The passages of a group as a store of their own."""

    source: GroupSource

    def write(self, directory: Path, store: IndexStore) -> None:
        """See `Work`."""
        span = self.source.span
        write_passages(
            directory,
            self.source.passages(),
            num_passages=span.num_passages,
            first_id=span.first_id,
        )


@dataclass(frozen=True, slots=True)
class Counts:
    """The term counts of a group."""

    source: GroupSource
    analyzer_settings: dict[str, Any]
    title_weight: int

    def write(self, directory: Path, store: IndexStore) -> None:
        """See `Work`."""
        texts = ((passage.title, passage.text) for passage in self.source.passages())
        analyzer = Analyzer.from_settings(self.analyzer_settings, where="index.language")
        write_term_counts(directory, texts, analyzer=analyzer, title_weight=self.title_weight)


@dataclass(frozen=True, slots=True)
class BM25Scores:
    """A part of a base's BM25 index."""

    counts: tuple[IndexPart, ...]
    statistics: IndexPart
    analyzer_settings: dict[str, Any]
    title_weight: int
    k1: float
    b: float

    def write(self, directory: Path, store: IndexStore) -> None:
        """See `Work`."""
        write_bm25(
            directory,
            [TermCounts.open(store.local(part)) for part in self.counts],
            TermStatistics.open(store.local(self.statistics)),
            analyzer=Analyzer.from_settings(self.analyzer_settings, where="index.language"),
            title_weight=self.title_weight,
            k1=self.k1,
            b=self.b,
        )


@dataclass(frozen=True, slots=True)
class Vectors:
    """The embeddings of a group."""

    source: GroupSource
    encoder: IndexPart
    gpu: str
    removed: tuple[int, ...]  # ids of its passages that get no vector
    given: tuple[str, str] | None = None  # see `saved_encoder`

    def write(self, directory: Path, store: IndexStore) -> None:
        """See `Work`."""
        removed = set(self.removed)
        write_embeddings(
            directory,
            (
                None if passage.id in removed else (passage.title, passage.text)
                for passage in self.source.passages()
            ),
            _encoder(str(store.local(self.encoder)), self.gpu, self.given),
            num_passages=self.source.span.num_passages,
        )


@lru_cache(maxsize=1)
def _encoder(directory: str, gpu: str, given: tuple[str, str] | None) -> Encoder:
    """Returns one for all the tasks of a process."""
    return saved_encoder(Path(directory), gpu=gpu, given=given)


@dataclass(frozen=True, slots=True)
class Filled:
    """A FAISS index with the vectors of consecutive groups of a segment.

    Attributes:
        trained: the index without vectors.
        embeddings: of the groups.
        first: the position of their first passage in the segment.
        num_passages: how many they are.
        removed: positions in the segment that have no vector.
        is_joined: whether it will be joined with others: then its ids are positions in the segment.
    """

    trained: IndexPart
    embeddings: tuple[IndexPart, ...]
    first: int
    num_passages: int
    removed: tuple[int, ...]
    is_joined: bool

    def write(self, directory: Path, store: IndexStore) -> None:
        """See `Work`."""
        embeddings = Embeddings.open(
            [store.local(part) for part in self.embeddings],
            num_passages=self.num_passages,
        )
        live = np.setdiff1d(
            np.arange(self.num_passages), np.asarray(self.removed, np.int64) - self.first
        )
        index = read_index(store.local(self.trained))
        positions = live + self.first
        fill(
            index,
            (embeddings.take(chunk) for chunk in _chunks(live)),
            positions if self.is_joined else None,
        )
        write_index(directory, index)
        if not self.is_joined:
            whole = len(live) == self.num_passages
            write_place(directory, first=self.first, positions=None if whole else positions)


def _chunks(values: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, len(values), _VECTORS_AT_ONCE):
        yield values[start : start + _VECTORS_AT_ONCE]
