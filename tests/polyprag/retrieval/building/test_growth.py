"""Indexes whose corpus grows and loses passages, against ones that are built from scratch."""

import gc
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyprag.augment.corpus import counts_of
from polyprag.config import Config, IndexConfig
from polyprag.errors import CorpusError, RunError
from polyprag.retrieval.building.index import build_index
from polyprag.retrieval.parts.index_store import LocalIndexStore
from polyprag.retrieval.parts.manifest import IndexManifest
from polyprag.retrieval.search import METHODS, Index
from sharding.change.growth import append_passages
from sharding.change.removal import remove_passages
from sharding.corpus.manifest import CorpusManifest
from sharding.ingest.prepare import prepare
from sharding.storage.files import sha256_of

CONFIG = Config(index=IndexConfig(lsa_dims=8))
TRADES = ("painter", "sailor", "chemist")
AddEncoding = Callable[..., np.ndarray]


def own_word(i: int) -> str:
    """A word that only one passage has, and that stemming leaves as it is."""
    return f"zq{i:04d}x"


@dataclass
class GrowingRun:
    """A run whose passages each have a word of their own in key, title and text."""

    run: Path
    add_encoding: AddEncoding
    num_passages: int = 0
    removed: set[int] = field(default_factory=set)

    def grow(self, count: int) -> None:
        """Further passages, in partitions of four, with rows."""
        lines = [
            json.dumps(
                {
                    "id": f"key{own_word(i)}",
                    "title": f"Title{own_word(i)}",
                    "text": f"{own_word(i)} is a {TRADES[i % 3]} of the north, says {own_word(i)}",
                }
            )
            for i in range(self.num_passages, self.num_passages + count)
        ]
        source = self.run.parent / f"{self.run.name}-{self.num_passages}.jsonl"
        source.write_text("\n".join(lines) + "\n")
        if self.num_passages == 0:
            prepare([str(source)], self.run / "corpus", partition_size=4)
        else:
            append_passages(self.run / "corpus", [str(source)])
        self.num_passages += count
        self.add_encoding(self.run)

    def remove(self, *ids: int, encoding_too: bool = True) -> None:
        remove_passages(self.run / "corpus", ids, count=counts_of)
        self.removed.update(ids)
        if encoding_too:
            self.add_encoding(self.run)

    @property
    def live(self) -> list[int]:
        return [i for i in range(self.num_passages) if i not in self.removed]


@pytest.fixture
def grown(tmp_path: Path, add_encoding: AddEncoding) -> GrowingRun:
    """Ten passages, indexed."""
    run = GrowingRun(tmp_path / "run", add_encoding)
    run.grow(10)
    build_index(run.run, CONFIG)
    return run


def directories(run: Path) -> dict[str, tuple[int, float]]:
    """The index's parts, with what changes when one is written again."""
    return {
        str(path.relative_to(run)): (path.stat().st_ino, path.stat().st_mtime)
        for path in (run / "index").rglob("*")
        if path.is_file() and path.name not in (".lock", "manifest.json")
    }


def check_searches(run: GrowingRun, index: Index) -> None:
    """Every live passage is found by its own word, and nothing that was removed by any."""
    for method in METHODS:
        hits = index.search(["a painter sailor chemist of the north"], k=100, method=method)[0]
        known = [i for i in run.live if i < index.num_passages]
        assert sorted(hits.ids.tolist()) == known
    queries = [own_word(i) for i in range(run.num_passages)]
    for i, hits in enumerate(index.search(queries, k=5)):
        assert hits.ids.tolist() == ([] if i in run.removed else [i])
    for i in run.removed:
        with pytest.raises(IndexError):
            index.passage(i)
    rows = index.rows_of(sorted(run.removed))
    assert rows is not None and not rows.any()


def check_equals_scratch(run: GrowingRun) -> None:
    """The index finds what one that is built from scratch finds, and keeps as little."""
    other = run.run.with_name(run.run.name + "-scratch")
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(run.run, other, ignore=shutil.ignore_patterns("index"))
    manifest = build_index(other, CONFIG)
    assert len(manifest.segments) == 1
    index, scratch = Index.open(run.run, verify=True), Index.open(other)
    check_searches(run, index)
    check_searches(run, scratch)
    everything = range(run.num_passages)
    np.testing.assert_array_equal(index.rows_of(everything), scratch.rows_of(everything))
    passages = [index.passage(i) for i in run.live]
    assert passages == [scratch.passage(i) for i in run.live]
    assert [index.find(passage.title, passage.text) for passage in passages] == run.live
    texts = [f"{passage.title}\n{passage.text}" for passage in passages]
    for hits in index.search(texts, k=100, method="dense"):
        assert sorted(hits.ids.tolist()) == run.live
    data = b"".join(path.read_bytes() for path in (run.run / "index").rglob("*") if path.is_file())
    for i in run.removed:
        assert own_word(i).encode() not in data
    assert all(own_word(i).encode() in data for i in run.live)
    shutil.rmtree(other)


