"""A corpus as a pipeline of the webdataset package, for training code that is built on it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.reader import Corpus
from sharding.corpus.tar import member_name

if TYPE_CHECKING:
    from webdataset import DataPipeline

    from sharding.storage.cache import LocalCache


def open_pipeline(
    corpus_url: str | Path,
    *,
    shuffle: int = 0,
    seed: int = 0,
    cache: "LocalCache | None" = None,
) -> "DataPipeline":
    """Returns a pipeline that gives the passages of a corpus, shard by shard.

    Shards go to nodes and to a DataLoader's workers as webdataset shares them out: by turns, so
    that some may have a shard more than others, and none where there are fewer shards. Only
    polyprag's own stream (`sharding.stream`) resumes exactly, and gives the same batches on any
    number of workers; this one begins each time anew.

    Shards are read by polyprag's own reader, which checks each against the manifest.

    Args:
        corpus_url: a corpus directory, or any URL that polyprag reads.
        shuffle: passages in the buffer that they are drawn from, after the shards were shuffled; 0
            gives them by their ids.
        seed: of both, with the epoch: how often this pipeline was iterated in its process.
        cache: where shards of a remote corpus are kept on the local disk.

    Returns:
        Of each passage that isn't removed a dict with `id`, `key`, `title`, `text`, `augmentation`
        (None, or a dict with `rewrites` and `qas`), and webdataset's `__key__` and `__url__`.

    Raises:
        CorpusError: there is no manifest, or it is damaged; while iterating, a shard is missing or
            not what the manifest says.
    """
    from webdataset import DataPipeline, detshuffle, split_by_node, split_by_worker

    source = _Source(str(corpus_url), CorpusManifest.load(corpus_url), cache)
    num_shards = len(source.manifest.partitions)
    return DataPipeline(
        source.shards,
        detshuffle(num_shards, initial=num_shards, seed=seed) if shuffle else None,
        split_by_node,
        split_by_worker,
        source.samples,
        detshuffle(shuffle, initial=shuffle, seed=seed) if shuffle else None,
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """The pipeline's stages that know the corpus; copied to a DataLoader's workers."""

    directory: str
    manifest: CorpusManifest
    cache: "LocalCache | None"

    def shards(self) -> Iterator[int]:
        """Yields the partitions' numbers."""
        return iter(range(len(self.manifest.partitions)))

    def samples(self, shards: Iterable[int]) -> Iterator[dict[str, Any]]:
        """Yields the passages of partitions."""
        corpus = Corpus(self.directory, self.manifest, cache=self.cache)
        for partition in map(self.manifest.partitions.__getitem__, shards):
            removed = set(self.manifest.removed_in(partition))
            for record in corpus.records(partition):
                passage = record.passage
                if passage.is_removed or passage.id in removed:
                    continue
                yield {
                    "__key__": member_name(passage.id).removesuffix(".json"),
                    "__url__": corpus.url(partition),
                    **msgspec.to_builtins(passage),
                    "augmentation": msgspec.to_builtins(record.augmentation),
                }
