"""Where new rows start, against the index's own search and rows, one passage at a time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polyprag.config import AddConfig, Config
from polyprag.encoding.reader import Encoding
from polyprag.errors import RunError
from polyprag.growth.row_start import neighbour_rows, start_rows
from polyprag.retrieval.search import Index
from sharding.corpus.passages import Passage, tombstone
from sharding.corpus.reader import Corpus
from sharding.rows.part import init_rows


def test_neighbours_are_the_nearest_older_passages(encoded_run: tuple[Path, Config]) -> None:
    run, _ = encoded_run
    index = Index.open(run)
    rows = Encoding.load(run).rows(np.arange(10))
    shape = rows.shape[1:]
    new = [index.passage(8), Passage(9, "x", "Boris", "Boris Smith was born in Lima")]
    got = neighbour_rows(index, new, shape=shape, k=3, below=6)
    for passage, row in zip(new, got, strict=True):
        hits = index.search([f"{passage.title} {passage.text}"], k=10)[0].ids.tolist()
        nearest = [i for i in hits if i < 6][:3]
        assert len(nearest) == 3
        assert np.abs(row - rows[nearest].mean(axis=0)).max() < 2e-3  # the index keeps fp16
    assert neighbour_rows(index, new[1:], shape=shape, k=1, below=6)[0] == pytest.approx(
        rows[1], abs=2e-3
    )


def test_passages_without_neighbours_and_removed_ones_start_at_zero(
    encoded_run: tuple[Path, Config],
) -> None:
    run, _ = encoded_run
    strange = Passage(10, "y", "Qqxz", "Zzyzx vrrm")
    removed = tombstone(Passage(11, "z", "Boris", "Boris Smith")).passage
    start = neighbour_rows(Index.open(run), [strange, removed], shape=(3, 4), k=3, below=10)
    assert start.shape == (2, 3, 4)
    assert not start.any()


def test_the_start_follows_the_setting(encoded_run: tuple[Path, Config]) -> None:
    run, config = encoded_run
    index, partition = Index.open(run), Corpus.open(run / "corpus").manifest.partitions[1]
    passages = [index.passage(i) for i in range(4, 8)]
    passages[2] = tombstone(passages[2]).passage
    sites, experts = shape = Encoding.load(run).rows([0]).shape[1:]
    starts = {
        init: start_rows(
            partition,
            passages,
            replace(config, add=AddConfig(init=init, num_neighbours=2)),
            shape=shape,
            index=index,
        )
        for init in ("zeros", "neighbours", "random")
    }
    codes = init_rows(partition, sites=sites, experts=experts, std=1.0, seed=config.train.seed).rows
    assert not starts["zeros"].any()
    assert (
        starts["neighbours"] == neighbour_rows(index, passages, shape=shape, k=2, below=4)
    ).all()
    assert (starts["random"][[0, 1, 3]] == codes[[0, 1, 3]]).all()
    for start in starts.values():
        assert start.shape == (4, *shape)
        assert not start[2].any()
    with pytest.raises(RunError, match="polyprag index RUN"):
        start_rows(
            partition,
            passages,
            replace(config, add=AddConfig(init="neighbours")),
            shape=shape,
        )
