"""Searching a run's index: ids, scores, routing rows and passages in one call.

N passages, k hits, S sites, K experts.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from polyprag.errors import ConfigError, RunError
from polyprag.index.components import REMEDY
from polyprag.index.dense import DenseIndex
from polyprag.index.fusion import Ranking, reciprocal_rank_fusion
from polyprag.index.lexical import LexicalIndex
from polyprag.index.manifest import IndexManifest
from polyprag.index.passages import Passages, PassageStore
from polyprag.index.place import IndexPlace, place_of
from polyprag.index.rows import Rows, RowTable
from polyprag.index.segments import OpenSegment
from polyprag.index.standing import Standing, corpus_and_encoding
from sharding.files import join
from sharding.passages import Passage

METHODS = ("bm25", "dense", "hybrid")
_FUSED_DEPTH = 100  # hits of each method that a hybrid search fuses at least


@dataclass(frozen=True, slots=True)
class Hits:
    """What a search found, best first.

    Attributes:
        ids: (k,) int64 passage ids.
        scores: (k,) float32, falling; comparable within one search only.
        rows: (k, S, K) float32 routing rows, no gate applied; None without an encoding.
        passages: the k passages.
    """

    ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    rows: npt.NDArray[np.float32] | None
    passages: tuple[Passage, ...]


class Index:
    """An opened index. What it holds is mapped from disk; threads may share it.

    Passages that the corpus had lost by the time it was opened are never among its hits.

    Attributes:
        standing: what became of the corpus and the encoding since it was built.
        removed: ids of passages that aren't there any more.
    """

    def __init__(
        self,
        place: IndexPlace,
        manifest: IndexManifest,
        *,
        parts: Sequence[Mapping[str, Path]],
        standing: Standing,
        gpu: str,
    ) -> None:
        """Opens parts that are verified; use `Index.open`."""
        self._place = place  # which keeps its parts from being deleted
        self._parts, self._gpu = parts, gpu
        self.standing = standing
        self.removed = frozenset((*manifest.removed, *standing.hidden))
        spans = [segment.span for segment in manifest.segments]
        self._segments = [OpenSegment(span, span.positions(standing.hidden)) for span in spans]
        self._num_passages = manifest.num_passages
        self._passages = Passages(
            [
                PassageStore.open(
                    part["passages"], num_passages=span.num_passages, first_id=span.first_id
                )
                for part, span in zip(parts, spans, strict=True)
            ]
        )
        self._rows: Rows | None = None
        if manifest.has_rows:
            tables = [
                RowTable.open(part["rows"], num_passages=span.num_passages)
                for part, span in zip(parts, spans, strict=True)
            ]
            self._rows = Rows(tables, spans)
        self._bm25: LexicalIndex | None = None
        self._dense: DenseIndex | None = None
        self._opening = threading.Lock()

    @classmethod
    def open(
        cls,
        run_dir: str | Path,
        *,
        gpu: str = "auto",
        verify: bool = False,
        cache_dir: str | None = None,
        cache_gb: float = 20.0,
    ) -> Self:
        """Opens RUN/index; BM25 and the dense index are opened by the first search with them.

        Args:
            run_dir: RUN, a path or URL. RUN/corpus and RUN/encoding needn't be there. Where they
                are, they may have grown and lost passages since the index was built from them.
            gpu: `auto` puts the dense index on the GPUs that FAISS sees; `never` doesn't.
            verify: whether the checksums of large files are verified too.
            cache_dir: `data.cache_dir`: where a remote run's parts are copied to.
            cache_gb: `data.cache_gb`.

        Raises:
            RunError: the index is missing or damaged, or of another corpus or encoding.
        """
        place = place_of(run_dir, cache_dir=cache_dir, cache_gb=cache_gb)
        manifest = IndexManifest.load(place.url)
        while True:
            try:
                corpus, encoding = corpus_and_encoding(run_dir)
                standing = Standing.of(manifest, corpus=corpus, encoding=encoding)
                if standing.changed:
                    source = join(run_dir, standing.changed[0])
                    raise RunError(f"{source} has changed since {place.url} was built: {REMEDY}")
                parts = [
                    {
                        name: place.local(component, whole=verify)
                        for name, component in segment.components.items()
                    }
                    for segment in manifest.segments
                ]
                return cls(place, manifest, parts=parts, standing=standing, gpu=gpu)
            except RunError:
                seen, manifest = manifest, IndexManifest.load(place.url)
                if manifest == seen:  # else a build has replaced it meanwhile
                    raise

    @property
    def num_passages(self) -> int:
        """N: ids go from 0 to N - 1, those of removed passages included."""
        return self._num_passages

    @property
    def has_rows(self) -> bool:
        """Whether an encoding's routing rows are attached."""
        return self._rows is not None

    def search(self, queries: Sequence[str], *, k: int, method: str = "bm25") -> list[Hits]:
        """Finds the best passages of each query.

        Args:
            queries: questions or other texts.
            k: at least 1. Fewer hits are returned where fewer passages have anything in common
                with the query, none included.
            method: `bm25`; `dense`: inner product of unit vectors; `hybrid`: reciprocal-rank
                fusion of both.

        Returns:
            Hits for each query, in the order of the queries.

        Raises:
            ConfigError: there is no such method, or k is below 1.
            RunError: a part of the index is damaged.
        """
        if method not in METHODS:
            raise ConfigError(
                f"retrieval.method={method!r} can't be used: it must be one of {', '.join(METHODS)}"
            )
        if k < 1:
            raise ConfigError(f"retrieval.top_k={k} can't be used: it must be at least 1")
        if not queries:
            return []
        return [self._hits(ranking) for ranking in self._rankings(queries, k, method)]

    def _rankings(self, queries: Sequence[str], k: int, method: str) -> list[Ranking]:
        if method == "bm25":
            return [self._opened_bm25().search(query, k=k) for query in queries]
        if method == "dense":
            return self._opened_dense().search(queries, k=k)
        depth = max(k, _FUSED_DEPTH)
        both = (self._rankings(queries, depth, "bm25"), self._rankings(queries, depth, "dense"))
        return [reciprocal_rank_fusion(pair, k=k) for pair in zip(*both, strict=True)]

    def _hits(self, ranking: Ranking) -> Hits:
        return Hits(
            ids=ranking.ids,
            scores=ranking.scores,
            rows=self.rows_of(ranking.ids),
            passages=tuple(self.passage(i) for i in ranking.ids.tolist()),
        )

    def get(self, ids: Sequence[int]) -> Hits:
        """Given passages as hits, in their order, all with a score of 1.

        Raises:
            IndexError: there is no passage of such an id, or none any more.
        """
        return self._hits(Ranking(np.asarray(ids, np.int64), np.ones(len(ids), np.float32)))

    def passage(self, passage_id: int) -> Passage:
        """The passage of an id; `IndexError` where there is none, or none any more."""
        if passage_id in self.removed:
            raise IndexError(f"passage {passage_id} has been removed")
        return self._passages[passage_id]

    def rows_of(self, ids: npt.ArrayLike) -> npt.NDArray[np.float32] | None:
        """The routing rows (n, S, K) of passages (n,), no gate applied; None without an encoding.

        A removed passage's row is all zeros.

        Raises:
            IndexError: there is no passage of such an id.
        """
        wanted = np.asarray(ids, dtype=np.int64).reshape(-1)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < self.num_passages:
            raise IndexError(f"ids must be in 0 to {self.num_passages - 1}: {wanted.tolist()}")
        if self._rows is None:
            return None
        rows = self._rows.take(wanted)
        if self.standing.hidden:
            rows[np.isin(wanted, self.standing.hidden)] = 0
        return rows

    def find(self, title: str, text: str) -> int | None:
        """The id of the passage with this title and text, white space apart; else None."""
        return self._passages.find(title, text, without=self.removed)

    def _opened_bm25(self) -> LexicalIndex:
        with self._opening:
            if self._bm25 is None:
                directories = [part["bm25"] for part in self._parts]
                self._bm25 = LexicalIndex.open(directories, self._segments)
            return self._bm25

    def _opened_dense(self) -> DenseIndex:
        with self._opening:
            if self._dense is None:
                directories = [part["dense"] for part in self._parts]
                self._dense = DenseIndex.open(directories, self._segments, gpu=self._gpu)
            return self._dense
