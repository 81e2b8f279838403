"""Builds RUN/index: passages, BM25, dense vectors and routing rows, whatever of them is missing.

The parts lie in directories named for what they were made from, and the manifest, written last,
says which belong to the index. So a build that is stopped goes on where it was, one that is up to
date does nothing, and a search sees the old index until the new one is whole.
"""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from polyprag.config import Config
from polyprag.errors import RunError
from polyprag.index.analysis import Analyzer
from polyprag.index.bm25 import write_bm25
from polyprag.index.components import Component, keep_or_make
from polyprag.index.dense import encoder_settings, write_dense
from polyprag.index.manifest import IndexManifest
from polyprag.index.passages import PassageStore, write_passages
from polyprag.index.rows import write_rows
from polyprag.index.run_dir import CORPUS, ENCODING, INDEX, local_run
from sharding.files import sha256_of
from sharding.manifest import MANIFEST_NAME, CorpusManifest
from sharding.partitions import read_partition
from sharding.passages import Passage

_ROWS_AT_A_TIME = 1024
T = TypeVar("T")

_LAYOUT = 1  # of the parts' files; raise it with any change, so that old parts are rebuilt


def build_index(
    run_dir: str | Path, config: Config, progress: Callable[[int], None] | None = None
) -> IndexManifest:
    """Brings RUN/index up to date with the corpus, the encoding and the config.

    Args:
        run_dir: RUN on a local disk, with a corpus; the rows of its encoding are attached where it
            has one.
        config: `index`, and `model` for index.encoder=base.
        progress: called with a number of further passages; they add up to the corpus.

    Returns:
        The manifest as saved.

    Raises:
        CorpusError: the corpus is missing or damaged.
        RunError: the encoding is damaged or of other passages, or another build is running.
        ConfigError: the encoder or the FAISS factory string can't be used.
    """
    run = local_run(run_dir)
    corpus = CorpusManifest.load(run / CORPUS)
    corpus_sha256 = sha256_of(run / CORPUS / MANIFEST_NAME)
    has_encoding = (run / ENCODING / MANIFEST_NAME).is_file()
    (run / INDEX).mkdir(exist_ok=True)
    with _only_build(run / INDEX):
        build = _Build(run, config, corpus, _Progress(progress, parts=4 if has_encoding else 3))
        components = {"passages": build.passages(corpus_sha256)}
        store = PassageStore.open(
            run / INDEX / components["passages"].directory, num_passages=corpus.num_passages
        )
        # Of the passages' contents, which augmenting the corpus doesn't change.
        contents = {name: file.sha256 for name, file in components["passages"].files.items()}
        components["bm25"] = build.bm25(store, contents)
        components["dense"] = build.dense(store, contents)
        encoding_sha256 = None
        if has_encoding:
            encoding_sha256 = sha256_of(run / ENCODING / MANIFEST_NAME)
            components["rows"] = build.rows(encoding_sha256)
        manifest = IndexManifest(corpus.num_passages, corpus_sha256, encoding_sha256, components)
        manifest.save(run / INDEX)
        _remove_others(run / INDEX, components)
    return manifest


class _Build:
    """What the parts' builds have in common."""

    def __init__(
        self, run: Path, config: Config, corpus: CorpusManifest, progress: "_Progress"
    ) -> None:
        self._run, self._config, self._corpus, self._progress = run, config, corpus, progress

    def _component(self, name: str, write: Callable[[Path], None], **made_from: Any) -> Component:
        component, was_there = keep_or_make(
            self._run / INDEX, name, made_from={"layout": _LAYOUT, **made_from}, write=write
        )
        if was_there:
            self._progress.advance(self._corpus.num_passages)
        return component

    def passages(self, corpus_sha256: str) -> Component:
        def read() -> Iterator[Passage]:
            for partition in self._corpus.partitions:
                for record in read_partition(self._run / CORPUS, partition, verify=True):
                    yield record.passage
                self._progress.advance(partition.num_passages)

        def write(directory: Path) -> None:
            write_passages(directory, read(), num_passages=self._corpus.num_passages)

        return self._component("passages", write, corpus=corpus_sha256)

    def bm25(self, store: PassageStore, contents: dict[str, str]) -> Component:
        index = self._config.index
        analyzer = Analyzer.of_language(index.language)
        options = {"k1": index.bm25_k1, "b": index.bm25_b, "title_weight": index.bm25_title_weight}

        def write(directory: Path) -> None:
            texts = self._progress.counted(store.titled_texts())
            write_bm25(directory, texts, analyzer=analyzer, **options)  # type: ignore[arg-type]

        return self._component(
            "bm25", write, passages=contents, analyzer=analyzer.settings, **options
        )

    def dense(self, store: PassageStore, contents: dict[str, str]) -> Component:
        def write(directory: Path) -> None:
            write_dense(directory, store, self._config, progress=self._progress.advance)

        return self._component(
            "dense", write, passages=contents, encoder=encoder_settings(self._config)
        )

    def rows(self, encoding_sha256: str) -> Component:
        from polyprag.encoding import Encoding  # brings torch, which the rest does without

        encoding = Encoding.load(self._run)
        shape = (
            encoding.manifest.num_passages,
            encoding.manifest.num_sites,
            encoding.manifest.num_experts,
        )
        if shape[0] != self._corpus.num_passages:
            raise RunError(
                f"{self._run / ENCODING} holds the rows of {shape[0]} passages and "
                f"{self._run / CORPUS} has {self._corpus.num_passages}: run `polyprag encode RUN` "
                "again, or take away the encoding"
            )

        def write(directory: Path) -> None:
            write_rows(
                directory,
                encoding.rows,
                shape=shape,
                chunk=_ROWS_AT_A_TIME,
                progress=self._progress.advance,
            )

        return self._component("rows", write, encoding=encoding_sha256)


class _Progress:
    """Passages done by all parts together, reported as so many whole passages."""

    def __init__(self, report: Callable[[int], None] | None, *, parts: int) -> None:
        self._report, self._parts = report, parts
        self._done = 0

    def advance(self, num_passages: int) -> None:
        before = self._done // self._parts
        self._done += num_passages
        whole = self._done // self._parts - before
        if self._report is not None and whole:
            self._report(whole)

    def counted(self, items: Iterator[T]) -> Iterator[T]:
        for item in items:
            yield item
            self.advance(1)


@contextmanager
def _only_build(index_dir: Path) -> Iterator[None]:
    """Keeps two builds from removing each other's parts; the lock goes with the process."""
    with open(index_dir / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                f"{index_dir}: another `polyprag index` is building it; wait until it has ended"
            ) from error
        yield


def _remove_others(index_dir: Path, components: dict[str, Component]) -> None:
    """Deletes parts of earlier indexes and of builds that were killed."""
    kept = {component.directory for component in components.values()}
    for path in index_dir.iterdir():
        if path.is_dir() and path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)
