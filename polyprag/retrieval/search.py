"""Searches a run's index: ids, scores, routing rows and passages in one call.

N passages, k hits, S sites, K experts.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from polyprag.config import RetrievalConfig
from polyprag.errors import ConfigError, RunError
from polyprag.retrieval.dense.search import DenseIndex
from polyprag.retrieval.freshness import Freshness, corpus_and_encoding
from polyprag.retrieval.fusion import TopK, top_k_of
from polyprag.retrieval.hybrid import hybrid_search
from polyprag.retrieval.lexical.search import LexicalIndex
from polyprag.retrieval.parts.index_store import IndexStore, index_store_of
from polyprag.retrieval.parts.manifest import IndexManifest
from polyprag.retrieval.parts.passages import Passages, PassageStore
from polyprag.retrieval.parts.serving_rows import Rows, ServingRows
from polyprag.retrieval.parts.span import OpenSegment
from polyprag.retrieval.remedy import REMEDY
from polyprag.retrieval.rerank import CrossEncoder, reranked
from polyprag.retrieval.results import SearchResult
from sharding.corpus.passages import Passage
from sharding.storage.files import join

METHODS = ("bm25", "dense", "hybrid")


class Index:
    """An opened index. What it holds is mapped from disk; threads may share it.

    Passages that the corpus had lost by the time it was opened are never among its hits.

    Attributes:
        freshness: what has changed in the corpus and the encoding since it was built.
        removed: ids of passages that aren't there any more.
    """

    def __init__(
        self,
        store: IndexStore,
        manifest: IndexManifest,
        *,
        parts: Sequence[Mapping[str, Sequence[Path]]],
        freshness: Freshness,
        gpu: str,
        retrieval: RetrievalConfig,
    ) -> None:
        """Opens parts that are verified; use `Index.open`."""
        self._store = store  # which keeps its parts from being deleted
        self._parts, self._gpu, self._retrieval = parts, gpu, retrieval
        self.freshness = freshness
        self.removed = frozenset((*manifest.removed, *freshness.hidden))
        spans = [segment.span for segment in manifest.segments]
        self._segments = [OpenSegment(span, span.positions(freshness.hidden)) for span in spans]
        self._num_passages = manifest.num_passages
        self._passages = Passages(
            [
                PassageStore.open(
                    part["passages"][0], num_passages=span.num_passages, first_id=span.first_id
                )
                for part, span in zip(parts, spans, strict=True)
            ]
        )
        self._rows: Rows | None = None
        if manifest.has_rows:
            tables = [
                ServingRows.open(part["rows"][0], num_passages=span.num_passages)
                for part, span in zip(parts, spans, strict=True)
            ]
            self._rows = Rows(tables, spans, hidden=freshness.hidden)
        self._bm25: LexicalIndex | None = None
        self._dense: DenseIndex | None = None
        self._reranker: CrossEncoder | None = None
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
        retrieval: RetrievalConfig | None = None,
    ) -> Self:
        """Opens RUN/index; BM25 and the dense index are opened by the first search with them.

        Args:
            run_dir: RUN, a path or URL. RUN/corpus and RUN/encoding needn't be there. Where they
                are, they may have grown and lost passages since the index was built from them.
            gpu: `auto` puts the dense index on the GPUs that FAISS sees; `never` doesn't.
            verify: whether the checksums of large files are verified too.
            cache_dir: `data.cache_dir`: where a remote run's parts are copied to.
            cache_gb: `data.cache_gb`.
            retrieval: how hybrid searches fuse, what reranks, and how far approximate indexes
                look; its defaults by default. Its method and top_k aren't used.

        Raises:
            RunError: the index is missing or damaged, or of another corpus or encoding.
        """
        store = index_store_of(run_dir, cache_dir=cache_dir, cache_gb=cache_gb)
        manifest = IndexManifest.load(store.url)
        while True:
            try:
                corpus, encoding = corpus_and_encoding(run_dir)
                freshness = Freshness.of(manifest, corpus=corpus, encoding=encoding)
                if freshness.changed:
                    source = join(run_dir, freshness.changed[0])
                    raise RunError(f"{source} has changed since {store.url} was built: {REMEDY}")
                parts = [
                    {
                        name: [store.local(part, whole=verify) for part in divided]
                        for name, divided in segment.parts.items()
                    }
                    for segment in manifest.segments
                ]
                return cls(
                    store,
                    manifest,
                    parts=parts,
                    freshness=freshness,
                    gpu=gpu,
                    retrieval=retrieval or RetrievalConfig(),
                )
            except RunError:
                seen, manifest = manifest, IndexManifest.load(store.url)
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

    def search(self, queries: Sequence[str], *, k: int, method: str = "bm25") -> SearchResult:
        """Finds the best passages of each query, with their routing rows.

        Args:
            queries: Q questions or other texts.
            k: at least 1. Fewer hits are returned where fewer passages have anything in common
                with the query, none included.
            method: `bm25`; `dense`: inner product of vectors; `hybrid`: both, fused. With
                `retrieval.reranker` their hits are then put in its order.

        Returns:
            ids, scores (Q, k) and rows (Q, k, S, K), which as a sequence is the `Hits` of each
            query, in the order of the queries.

        Raises:
            ConfigError: there is no such method, k is below 1, or a model can't be loaded.
            RunError: a part of the index is damaged.
        """
        if method not in METHODS:
            raise ConfigError(
                f"retrieval.method={method!r} can't be used: it must be one of {', '.join(METHODS)}"
            )
        _check_k(k)
        if self._retrieval.reranker is None:
            return SearchResult(self._found(queries, k, method), self._rows, self.passage)
        reranker = self._opened_reranker(self._retrieval.reranker)
        depth = max(k, self._retrieval.rerank_depth)
        rankings = reranked(
            queries,
            self._found(queries, depth, method).rankings(),
            scores_of=lambda query, ids: reranker.scores(
                query, [self.passage(i) for i in ids.tolist()]
            ),
            depth=depth,
            k=k,
        )
        return SearchResult(top_k_of(rankings, k=k), self._rows, self.passage)

    def why_nothing(self, query: str, *, method: str) -> str:
        """Says why a search found nothing.

        Args:
            query: for which there was no hit.
            method: it was searched by.
        """
        if method == "dense":
            return "index.encoder knows nothing in it"
        if not self._opened_bm25().terms(query):
            return "it has no word that can be searched: stop words and punctuation alone"
        return "none of its words is in any passage"

    def vectors_of(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns (Q, D) vectors by the index's encoder; its errors are those of `search`."""
        return self._opened_dense().encoder.encode_queries(queries)

    def search_vectors(self, vectors: npt.NDArray[np.float32], *, k: int) -> SearchResult:
        """Finds the passages whose vectors are nearest to given ones, with their routing rows.

        Args:
            vectors: (Q, D) float32, of the index's encoder; nothing is found for a zero vector.
            k: at least 1.

        Returns:
            See `search`, as its method `dense` gives it.

        Raises:
            ConfigError: k is below 1, or the vectors are of another length.
            RunError: a part of the index is damaged.
        """
        dense = self._opened_dense()
        _check_k(k)
        if vectors.ndim != 2 or vectors.shape[1] != dense.encoder.dims:
            raise ConfigError(
                f"vectors of shape {vectors.shape} can't be searched: the index's encoder makes "
                f"{dense.encoder.dims} numbers for each text"
            )
        queries = np.ascontiguousarray(vectors, np.float32)
        found = dense.search_vectors(queries, k=k, refine=self._retrieval.refine)
        return SearchResult(found, self._rows, self.passage)

    def _found(self, queries: Sequence[str], k: int, method: str) -> TopK:
        if not queries:
            return top_k_of([], k=k)
        if method == "bm25":
            return self._opened_bm25().search(queries, k=k)
        dense = self._opened_dense()
        if method == "dense":
            return dense.search(queries, k=k, refine=self._retrieval.refine)
        return hybrid_search(queries, dense, self._opened_bm25(), k=k, retrieval=self._retrieval)

    def passage(self, passage_id: int) -> Passage:
        """Returns the passage of an id; `IndexError` where there is none, or none any more."""
        if passage_id in self.removed:
            raise IndexError(f"passage {passage_id} has been removed")
        return self._passages[passage_id]

    def rows_of(self, ids: npt.ArrayLike) -> npt.NDArray[np.float32] | None:
        """Returns the routing rows (n, S, K) of passages (n,), no gate applied.

        None without an encoding.

        A removed passage's row is all zeros.

        Raises:
            IndexError: there is no passage of such an id.
        """
        wanted = np.asarray(ids, dtype=np.int64).reshape(-1)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < self.num_passages:
            raise IndexError(f"ids must be in 0 to {self.num_passages - 1}: {wanted.tolist()}")
        return None if self._rows is None else self._rows.take(wanted)

    def find(self, title: str, text: str) -> int | None:
        """Returns the id of the passage with this title and text, white space apart; else None."""
        return self._passages.find(title, text, without=self.removed)

    def matched(self, query: str, passage: Passage) -> float:
        """Returns how much of a query a passage has, 0 to 1; see `LexicalIndex.matched`."""
        return self._opened_bm25().matched(query, f"{passage.title} {passage.text}")

    def _opened_bm25(self) -> LexicalIndex:
        with self._opening:
            if self._bm25 is None:
                directories = [part["bm25"] for part in self._parts]
                self._bm25 = LexicalIndex.open(directories, self._segments)
            return self._bm25

    def _opened_reranker(self, model: str) -> CrossEncoder:
        with self._opening:
            if self._reranker is None:
                self._reranker = CrossEncoder.open(
                    model, batch_size=self._retrieval.rerank_batch, gpu=self._gpu
                )
            return self._reranker

    def _opened_dense(self) -> DenseIndex:
        """Returns the dense index with its encoder, opened if need be."""
        with self._opening:
            if self._dense is None:
                directories = [(part["embeddings"], part["dense"]) for part in self._parts]
                self._dense = DenseIndex.open(
                    self._parts[0]["encoder"][0],
                    directories,
                    self._segments,
                    gpu=self._gpu,
                    nprobe=self._retrieval.nprobe,
                )
            return self._dense


def _check_k(k: int) -> None:
    if k < 1:
        raise ConfigError(f"retrieval.top_k={k} can't be used: it must be at least 1")
