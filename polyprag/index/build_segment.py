"""Builds the parts of one segment of an index that aren't there yet."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polyprag.config import Config
from polyprag.encoding_manifest import EncodingManifest
from polyprag.index.analysis import Analyzer
from polyprag.index.bm25 import write_bm25
from polyprag.index.build_progress import BuildProgress
from polyprag.index.components import Component, keep_or_make
from polyprag.index.dense import encoder_settings, write_dense
from polyprag.index.manifest import Segment
from polyprag.index.passages import PassageStore, write_passages
from polyprag.index.place import IndexPlace
from polyprag.index.rows import write_rows
from polyprag.index.segments import span_of
from polyprag.index.standing import row_parts
from polyprag.index.term_counts import write_term_counts
from sharding.corpus import Corpus
from sharding.manifest import Partition

_ROWS_AT_A_TIME = 1024

_LAYOUT = 2  # of the parts' files; raise it with any change, so that old parts are rebuilt


@dataclass(frozen=True)
class Settings:
    """What decides the contents of a base.

    Attributes:
        config: all settings.
        analyzer: text to terms.
        bm25: of BM25, as JSON values.
        dense: of the dense index, as JSON values.
    """

    config: Config
    analyzer: Analyzer
    bm25: dict[str, Any]
    dense: dict[str, Any]

    @classmethod
    def of(cls, config: Config) -> "Settings":
        """Those of a config."""
        index = config.index
        bm25 = {"k1": index.bm25_k1, "b": index.bm25_b, "title_weight": index.bm25_title_weight}
        analyzer = Analyzer.of_language(index.language)
        return cls(config, analyzer, bm25, encoder_settings(config))

    @property
    def sha256(self) -> str:
        """Another one for other contents."""
        values = [_LAYOUT, self.analyzer.settings, self.bm25, self.dense]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class SegmentBuild:
    """What the builds of an index's segments have in common."""

    def __init__(
        self,
        run_dir: str | Path,
        place: IndexPlace,
        settings: Settings,
        corpus: Corpus,
        encoding: EncodingManifest | None,
        progress: BuildProgress,
    ) -> None:
        """Builds nothing yet."""
        self._run, self._place, self._settings = run_dir, place, settings
        self._corpus, self._encoding, self._progress = corpus, encoding, progress

    def segment(self, partitions: Sequence[Partition], *, base: Segment | None) -> Segment:
        """The segment over consecutive partitions, with its parts in place.

        Args:
            partitions: of the corpus.
            base: of the index; None builds the base itself.
        """
        span = span_of(partitions)
        passages = self._passages(partitions)
        store = PassageStore.open(
            self._place.local(passages), num_passages=span.num_passages, first_id=span.first_id
        )
        # Of the passages' contents, which augmenting the corpus doesn't change.
        contents = {name: file.sha256 for name, file in passages.files.items()}
        components = {
            "passages": passages,
            "bm25": self._bm25(store, contents, is_base=base is None),
            "dense": self._dense(store, contents, base=base),
        }
        row_files = []
        if self._encoding is not None:
            row_files = [part.sha256 for part in row_parts(self._encoding, span)]
            components["rows"] = self._rows(store, row_files, self._encoding)
        shards = [partition.sha256 for partition in partitions]
        return Segment(span.first_id, span.num_passages, shards, row_files, components)

    def _component(
        self, name: str, num_passages: int, write: Callable[[Path], None], **made_from: Any
    ) -> Component:
        component, was_there = keep_or_make(
            self._place, name, made_from={"layout": _LAYOUT, **made_from}, write=write
        )
        if was_there:
            self._progress.advance(num_passages)
        return component

    def _passages(self, partitions: Sequence[Partition]) -> Component:
        span = span_of(partitions)

        def write(directory: Path) -> None:
            records = self._progress.counted(self._corpus.iterate(partitions))
            passages = (record.passage for record in records)
            write_passages(
                directory, passages, num_passages=span.num_passages, first_id=span.first_id
            )

        shards = [partition.sha256 for partition in partitions]
        return self._component("passages", span.num_passages, write, shards=shards)

    def _bm25(self, store: PassageStore, contents: dict[str, str], *, is_base: bool) -> Component:
        analyzer, options = self._settings.analyzer, self._settings.bm25

        def write(directory: Path) -> None:
            texts = self._progress.counted(store.titled_texts())
            if is_base:
                write_bm25(directory, texts, analyzer=analyzer, **options)
            else:  # scored by the base's statistics and options, and made without them
                weight = options["title_weight"]
                write_term_counts(directory, texts, analyzer=analyzer, title_weight=weight)

        return self._component(
            "bm25",
            len(store),
            write,
            passages=contents,
            is_base=is_base,
            analyzer=analyzer.settings,
            **options,
        )

    def _dense(
        self, store: PassageStore, contents: dict[str, str], *, base: Segment | None
    ) -> Component:
        span = store.span
        encoder = None if base is None else base.components["dense"]
        removed = span.positions(self._corpus.manifest.removed)

        def write(directory: Path) -> None:
            write_dense(
                directory,
                store,
                self._settings.config,
                base=None if encoder is None else self._place.local(encoder),
                removed=removed,
                progress=self._progress.advance,
            )

        return self._component(
            "dense",
            len(store),
            write,
            passages=contents,
            removed=removed.tolist(),
            base=None if encoder is None else encoder.directory,
            encoder=self._settings.dense,
        )

    def _rows(
        self, store: PassageStore, row_files: list[str], manifest: EncodingManifest
    ) -> Component:
        span = store.span
        shape = (span.num_passages, manifest.num_sites, manifest.num_experts)
        rows_format = self._settings.config.index.rows_format
        removed = span.positions(self._corpus.manifest.removed)

        def write(directory: Path) -> None:
            from polyprag.encoding import Encoding  # brings torch, which the rest does without

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
                progress=self._progress.advance,
            )

        return self._component(
            "rows",
            span.num_passages,
            write,
            row_files=row_files,
            format=rows_format,
            first_id=span.first_id,
            shape=shape,
            removed=removed.tolist(),
        )
