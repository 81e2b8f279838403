"""Removed passages: gone from every byte of the corpus, and no reader stumbles over the gap."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from itertools import count as counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from sharding.change.keys import ids_of_keys
from sharding.change.removal import remove_passages
from sharding.checks.problem import mend
from sharding.checks.verify import verify_corpus
from sharding.corpus import rewrite
from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.corpus.partitions import write_partition
from sharding.corpus.passages import QA, Augmentation, Passage, Record, tombstone
from sharding.corpus.reader import Corpus
from sharding.errors import CorpusError
from sharding.storage.cache import LocalCache
from sharding.storage.files import list_names
from sharding.stream.epoch import WorkerStream
from sharding.stream.plan import Cursor

KilledAfter = Callable[[int, Callable[[], object]], bool]
SIZES = (3, 2, 3, 1)
WORDS = ("title", "wording", "question", "answer", "sentence", "key")


def record(number: int) -> Record:
    def word(what: str) -> str:
        return f"{what}-of-{number}."

    augmentation = Augmentation(
        (word("wording"),), (QA(word("question"), word("answer"), word("sentence")),)
    )
    return Record(Passage(number, word("key"), word("title"), word("text")), augmentation)


def count(record: Record) -> dict[str, int]:
    return {"qa": len(record.augmentation.qas) if record.augmentation else 0}


@pytest.fixture
def corpus_dir(tmp_path: Path) -> Path:
    """Nine augmented passages in four partitions."""
    directory = tmp_path / "corpus"
    partitions: list[Partition] = []
    first = 0
    for index, size in enumerate(SIZES):
        records = [record(i) for i in range(first, first + size)]
        partitions.append(
            write_partition(
                directory, index, records=records, augmented=True, counts={"qa": len(records)}
            )
        )
        first += size
    CorpusManifest(["x"], first, 3, tuple(partitions)).save(directory)
    return directory


def records(corpus_dir: Path) -> list[Record]:
    return list(Corpus.open(corpus_dir).iterate())


def holding(corpus_dir: Path, number: int) -> set[str]:
    """Files with any word of a passage."""
    words = [f"{word}-of-{number}.".encode() for word in WORDS]
    return {
        path.name
        for path in corpus_dir.rglob("*")
        if path.is_file() and any(word in path.read_bytes() for word in words)
    }


def problems(corpus_dir: Path) -> list[str]:
    found = verify_corpus(str(corpus_dir), count=count).problems
    return [problem.message for problem in found]


def test_only_a_tombstone_is_left_and_all_else_stays(corpus_dir: Path) -> None:
    before = CorpusManifest.load(corpus_dir)
    assert holding(corpus_dir, 5) == {before.partitions[2].file}
    removed = remove_passages(corpus_dir, [5, 8, 5], count=count)
    assert (removed.ids, removed.num_before) == ([5, 8], 0)
    assert removed.manifest == CorpusManifest.load(corpus_dir)
    assert removed.manifest.removed == [5, 8]
    assert holding(corpus_dir, 5) == holding(corpus_dir, 8) == set()
    expected = [record(i) for i in range(9)]
    for gone in (5, 8):
        digest = hashlib.sha256(f"key-of-{gone}.".encode()).hexdigest()
        expected[gone] = Record(Passage(gone, f"removed:{digest[:24]}", "", ""))
        assert expected[gone].passage.is_removed
    assert records(corpus_dir) == expected
    assert Corpus.open(corpus_dir).record(5) == expected[5]
    assert removed.manifest.partitions[:2] == before.partitions[:2]
    assert [part.counts["qa"] for part in removed.manifest.partitions] == [3, 2, 2, 0]
    assert all(part.augmented for part in removed.manifest.partitions)
    assert len(list_names(corpus_dir)) == 9
    assert problems(corpus_dir) == []
    again = remove_passages(corpus_dir, [5, 6, 8], count=count)
    assert (again.ids, again.num_before) == ([6], 2)


def test_texts_that_look_like_a_tombstone_are_not_one() -> None:
    assert not Passage(0, "removed:0123", "", "A text.").is_removed
    assert not Passage(0, "key", "", "").is_removed
    gone = tombstone(Passage(0, "key", "t", "x"))
    assert tombstone(gone.passage) == gone


@pytest.mark.parametrize("ids", [[9], [-1], [3, 10**15]])
def test_ids_that_never_were_are_named_and_nothing_goes(corpus_dir: Path, ids: list[int]) -> None:
    before = (corpus_dir / "manifest.json").read_bytes()
    with pytest.raises(CorpusError, match=rf"no passage {ids[-1]}; ids go from 0 to 8"):
        remove_passages(corpus_dir, ids, count=count)
    assert (corpus_dir / "manifest.json").read_bytes() == before


def test_keys_are_found_before_and_after_their_removal(corpus_dir: Path) -> None:
    def ids(keys: Sequence[str]) -> list[int]:
        return ids_of_keys(Corpus.open(corpus_dir), keys)

    assert ids(["key-of-7.", "key-of-0.", "key-of-7."]) == [0, 7]
    remove_passages(corpus_dir, [7], count=count)
    assert ids(["key-of-7.", "key-of-0."]) == [0, 7]
    with pytest.raises(CorpusError, match=r"the key 'key-of-77\.', 'nobody'; a key is"):
        ids(["nobody", "key-of-7.", "key-of-77."])
    stand_in = Corpus.open(corpus_dir).record(7).passage.key
    with pytest.raises(CorpusError, match=stand_in):  # it is nobody's key
        ids([stand_in])


@pytest.mark.parametrize("save_every_s", [0.0, 1e9])
def test_a_removal_killed_at_any_step_is_finished_by_the_same_call(
    corpus_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_after: KilledAfter,
    save_every_s: float,
) -> None:
    monkeypatch.setattr(rewrite, "SAVE_EVERY_S", save_every_s)
    (corpus_dir / "work").mkdir()
    (corpus_dir / "work" / "split-000000-000000").write_text("title-of-5.")
    for survives in counter():
        directory = tmp_path / str(survives)
        shutil.copytree(corpus_dir, directory)

        def remove(directory: Path = directory) -> object:
            return remove_passages(directory, [0, 5, 6, 7], count=count)

        killed = killed_after(survives, remove)
        assert [each for each in problems(directory) if "left by" not in each] == []
        found = {each.passage.id for each in records(directory) if each.passage.is_removed}
        assert found == set(CorpusManifest.load(directory).removed)
        remove()
        files = {path.name: path.read_bytes() for path in directory.iterdir()}
        assert not any(holding(directory, gone) for gone in (0, 5, 6, 7))
        if not killed:
            break
    assert survives > 8
    undisturbed = files
    for earlier in range(survives):
        directory = tmp_path / str(earlier)
        assert {path.name: path.read_bytes() for path in directory.iterdir()} == undisturbed


def test_copies_in_the_local_cache_go_too(tmp_path: Path, corpus_dir: Path) -> None:
    cache = LocalCache(tmp_path / "cache", max_bytes=1 << 20)
    for partition in CorpusManifest.load(corpus_dir).partitions:
        url = f"file://{corpus_dir}/{partition.file}"
        cache.get(url, sha256=partition.sha256, num_bytes=partition.num_bytes, remedy="")
    assert holding(tmp_path / "cache", 5) and holding(tmp_path / "cache", 0)
    remove_passages(corpus_dir, [5], count=count, cache=cache)
    assert not holding(tmp_path / "cache", 5)
    assert holding(tmp_path / "cache", 0)
    left = [path for path in (tmp_path / "cache" / "shards").rglob("*") if len(path.name) == 64]
    size = int((tmp_path / "cache" / "size").read_text())
    assert size == sum(path.stat().st_size for path in left)


def test_a_corpus_behind_a_url_forgets_too(corpus_dir: Path) -> None:
    remove_passages(f"file://{corpus_dir}", [5], count=count)
    assert holding(corpus_dir, 5) == set()
    assert problems(corpus_dir) == []


class Questions:
    """Examples of the records: their questions."""

    def count(self, record: Record) -> int:
        return count(record)["qa"]

    def make(self, wanted: Sequence[tuple[Record, int]]) -> list[str]:
        return [r.augmentation.qas[n].question for r, n in wanted if r.augmentation]


def test_streams_pass_over_removed_passages_and_empty_partitions(corpus_dir: Path) -> None:
    manifest = remove_passages(corpus_dir, [0, 3, 4, 8], count=count).manifest
    assert [part.counts["qa"] for part in manifest.partitions] == [2, 0, 3, 0]
    for lanes in (1, 2, 4):
        seen: list[str] = []
        with WorkerStream(
            Corpus.open(corpus_dir),
            rank=0,
            world_size=1,
            num_lanes=lanes,
            seed=1,
            microbatch=2,
            expand=Questions(),
            num_examples=lambda part: part.counts["qa"],
        ) as stream:
            cursor: Cursor | None = None
            for step in stream:
                seen += [item for lane in step.lanes for item in lane.items]
                cursor = step.cursor
        assert sorted(seen) == [f"question-of-{i}." for i in (1, 2, 5, 6, 7)]
        assert cursor is not None and cursor.epoch == 1


def test_verify_tells_and_mends_a_manifest_that_knows_other_removals(corpus_dir: Path) -> None:
    manifest = remove_passages(corpus_dir, [1, 5], count=count).manifest
    replace(manifest, removed=[4, 5]).save(corpus_dir)
    (problem,) = verify_corpus(str(corpus_dir)).problems
    assert "removed: differs from what 2 of the shards hold, the first of them partition 0" in (
        problem.message
    )
    assert mend([problem])[1] == []
    assert CorpusManifest.load(corpus_dir) == manifest


def test_a_lost_manifest_is_made_again_with_its_removals(corpus_dir: Path) -> None:
    manifest = remove_passages(corpus_dir, [3, 4, 5], count=count).manifest
    (corpus_dir / "manifest.json").unlink()
    assert mend(verify_corpus(str(corpus_dir), count=count).problems)[1] == []
    again = CorpusManifest.load(corpus_dir)
    assert again.removed == [3, 4, 5]
    assert [part.augmented for part in again.partitions] == [True] * 4
    assert [part.sha256 for part in again.partitions] == [p.sha256 for p in manifest.partitions]
    assert problems(corpus_dir) == []


def test_a_tombstone_with_an_augmentation_is_damage(tmp_path: Path) -> None:
    odd = Record(tombstone(record(0).passage).passage, record(0).augmentation)
    partition = write_partition(tmp_path, 0, records=[odd])
    CorpusManifest(["x"], 1, 1, (partition,), removed=[0]).save(tmp_path)
    assert any(
        "has an augmentation, and its passage is removed" in each for each in problems(tmp_path)
    )