def test_growing_adds_a_segment_and_rewrites_nothing(grown: GrowingRun) -> None:
    before = directories(grown.run)
    for count in (3, 6):
        grown.grow(count)
        index = Index.open(grown.run)  # of what was there before
        assert index.num_passages == grown.num_passages - count
        assert index.freshness.num_newer == count
        assert "polyprag index" in str(index.freshness.note)
        assert index.search([own_word(grown.num_passages - 1)], k=1)[0].ids.tolist() == []
        build_index(grown.run, CONFIG)
        assert before.items() <= directories(grown.run).items()
        before = directories(grown.run)
    manifest = IndexManifest.load(grown.run / "index")
    assert [segment.num_passages for segment in manifest.segments] == [10, 3, 6]
    assert Index.open(grown.run).freshness.note is None
    check_equals_scratch(grown)


def test_up_to_date_segments_are_left_alone(grown: GrowingRun) -> None:
    grown.grow(3)
    build_index(grown.run, CONFIG)
    before = directories(grown.run)
    manifest = grown.run / "index" / "manifest.json"
    written = manifest.stat().st_mtime_ns
    steps: list[int] = []
    build_index(grown.run, CONFIG, steps.append)
    assert sum(steps) == 13
    assert directories(grown.run) == before
    assert manifest.stat().st_mtime_ns == written


def test_compacting_gives_what_a_first_build_gives(grown: GrowingRun, tmp_path: Path) -> None:
    grown.grow(3)
    build_index(grown.run, CONFIG)
    compacted = build_index(grown.run, CONFIG, compact=True)
    shutil.rmtree(grown.run / "index")
    assert build_index(grown.run, CONFIG) == compacted
    assert len(compacted.segments) == 1


def test_new_rows_rebuild_their_own_segment_alone(grown: GrowingRun) -> None:
    grown.grow(3)
    first = build_index(grown.run, CONFIG)
    index = Index.open(grown.run)
    file = grown.run / "encoding" / "rows" / "part-00003.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    manifest = grown.run / "encoding" / "manifest.json"
    values = json.loads(manifest.read_text())
    values["parts"][3]["sha256"] = sha256_of(file)
    manifest.write_text(json.dumps(values))
    with pytest.raises(RunError, match="encoding has changed since"):
        Index.open(grown.run)
    second = build_index(grown.run, CONFIG)
    base, later = (
        [name for name in one.parts if one.parts[name] != other.parts[name]]
        for one, other in zip(first.segments, second.segments, strict=True)
    )
    assert (base, later) == ([], ["rows"])
    changed = np.flatnonzero(
        np.any(index.rows_of(range(13)) != Index.open(grown.run).rows_of(range(13)), axis=(1, 2))
    )
    assert changed.tolist() == [12]


@pytest.mark.parametrize("setting", [{"bm25_k1": 1.5}, {"lsa_dims": 6}, {"language": "german"}])
def test_other_settings_make_one_base(grown: GrowingRun, setting: dict[str, Any]) -> None:
    grown.grow(3)
    build_index(grown.run, CONFIG)
    other = Config(index=IndexConfig(**{"lsa_dims": 8} | setting))
    assert len(build_index(grown.run, other).segments) == 1


def test_another_format_of_rows_rebuilds_the_rows_alone(grown: GrowingRun) -> None:
    grown.grow(3)
    first = build_index(grown.run, CONFIG)
    exact = Index.open(grown.run).rows_of(range(13))
    second = build_index(grown.run, Config(index=IndexConfig(lsa_dims=8, rows_format="int8")))
    for one, other in zip(first.segments, second.segments, strict=True):
        assert [n for n in one.parts if one.parts[n] != other.parts[n]] == ["rows"]
    rows = Index.open(grown.run).rows_of(range(13))
    assert exact is not None and rows is not None
    largest = np.abs(exact).max(axis=(1, 2), keepdims=True)
    assert np.all(np.abs(rows - exact) <= largest * 0.0045)  # 1/254, and fp16's own


