"""Builds RUN/index: passages, BM25, dense vectors and routing rows, whatever of them is missing.

The index is a base and a segment for each growth since. Their parts lie in directories named for
what they were made from, and the manifest, written last, says which belong to the index. So a build
that is stopped goes on where it was, one that is up to date does nothing, growing leaves what is
there as it is, and a search sees the old index until the new one is whole. Tasks on all cores or
all nodes of a cluster make the parts, most of them of one group of partitions each.
"""

from collections.abc import Callable
from pathlib import Path

from polyprag.config import Config
from polyprag.encoding.manifest import EncodingManifest
from polyprag.errors import CorpusError, FileError, RunError
from polyprag.retrieval.building.progress import BuildProgress
from polyprag.retrieval.building.segment import SegmentBuild, Workers
from polyprag.retrieval.building.segment_plan import num_partitions_in, planned_segments
from polyprag.retrieval.building.settings import Settings
from polyprag.retrieval.dense.faiss_factory import check_factory
from polyprag.retrieval.parts.index_store import IndexStore, index_store_of, only_build
from polyprag.retrieval.parts.manifest import MANIFEST_NAME, IndexManifest
from polyprag.retrieval.parts.span import span_of
from polyprag.run_dir import CORPUS, ENCODING
from sharding.corpus.reader import Corpus
from sharding.storage.cache import cache_for
from sharding.storage.files import exists, join, remove
from sharding.task_pool import InlinePool, TaskPool


def build_index(
    run_dir: str | Path,
    config: Config,
    progress: Callable[[int], None] | None = None,
    *,
    compact: bool = False,
    pool: TaskPool | None = None,
    encoding_pool: TaskPool | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> IndexManifest:
    """Brings RUN/index up to date with the corpus, the encoding and the config.

    Passages that are new get a segment of their own. What is left of passages that were removed
    from the corpus is in no file of the index afterwards.

    Args:
        run_dir: RUN, a path or URL, with a corpus; the rows of its encoding are attached where it
            has one. Partitions that have no rows yet are left out then.
        config: `index`, `model` for index.encoder=base, and `data.cache_dir` and `cache_gb`.
        progress: called with a number of further passages; they add up to those indexed.
        compact: whether all segments are joined into one base.
        pool: makes the parts that can be made in parallel; this process by default.
        encoding_pool: makes the passages' vectors; the same by default.
        say: takes what the user should know of passages that can't be searched or were cut.

    Returns:
        The manifest as saved.

    Raises:
        CorpusError: the corpus is missing or damaged, all its passages have been removed, or none
            of them can be searched.
        RunError: the encoding is damaged or of other passages, or another build is running.
        ConfigError: the encoder or the FAISS factory string can't be used.
    """
    data = config.data
    store = index_store_of(run_dir, cache_dir=data.cache_dir, cache_gb=data.cache_gb)
    corpus_url, encoding_url = join(run_dir, CORPUS), join(run_dir, ENCODING)
    cache = cache_for(corpus_url, directory=data.cache_dir, max_gb=data.cache_gb)
    corpus = Corpus.open(corpus_url, cache=cache)
    encoding = None
    if exists(join(encoding_url, MANIFEST_NAME)):
        encoding = EncodingManifest.load(encoding_url)
    settings = Settings.of(config)
    pool = pool or InlinePool()
    workers = Workers(pool, encoding_pool or pool)
    with only_build(store):
        previous = _previous(store)
        plan = planned_segments(
            previous,
            corpus.manifest,
            num_partitions=num_partitions_in(
                corpus.manifest,
                None if encoding is None else encoding.num_passages,
                encoding=encoding_url,
            ),
            settings_sha256=settings.sha256,
            compact=compact,
        )
        num_passages = sum(span_of(partitions).num_passages for partitions in plan)
        removed = [i for i in corpus.manifest.removed if i < num_passages]
        if len(removed) == num_passages:
            _drop(store)
            raise CorpusError(
                f"{corpus_url}: every passage has been removed, and the index with them; prepare "
                "a corpus in a new RUN"
            )
        live_in_base = span_of(plan[0]).num_passages - len(span_of(plan[0]).positions(removed))
        check_factory(config.index.factory, dims=None, num_vectors=live_in_base)
        advance = BuildProgress(progress, parts=4 if encoding is None else 5)
        build = SegmentBuild(run_dir, store, settings, corpus, encoding, advance, workers, say)
        base = build.segment(plan[0], base=None)
        later = [build.segment(partitions, base=base) for partitions in plan[1:]]
        manifest = IndexManifest(
            num_passages=num_passages,
            settings_sha256=settings.sha256,
            experts_sha256=None if encoding is None else encoding.experts.sha256,
            removed=removed,
            segments=(base, *later),
        )
        if manifest != previous:
            manifest.save(store.url)
        # Readers keep the version that they opened, unless a passage must be gone from all files.
        forgets = previous is not None and manifest.removed != previous.removed
        kept = {part.directory for part in manifest.parts}
        store.remove_others(kept, even_held=forgets)
    return manifest


def _previous(store: IndexStore) -> IndexManifest | None:
    try:
        return IndexManifest.load(store.url)
    except (RunError, FileError):
        return None  # none yet, damaged, or of another version: its sound parts are found by name


def _drop(store: IndexStore) -> None:
    remove(join(store.url, MANIFEST_NAME))
    store.remove_others((), even_held=True)
