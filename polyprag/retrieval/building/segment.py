"""Builds the parts of one segment of an index that aren't there yet."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import structs

from polyprag.config.trust import INDEX_ENDPOINT, endpoint_of
from polyprag.encoding.manifest import EncodingManifest
from polyprag.retrieval.building.dense import DenseBuild
from polyprag.retrieval.building.groups import Group, group_ranges, groups_of
from polyprag.retrieval.building.part_maker import IndexLocation, PartMaker
from polyprag.retrieval.building.progress import BuildProgress
from polyprag.retrieval.building.settings import Settings
from polyprag.retrieval.building.unsearchable import Unsearchable
from polyprag.retrieval.building.work import BM25Scores, Counts, GroupSource, Texts, Vectors
from polyprag.retrieval.encoders.choice import fit_encoder, needs_sample
from polyprag.retrieval.freshness import row_parts
from polyprag.retrieval.lexical.term_counts import TermCounts
from polyprag.retrieval.lexical.term_statistics import TermStatistics
from polyprag.retrieval.parts.index_store import IndexStore
from polyprag.retrieval.parts.manifest import Segment
from polyprag.retrieval.parts.part import IndexPart
from polyprag.retrieval.parts.passages import PassageStore, join_passages
from polyprag.retrieval.parts.serving_rows import write_rows
from polyprag.retrieval.parts.span import Span, span_of
from sharding.corpus.manifest import Partition
from sharding.corpus.reader import Corpus
from sharding.storage.files import read_json, write_json
from sharding.task_pool import TaskPool

_ROWS_AT_A_TIME = 1024
_BM25_PART = 1 << 19  # passages: half a gigabyte for the task that scores them
_MAX_SAMPLE = 500_000  # evenly spaced passages that LSA is fitted on
_DIGESTS = "groups.json"  # of each group's passages, beside them


@dataclass(frozen=True)
class Workers:
    """Who makes the parts.

    Attributes:
        pool: most of them.
        encoding: the vectors; with a GPU for each worker, for instance.
    """

    pool: TaskPool
    encoding: TaskPool


class SegmentBuild:
    """Builds the segments of one index."""

    def __init__(
        self,
        run_dir: str | Path,
        store: IndexStore,
        settings: Settings,
        corpus: Corpus,
        encoding: EncodingManifest | None,
        progress: BuildProgress,
        workers: Workers,
        say: Callable[[str], None],
    ) -> None:
        """Builds nothing yet; `say` takes what the user should know of the passages."""
        data = settings.config.data
        self._run, self._store, self._settings = run_dir, store, settings
        self._corpus, self._encoding, self._workers = corpus, encoding, workers
        self._say = say
        location = IndexLocation(str(run_dir), data.cache_dir, data.cache_gb)
        self._parts = PartMaker(store, location, progress)

    def segment(self, partitions: Sequence[Partition], *, base: Segment | None) -> Segment:
        """Returns the segment over consecutive partitions, with its parts in place.

        Args:
            partitions: of the corpus.
            base: of the index; None builds the base itself.
        """
        span = span_of(partitions)
        groups = groups_of(partitions)
        passages = self._passages(partitions, groups)
        local = self._store.local(passages)
        indexed = PassageStore.open(local, num_passages=span.num_passages, first_id=span.first_id)
        # Of the passages' contents, which augmenting the corpus doesn't change.
        digests = [str(digest) for digest in read_json(local / _DIGESTS)]
        parts = {"passages": [passages]}
        unsearchable = Unsearchable(
            self._store,
            indexed,
            [group.span for group in groups],
            removed=self._corpus.manifest.removed,
            say=self._say,
            is_base=base is None,
        )
        parts["bm25"] = self._bm25(groups, digests, unsearchable, is_base=base is None)
        if base is None:
            parts["encoder"] = [self._encoder(indexed, digests)]
        (encoder,) = (parts if base is None else base.parts)["encoder"]
        dense = DenseBuild(self._parts, self._settings.config.index, self._workers.pool)
        removed = span.positions(self._corpus.manifest.removed)
        if base is None:
            dense.check(encoder, num_vectors=span.num_passages - len(removed))
        parts["embeddings"] = self._embeddings(groups, digests, encoder)
        chosen = self._settings.config.index.encoder
        unsearchable.by_vectors(parts["embeddings"], encoder=chosen)
        parts["dense"] = dense.indexes(
            groups, parts["embeddings"], removed=removed, is_base=base is None
        )
        row_files = []
        if self._encoding is not None:
            row_files = [part.sha256 for part in row_parts(self._encoding, span)]
            parts["rows"] = [self._rows(span, row_files, self._encoding)]
        shards = [partition.sha256 for partition in partitions]
        return Segment(span.first_id, span.num_passages, shards, row_files, parts)

    def _source(self, group: Group) -> GroupSource:
        data = self._settings.config.data
        manifest = structs.replace(self._corpus.manifest, partitions=group.partitions)
        return GroupSource(self._corpus.directory, manifest, data.cache_dir, data.cache_gb)

    def _passages(self, partitions: Sequence[Partition], groups: Sequence[Group]) -> IndexPart:
        shards = [partition.sha256 for partition in partitions]
        span = span_of(partitions)
        found = self._parts.found("passages", shards=shards)
        if found is not None:
            self._parts.progress.advance(span.num_passages)
            return found
        tasks = [
            self._parts.task(
                "texts",
                Texts(self._source(group)),
                num_passages=group.span.num_passages,
                shards=[partition.sha256 for partition in group.partitions],
                first_id=group.span.first_id,
            )
            for group in groups
        ]
        texts = self._parts.make_all(tasks, self._workers.pool)

        def write(directory: Path) -> None:
            stores = [
                (self._store.local(part), group.span.num_passages)
                for part, group in zip(texts, groups, strict=True)
            ]
            join_passages(directory, stores)
            contents = [{name: file.sha256 for name, file in part.files.items()} for part in texts]
            digests = [
                hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
                for files in contents
            ]
            write_json(directory / _DIGESTS, digests)

        return self._parts.make("passages", write, shards=shards)

    def _bm25(
        self,
        groups: Sequence[Group],
        digests: Sequence[str],
        unsearchable: Unsearchable,
        *,
        is_base: bool,
    ) -> list[IndexPart]:
        analyzer, options = self._settings.analyzer.settings, self._settings.bm25
        weight = options["title_weight"]
        counted = [
            self._parts.task(
                "counts",
                Counts(self._source(group), analyzer, weight),
                num_passages=group.span.num_passages,
                passages=digest,
                analyzer=analyzer,
                title_weight=weight,
            )
            for group, digest in zip(groups, digests, strict=True)
        ]
        language = self._settings.config.index.language
        if not is_base:  # scored by the base's statistics and options, and made without them
            counts = self._parts.make_all(counted, self._workers.pool)
            unsearchable.by_words(counts, language=language)
            return counts
        named = [task.directory for task in counted]
        scoring = {"k1": options["k1"], "b": options["b"], "base": named}
        ranges = group_ranges(groups, max_passages=_BM25_PART)
        found = [self._parts.found("bm25", groups=numbers, **scoring) for numbers in ranges]
        whole = [part for part in found if part is not None]
        if len(whole) == len(ranges):
            self._parts.progress.advance(sum(group.span.num_passages for group in groups))
            return whole
        counts = self._parts.make_all(counted, self._workers.pool)
        unsearchable.by_words(counts, language=language)

        def write(directory: Path) -> None:
            TermStatistics.of(TermCounts.open(self._store.local(part)) for part in counts).save(
                directory
            )

        statistics = self._parts.make("statistics", write, counts=named)
        tasks = [
            self._parts.task(
                "bm25",
                BM25Scores(
                    tuple(counts[i] for i in numbers),
                    statistics,
                    analyzer,
                    weight,
                    options["k1"],
                    options["b"],
                ),
                num_passages=0,  # they have been counted
                groups=numbers,
                **scoring,
            )
            for numbers in ranges
        ]
        return self._parts.make_all(tasks, self._workers.pool)

    def _encoder(self, indexed: PassageStore, digests: Sequence[str]) -> IndexPart:
        removed = indexed.span.positions(self._corpus.manifest.removed)
        made_from: dict[str, Any] = {"encoder": self._settings.encoder}
        if needs_sample(self._settings.config):
            made_from |= {"passages": list(digests), "removed": removed.tolist()}

        def write(directory: Path) -> None:
            live = np.setdiff1d(np.arange(len(indexed)), removed) + indexed.first_id
            evenly = np.linspace(0, max(len(live) - 1, 0), min(len(live), _MAX_SAMPLE))
            sample = live[evenly.round().astype(np.int64)].tolist()
            fit_encoder(directory, indexed.titled_texts(sample), self._settings.config)

        return self._parts.make("encoder", write, **made_from)

    def _embeddings(
        self, groups: Sequence[Group], digests: Sequence[str], encoder: IndexPart
    ) -> list[IndexPart]:
        gone = self._corpus.manifest.removed
        config = self._settings.config
        asked = endpoint_of(config, INDEX_ENDPOINT)
        given = None if asked is None else asked.entry
        tasks = []
        for group, digest in zip(groups, digests, strict=True):
            removed = group.span.positions(gone)
            ids = tuple((removed + group.span.first_id).tolist())
            tasks.append(
                self._parts.task(
                    "embeddings",
                    Vectors(self._source(group), encoder, config.index.gpu, ids, given),
                    num_passages=group.span.num_passages,
                    passages=digest,
                    removed=removed.tolist(),
                    encoder=encoder.directory,
                )
            )
        return self._parts.make_all(tasks, self._workers.encoding)

    def _rows(self, span: Span, row_files: list[str], manifest: EncodingManifest) -> IndexPart:
        shape = (span.num_passages, manifest.num_sites, manifest.num_experts)
        rows_format = self._settings.config.index.rows_format
        removed = span.positions(self._corpus.manifest.removed)
        made_from = {
            "row_files": row_files,
            "format": rows_format,
            "first_id": span.first_id,
            "shape": shape,
            "removed": removed.tolist(),
        }
        found = self._parts.found("rows", **made_from)
        if found is not None:
            self._parts.progress.advance(span.num_passages)
            return found

        def write(directory: Path) -> None:
            from polyprag.encoding.reader import (
                Encoding,  # brings torch, which the rest does without
            )

            encoding = Encoding.load(self._run)

            def rows_of(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
                rows = encoding.rows(ids)
                rows[np.isin(ids - span.first_id, removed)] = 0  # as they are there, or will be
                return rows

            write_rows(
                directory,
                rows_of,
                shape=shape,
                first_id=span.first_id,
                rows_format=rows_format,
                chunk=_ROWS_AT_A_TIME,
                progress=self._parts.progress.advance,
                key_of=lambda passage: self._corpus.record(passage).passage.key,
            )

        return self._parts.make("rows", write, **made_from)