def test_partitions_without_rows_wait_for_them(grown: GrowingRun) -> None:
    encoding = grown.run.parent / "encoding-before"
    shutil.copytree(grown.run / "encoding", encoding)
    grown.grow(3)
    shutil.rmtree(grown.run / "encoding")
    shutil.copytree(encoding, grown.run / "encoding")
    manifest = build_index(grown.run, CONFIG)
    assert manifest.num_passages == 10
    assert Index.open(grown.run).freshness.num_newer == 3


def test_an_index_opens_after_a_removal_and_hides_what_was_removed(grown: GrowingRun) -> None:
    grown.grow(3)
    build_index(grown.run, CONFIG)
    texts = {i: Index.open(grown.run).passage(i) for i in (2, 11)}
    grown.remove(2, 11, encoding_too=False)
    for encoding_too in (False, True):  # a takedown changes the corpus first
        if encoding_too:
            grown.add_encoding(grown.run)
        index = Index.open(grown.run)
        assert index.removed == {2, 11}
        assert "2 removed" in str(index.freshness.note)
        assert all(index.find(p.title, p.text) is None for p in texts.values())
        check_searches(grown, index)
    build_index(grown.run, CONFIG)
    assert Index.open(grown.run).freshness.note is None
    check_equals_scratch(grown)


def test_the_row_of_a_removed_passage_is_zero_even_where_the_encoding_still_has_it(
    grown: GrowingRun,
) -> None:
    grown.remove(2, encoding_too=False)
    manifest = build_index(grown.run, CONFIG)
    directory = grown.run / "index" / manifest.segments[0].parts["rows"][0].directory
    rows_NSK = np.load(directory / "rows.npy")
    assert [i for i in range(10) if not rows_NSK[i].any()] == [2]


def test_an_index_of_other_experts_is_refused(grown: GrowingRun) -> None:
    manifest = grown.run / "encoding" / "manifest.json"
    values = json.loads(manifest.read_text())
    values["experts"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(values))
    with pytest.raises(RunError, match="encoding has changed since"):
        Index.open(grown.run)


def test_a_removal_from_a_later_segment_rebuilds_that_one_alone(grown: GrowingRun) -> None:
    for _ in range(2):
        grown.grow(3)
        build_index(grown.run, CONFIG)
    before = IndexManifest.load(grown.run / "index")
    grown.remove(11)
    after = build_index(grown.run, CONFIG)
    same = [one == other for one, other in zip(before.segments, after.segments, strict=True)]
    assert same == [True, False, True]
    check_equals_scratch(grown)


def test_a_removal_from_the_base_rebuilds_it_over_everything(grown: GrowingRun) -> None:
    grown.grow(3)
    build_index(grown.run, CONFIG)
    grown.remove(4)
    assert len(build_index(grown.run, CONFIG).segments) == 1
    check_equals_scratch(grown)


def test_a_segment_can_lose_all_its_passages(grown: GrowingRun) -> None:
    grown.grow(3)
    build_index(grown.run, CONFIG)
    grown.remove(10, 11, 12)
    build_index(grown.run, CONFIG)
    check_equals_scratch(grown)


def test_removing_everything_deletes_the_index(grown: GrowingRun) -> None:
    grown.remove(*range(10))
    with pytest.raises(CorpusError, match="every passage has been removed"):
        build_index(grown.run, CONFIG)
    assert [path.name for path in (grown.run / "index").iterdir()] == [".lock"]


def test_a_corpus_that_shrank_or_was_prepared_anew_is_refused(grown: GrowingRun) -> None:
    shutil.rmtree(grown.run / "corpus")
    grown.num_passages = 0
    shutil.rmtree(grown.run / "encoding")
    grown.grow(6)
    with pytest.raises(RunError, match="corpus has changed since"):
        Index.open(grown.run)
    assert build_index(grown.run, CONFIG).num_passages == 6
    check_equals_scratch(grown)


