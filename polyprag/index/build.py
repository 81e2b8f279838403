"""Builds RUN/index: passages, BM25, dense vectors and routing rows, whatever of them is missing.

The parts lie in directories named for what they were made from, and the manifest, written last,
says which belong to the index. So a build that is stopped goes on where it was, one that is up to
date does nothing, and a search sees the old index until the new one is whole.
"""

from collections.abc import Callable, Iterator
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
from polyprag.index.place import IndexPlace, only_build, place_of
from polyprag.index.rows import write_rows
from polyprag.index.run_dir import CORPUS, ENCODING
from sharding.cache import cache_for
from sharding.corpus import Corpus
from sharding.files import exists, join, sha256_of
from sharding.manifest import MANIFEST_NAME

_ROWS_AT_A_TIME = 1024
T = TypeVar("T")

_LAYOUT = 1  # of the parts' files; raise it with any change, so that old parts are rebuilt


def build_index(
    run_dir: str | Path, config: Config, progress: Callable[[int], None] | None = None
) -> IndexManifest:
    """Brings RUN/index up to date with the corpus, the encoding and the config.

    Args:
        run_dir: RUN, a path or URL, with a corpus; the rows of its encoding are attached where it
            has one.
        config: `index`, `model` for index.encoder=base, and `data.cache_dir` and `cache_gb`.
        progress: called with a number of further passages; they add up to the corpus.

    Returns:
        The manifest as saved.

    Raises:
        CorpusError: the corpus is missing or damaged.
        RunError: the encoding is damaged or of other passages, or another build is running.
        ConfigError: the encoder or the FAISS factory string can't be used.
    """
    data = config.data
    place = place_of(run_dir, cache_dir=data.cache_dir, cache_gb=data.cache_gb)
    corpus_url, encoding_url = join(run_dir, CORPUS), join(run_dir, ENCODING)
    cache = cache_for(corpus_url, directory=data.cache_dir, max_gb=data.cache_gb)
    corpus = Corpus.open(corpus_url, cache=cache)
    num_passages = corpus.manifest.num_passages
    corpus_sha256 = sha256_of(join(corpus_url, MANIFEST_NAME))
    has_encoding = exists(join(encoding_url, MANIFEST_NAME))
    with only_build(place):
        advance = _Progress(progress, parts=4 if has_encoding else 3)
        build = _Build(run_dir, place, config, corpus, advance)
        components = {"passages": build.passages(corpus_sha256)}
        store = PassageStore.open(place.local(components["passages"]), num_passages=num_passages)
        # Of the passages' contents, which augmenting the corpus doesn't change.
        contents = {name: file.sha256 for name, file in components["passages"].files.items()}
        components["bm25"] = build.bm25(store, contents)
        components["dense"] = build.dense(store, contents)
        encoding_sha256 = None
        if has_encoding:
            encoding_sha256 = sha256_of(join(encoding_url, MANIFEST_NAME))
            components["rows"] = build.rows(encoding_sha256)
        manifest = IndexManifest(num_passages, corpus_sha256, encoding_sha256, components)
        manifest.save(place.url)
        place.remove_others(components)
    return manifest


class _Build:
    """What the parts' builds have in common."""

    def __init__(
        self,
        run_dir: str | Path,
        place: IndexPlace,
        config: Config,
        corpus: Corpus,
        progress: "_Progress",
    ) -> None:
        self._run, self._place, self._config = run_dir, place, config
        self._corpus, self._progress = corpus, progress
        self._num_passages = corpus.manifest.num_passages

    def _component(self, name: str, write: Callable[[Path], None], **made_from: Any) -> Component:
        component, was_there = keep_or_make(
            self._place, name, made_from={"layout": _LAYOUT, **made_from}, write=write
        )
        if was_there:
            self._progress.advance(self._num_passages)
        return component

    def passages(self, corpus_sha256: str) -> Component:
        def write(directory: Path) -> None:
            records = self._progress.counted(self._corpus.iterate())
            passages = (record.passage for record in records)
            write_passages(directory, passages, num_passages=self._num_passages)

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
        if shape[0] != self._num_passages:
            raise RunError(
                f"{join(self._run, ENCODING)} holds the rows of {shape[0]} passages and "
                f"{self._corpus.directory} has {self._num_passages}: run `polyprag encode RUN` "
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
