"""An index whose parts any workers make finds what one that is made at once finds."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyprag.config import Config, IndexConfig
from polyprag.retrieval.building import dense as build_dense
from polyprag.retrieval.building import groups
from polyprag.retrieval.building import segment as build_segment
from polyprag.retrieval.building.index import build_index
from polyprag.retrieval.search import METHODS, Index
from sharding.task_pool import InlinePool, ProcessPool, TaskPool

CONFIG = Config(index=IndexConfig(lsa_dims=16))
QUERIES = ["Which composer was born in Oslo?", "Holm 27", "a sailor of Kyoto", "zzz", "Dvořák"]
MakeRun = Callable[[Path], Path]


@pytest.fixture
def many_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every partition of 12 passages is a group, two make a part of BM25 or of vectors."""
    monkeypatch.setattr(groups, "_MIN_PASSAGES", 1)
    monkeypatch.setattr(groups, "_MAX_PASSAGES", 12)
    monkeypatch.setattr(build_segment, "_BM25_PART", 24)
    monkeypatch.setattr(build_dense, "_PART", 24)


def found(run: Path) -> list[tuple[list[list[int]], np.ndarray]]:
    index = Index.open(run, verify=True)
    results = [index.search(QUERIES, k=6, method=method) for method in METHODS]
    return [(result.ids.tolist(), result.scores) for result in results]


def same(one: list[Any], other: list[Any]) -> None:
    for (ids, scores), (expected_ids, expected) in zip(one, other, strict=True):
        assert ids == expected_ids
        np.testing.assert_allclose(scores, expected, rtol=1e-6)


class CountingPool(InlinePool):
    """Counts what it is asked for."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def map(self, function: Any, tasks: Any, **options: Any) -> Iterator[Any]:
        for task in tasks:
            self.made.append(task.name)
            yield function(task)


class StoppedByTheSecond(InlinePool):
    """Is stopped when a second piece is to be made that isn't there."""

    def map(self, function: Any, tasks: Any, **options: Any) -> Iterator[Any]:
        made = getattr(self, "made", 0)
        for task in tasks:
            if task.location.open().finished(task.directory) is None:
                made = self.made = made + 1
                if made > 1:
                    raise KeyboardInterrupt
            yield function(task)


def parts_of(run: Path) -> dict[str, int]:
    (base,) = build_index(run, CONFIG).segments
    return {name: len(parts) for name, parts in base.parts.items()}


def test_parts_of_groups_give_what_one_group_gives(
    tmp_path: Path,
    indexed_run: tuple[Path, np.ndarray],
    make_corpus_run: MakeRun,
    many_groups: None,
) -> None:
    run = make_corpus_run(tmp_path / "run")
    build_index(run, CONFIG)
    counts = {"passages": 1, "bm25": 2, "encoder": 1, "embeddings": 4, "dense": 2}
    assert parts_of(run) == counts
    same(found(run), found(indexed_run[0]))


@pytest.mark.slow
def test_processes_give_the_same_bytes(
    tmp_path: Path,
    make_corpus_run: MakeRun,
    many_groups: None,
) -> None:
    one, other = make_corpus_run(tmp_path / "one"), make_corpus_run(tmp_path / "other")
    with ProcessPool(2) as pool:
        assert build_index(one, CONFIG, pool=pool) == build_index(other, CONFIG)


@pytest.mark.parametrize("factory", ["IVF2,Flat", "IVF2,PQ4x4fs", "PCA8,IVF2,PQ4x4fs"])
def test_inverted_files_are_joined_over_groups(
    tmp_path: Path, make_corpus_run: MakeRun, many_groups: None, factory: str
) -> None:
    config = replace(CONFIG, index=replace(CONFIG.index, factory=factory))
    run = make_corpus_run(tmp_path / "run")
    (base,) = build_index(run, config).segments
    assert len(base.parts["dense"]) == 1
    everything = Index.open(run).search(QUERIES[:3], k=40, method="dense")
    # Both lists are searched in the end: 40 of 40 are found, scored by the fp16 embeddings.
    exact = make_corpus_run(tmp_path / "exact")
    build_index(exact, CONFIG)
    expected = Index.open(exact).search(QUERIES[:3], k=40, method="dense")
    for hits, known in zip(everything, expected, strict=True):
        scores = dict(zip(known.ids.tolist(), known.scores.tolist(), strict=True))
        for i, score in zip(hits.ids.tolist(), hits.scores.tolist(), strict=True):
            assert score == pytest.approx(scores[i], abs=2e-3)


def test_a_build_that_is_stopped_goes_on_with_the_next_part(
    tmp_path: Path, make_corpus_run: MakeRun, many_groups: None
) -> None:
    run = make_corpus_run(tmp_path / "run")
    pool = CountingPool()
    expected = build_index(make_corpus_run(tmp_path / "whole"), CONFIG, pool=pool)
    stops = 0
    while stops < len(pool.made):  # each call makes one piece that wasn't there, and is stopped
        one_more = StoppedByTheSecond()
        try:
            manifest = build_index(run, CONFIG, pool=one_more)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 8
    assert manifest == expected
    again = CountingPool()
    build_index(run, CONFIG, pool=again)
    assert set(again.made) <= {"embeddings"}  # which are asked for, and found


def test_another_factory_encodes_nothing_again(
    tmp_path: Path, make_corpus_run: MakeRun, many_groups: None
) -> None:
    run = make_corpus_run(tmp_path / "run")
    (before,) = build_index(run, CONFIG).segments
    (after,) = build_index(
        run, replace(CONFIG, index=replace(CONFIG.index, factory="IVF2,Flat"))
    ).segments
    changed = [n for n in before.parts if before.parts[n] != after.parts[n]]
    assert changed == ["dense"]


def test_workers_for_the_vectors_can_be_others(
    tmp_path: Path, make_corpus_run: MakeRun, many_groups: None
) -> None:
    pool, encoding = CountingPool(), CountingPool()
    chosen: TaskPool = encoding
    build_index(make_corpus_run(tmp_path / "run"), CONFIG, pool=pool, encoding_pool=chosen)
    assert encoding.made == ["embeddings"] * 4
    assert "embeddings" not in pool.made