def test_an_index_that_is_replaced_while_it_is_opened_opens(
    grown: GrowingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown.grow(3)
    build_index(grown.run, CONFIG)
    local, first = LocalIndexStore.local, [True]

    def replacing(*args: Any, **kwargs: Any) -> Path:
        if first.pop() if first else False:
            build_index(grown.run, CONFIG, compact=True)
        return local(*args, **kwargs)

    monkeypatch.setattr(LocalIndexStore, "local", replacing)
    check_searches(grown, Index.open(grown.run))
    assert len(IndexManifest.load(grown.run / "index").segments) == 1


class Crash(BaseException):
    """Stands for a kill."""


@pytest.fixture
def crash_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set after how many writes a build is killed; each is counted before and after."""
    left = [0]

    def step() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Crash

    def crashing(method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            step()
            result = method(*args, **kwargs)
            step()
            return result

        return wrapped

    for cls, name in (
        (LocalIndexStore, "keep"),
        (LocalIndexStore, "remove_others"),
        (IndexManifest, "save"),
    ):
        monkeypatch.setattr(cls, name, crashing(getattr(cls, name)))

    def at(count: int) -> None:
        left[0] = count

    return at


@pytest.mark.slow
@pytest.mark.parametrize("change", ["grow", "remove from base", "remove from later", "compact"])
def test_a_build_that_is_killed_anywhere_leaves_a_usable_index_and_is_finished_by_the_next(
    grown: GrowingRun, crash_at: Callable[[int], None], change: str
) -> None:
    grown.grow(3)
    build_index(grown.run, CONFIG)
    if change == "grow":
        grown.grow(5)
    elif change.startswith("remove"):
        grown.remove(3 if "base" in change else 11)
    shutil.copytree(grown.run, grown.run.with_name("before"))
    expected = build_index(grown.run, CONFIG, compact=change == "compact")
    for count in itertools.count(1):
        shutil.rmtree(grown.run)
        shutil.copytree(grown.run.with_name("before"), grown.run)
        crash_at(count)
        try:
            build_index(grown.run, CONFIG, compact=change == "compact")
        except Crash:
            crash_at(0)
        else:
            crash_at(0)
            assert count > 8
            break
        index = Index.open(grown.run, verify=True)
        visible = set(range(index.num_passages)) - grown.removed
        found = index.search(["painter sailor chemist"], k=99)[0].ids
        assert set(found.tolist()) == visible
        del index  # which holds its parts
        gc.collect()
        assert build_index(grown.run, CONFIG, compact=change == "compact") == expected
        kept = {part.directory for part in expected.parts}
        assert {path.name for path in (grown.run / "index").iterdir()} == {
            *kept,
            ".lock",
            "manifest.json",
        }
    check_equals_scratch(grown)


@pytest.mark.slow
def test_a_build_that_is_killed_for_good_is_finished_by_the_next(grown: GrowingRun) -> None:
    """Not even its cleaning up runs."""
    grown.remove(3)
    script = (
        "import os, sys; from polyprag.config import Config, IndexConfig\n"
        "from polyprag.retrieval.building import work\n"
        "from polyprag.retrieval.building.index import build_index\n"
        "work.write_embeddings = lambda *_, **__: os._exit(9)\n"
        "build_index(sys.argv[1], Config(index=IndexConfig(lsa_dims=8)))\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(grown.run)])
    assert killed.returncode == 9
    assert list((grown.run / "index").glob(".embeddings-*.tmp"))
    check_searches(grown, Index.open(grown.run))
    build_index(grown.run, CONFIG)
    assert not list((grown.run / "index").glob(".*.tmp"))
    check_equals_scratch(grown)


steps = st.one_of(
    st.tuples(st.just("grow"), st.integers(1, 6)),
    st.tuples(st.just("remove"), st.lists(st.integers(0, 1000), min_size=1, max_size=3)),
    st.tuples(st.just("compact"), st.just(0)),
)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Fresh directories, one for each example."""

    def fresh() -> Iterator[Path]:
        for number in itertools.count():
            yield tmp_path_factory.mktemp(f"example-{number}")

    return fresh()  # type: ignore[return-value]


@pytest.mark.slow
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.lists(st.lists(steps, min_size=1, max_size=2), min_size=1, max_size=4))
def test_any_life_of_an_index_ends_in_what_a_build_from_scratch_gives(
    numbered: Iterator[Path],
    add_encoding: AddEncoding,
    changes: list[list[tuple[str, Any]]],
) -> None:
    run = GrowingRun(next(numbered) / "run", add_encoding)
    run.grow(5)
    build_index(run.run, CONFIG)
    for between_builds in changes:
        for what, how in between_builds:
            if what == "grow":
                run.grow(how)
            elif what == "remove":
                chosen = {run.live[i % len(run.live)] for i in how}
                if len(run.live) - len(chosen) >= 2:
                    run.remove(*chosen)
        build_index(run.run, CONFIG, compact=between_builds[-1][0] == "compact")
        check_equals_scratch(run)
    corpus = CorpusManifest.load(run.run / "corpus")
    assert (corpus.num_passages, set(corpus.removed)) == (run.num_passages, run.removed)
