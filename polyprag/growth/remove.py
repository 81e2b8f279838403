"""Passages removed from everything in a run: corpus, teacher, checkpoint, encoding, index and map.

The corpus comes first: from then on no search gives the passages out, whatever the index still
holds. Every step finds out by itself what is left to do, so the same call after a stop does the
rest. The experts were trained with the passages and stay as they are.
"""

from collections.abc import Callable, Collection, Iterable

from polyprag.augment.corpus import counts_of
from polyprag.augment.work.own_pairs import keep_pairs_of, own_pairs
from polyprag.augment.work.replies import keep_replies_of, partitions_with_replies, replies_dir
from polyprag.config import Config
from polyprag.encoding.edit import forget_encoded_rows
from polyprag.retrieval.building.index import build_index
from polyprag.routed.map_file import remove_map
from polyprag.run_dir import CORPUS, INDEX
from polyprag.teaching.teach import forget_taught
from sharding.change.removal import Removed, remove_passages
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.reader import Corpus
from sharding.shown_progress import ShowProgress, show_nothing
from sharding.storage.cache import cache_for
from sharding.storage.files import join, list_names
from sharding.task_pool import TaskPool

_LOCK = ".lock"  # what a directory without an index may hold


def remove_from_run(
    run_dir: str,
    ids: Collection[int],
    *,
    config: Config,
    forget_in_checkpoint: Callable[[str, Iterable[int]], None],
    pool: TaskPool | None = None,
    show: ShowProgress = show_nothing,
) -> Removed:
    """Removes passages; when this returns, no file of the run has a word of them.

    Args:
        run_dir: RUN, a path or URL.
        ids: of the passages; those removed before are removed from whatever still has them.
        config: of the run: `data.cache_*`, and `index` and `model` for the index.
        forget_in_checkpoint: `cluster.checkpoints.edit.forget_checkpoint_rows`.
        pool: who rewrites the shards; this process by default.
        show: shows the steps.

    Raises:
        CorpusError: an id is of no passage (then nothing is changed), or a shard is damaged.
        RunError: checkpoint, encoding or index is damaged.
    """
    corpus_dir = join(run_dir, CORPUS)
    data = config.data
    cache = cache_for(corpus_dir, directory=data.cache_dir, max_gb=data.cache_gb)
    removed = remove_passages(corpus_dir, ids, count=counts_of, cache=cache, pool=pool, show=show)
    _forget_replies(run_dir, removed.manifest, ids)
    forget_taught(run_dir, ids, cache=cache)
    remove_map(run_dir)  # fitted to the passages' questions; `polyprag distill` makes one without
    forget_in_checkpoint(run_dir, ids)
    forget_encoded_rows(run_dir, ids)
    if set(list_names(join(run_dir, INDEX))) - {_LOCK}:
        with show(removed.manifest.num_passages, "indexing", unit="passages") as advance:
            build_index(run_dir, config, advance)
    return removed


def _forget_replies(run_dir: str, manifest: CorpusManifest, ids: Collection[int]) -> None:
    """Deletes what was written about passages beside the corpus's shards, own pairs too."""
    corpus = Corpus(join(run_dir, CORPUS), manifest)
    wanted = set(ids)
    for index in partitions_with_replies(run_dir) | set(own_pairs(run_dir)):
        partition = manifest.partitions[index]
        span = range(partition.first_id, partition.first_id + partition.num_passages)
        if not wanted.isdisjoint(span):
            passages = (each.passage for each in corpus.records(partition))
            live = [each for each in passages if not each.is_removed]
            keep_replies_of(replies_dir(run_dir, index), live)
            keep_pairs_of(run_dir, index, live)
