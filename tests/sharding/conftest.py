"""Corpora to test with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.partitions import write_partition
from sharding.corpus.passages import Passage, Record


@pytest.fixture(scope="session")
def make_corpus() -> Callable[..., CorpusManifest]:
    """Writes a corpus whose partition i has `sizes[i]` passages."""

    def make(corpus_dir: Path, *, sizes: list[int]) -> CorpusManifest:
        partitions = []
        first_id = 0
        for index, size in enumerate(sizes):
            records = [
                Record(Passage(i, f"key-{i}", f"Title {i}", f"Text {i}."))
                for i in range(first_id, first_id + size)
            ]
            partitions.append(
                write_partition(
                    corpus_dir, index, records=records, augmented=True, counts={"passage": size}
                )
            )
            first_id += size
        manifest = CorpusManifest(
            source=["made.jsonl"],
            num_passages=first_id,
            partition_size=max(sizes),
            partitions=tuple(partitions),
        )
        manifest.save(corpus_dir)
        return manifest

    return make
