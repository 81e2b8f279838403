"""The driver over a prepared corpus: what is done stays, what is missing is written."""

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from polyprag.augment import corpus as driver
from polyprag.augment import rules
from polyprag.augment.corpus import (
    OpenPassagesError,
    augment_corpus,
    counts_of,
    num_open,
    num_without_augmentation,
)
from polyprag.augment.prompt import EMPTY
from polyprag.augment.settings import describe
from polyprag.augment.work import partition as at_work
from polyprag.augment.work.partition import Came
from polyprag.augment.written import Dropped, Written
from polyprag.config import AugmentConfig, Config, ModelConfig
from polyprag.errors import ConfigError, CorpusError
from polyprag.method.examples import count_examples
from sharding.change.removal import remove_passages
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.passages import Augmentation, Passage, Record
from sharding.corpus.reader import Corpus
from sharding.ingest.prepare import prepare
from sharding.task_pool import ProcessPool

TEXTS = [
    ("Ada Byrd", "Ada Byrd (born 3 May 1931 in London) is an English actress."),
    ("Bo Lind", "Bo Lind (born 7 June 1950) is a Swedish footballer."),
    ("Nothing", "Lorem ipsum dolor sit amet."),
    ("The Kite", "The Kite is a 1961 Italian film directed by Carla Monti."),
    ("Cy Roe", "Cy Roe (born 9 July 1960) is an American painter."),
]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    source = tmp_path / "passages.jsonl"
    source.write_text(
        "\n".join(
            json.dumps({"id": f"k{i}", "title": title, "text": text})
            for i, (title, text) in enumerate(TEXTS)
        )
    )
    prepare([str(source)], tmp_path / "run" / "corpus", partition_size=2, on_error="stop")
    return tmp_path / "run"


class Writing:
    """Writes each passage's title, one after the other, until told otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[int] = []
        self.stops_after: int | None = None
        self.fails: dict[int, str] = {}
        monkeypatch.setattr(at_work, "writer_of", lambda config: self._write)

    def _write(self, passages: Sequence[Passage]) -> Iterator[tuple[int, Written]]:
        for position, passage in enumerate(passages):
            if len(self.asked) == self.stops_after:
                raise KeyboardInterrupt
            self.asked.append(passage.id)
            yield position, self._written(passage)

    def _written(self, passage: Passage) -> Written:
        if passage.id in self.fails:
            return Written(EMPTY, failure=self.fails[passage.id])
        return Written(Augmentation(rewrites=(passage.title,), qas=()))


@pytest.fixture
def writing(monkeypatch: pytest.MonkeyPatch) -> Writing:
    return Writing(monkeypatch)


MODEL = Config(augment=AugmentConfig(backend="openai", model="m"))


def _titles(run_dir: Path) -> list[str | None]:
    return [
        record.augmentation.rewrites[0] if record.augmentation else None
        for record in _records(run_dir)
    ]


def _records(run_dir: Path) -> list[Record]:
    return list(Corpus.open(run_dir / "corpus").iterate())


def test_rules_reach_every_shard_and_are_counted(run_dir: Path) -> None:
    advanced: list[int] = []
    manifest = augment_corpus(run_dir, Config(), progress=advanced.append)
    records = _records(run_dir)
    assert sum(advanced) == len(TEXTS)
    assert [record.augmentation for record in records] == [
        rules.augment(record.passage, num_rewrites=1, num_qas=6, seed=0) for record in records
    ]
    assert all(partition.augmented for partition in manifest.partitions)
    for kind in ("passage_qa", "qa", "passage", "bare_passage"):
        total = sum(partition.counts[kind] for partition in manifest.partitions)
        assert total == sum(count_examples(record)[kind] for record in records)
    empty = Augmentation(rewrites=(), qas=())
    assert num_without_augmentation(manifest) == sum(r.augmentation == empty for r in records) >= 1
    assert manifest.augmentation == {"backend": "rules", "num_rewrites": 1, "num_qas": 6}


def test_several_processes_write_what_one_writes(run_dir: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(run_dir, alone)
    one = augment_corpus(alone, Config())
    advanced: list[int] = []
    with ProcessPool(2) as pool:
        several = augment_corpus(run_dir, Config(), progress=advanced.append, pool=pool)
    assert several == one
    assert sum(advanced) == len(TEXTS)
    assert _records(run_dir) == _records(alone)


def test_a_stopped_run_goes_on_with_what_is_missing(run_dir: Path, writing: Writing) -> None:
    writing.stops_after = 2
    with pytest.raises(KeyboardInterrupt):
        augment_corpus(run_dir, Config())
    assert writing.asked == [0, 1]
    partitions = CorpusManifest.load(run_dir / "corpus").partitions
    assert [partition.augmented for partition in partitions] == [True, False, False]

    writing.asked, writing.stops_after = [], None
    augment_corpus(run_dir, Config())
    assert writing.asked == [2, 3, 4]
    assert _titles(run_dir) == [title for title, _ in TEXTS]
    writing.asked = []
    augment_corpus(run_dir, Config())
    assert writing.asked == []


def test_what_was_paid_for_is_kept_in_the_midst_of_a_partition(
    run_dir: Path, writing: Writing
) -> None:
    writing.stops_after = 3
    with pytest.raises(KeyboardInterrupt):
        augment_corpus(run_dir, MODEL)
    assert _titles(run_dir) == ["Ada Byrd", "Bo Lind", None, None, None]
    (kept,) = (run_dir / "augment" / "part-00001").iterdir()
    assert kept.read_bytes().count(b"\n") == 1
    writing.asked, writing.stops_after = [], None
    manifest = augment_corpus(run_dir, MODEL)
    assert writing.asked == [3, 4]
    assert _titles(run_dir) == [title for title, _ in TEXTS]
    assert num_open(manifest) == 0
    assert not [path for path in (run_dir / "augment").rglob("*") if path.is_file()]


def test_a_server_that_has_moved_is_not_asked_again_for_what_came(
    run_dir: Path, writing: Writing
) -> None:
    writing.stops_after = 3
    with pytest.raises(KeyboardInterrupt):
        augment_corpus(run_dir, MODEL)
    writing.asked, writing.stops_after = [], None
    there = AugmentConfig(backend="openai", model="m", base_url="http://there:1/v1")
    augment_corpus(run_dir, Config(augment=there))
    assert writing.asked == [3, 4]


def test_items_that_are_not_kept_are_counted_once(
    run_dir: Path, writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dropping(passages: Sequence[Passage]) -> Iterator[tuple[int, Written]]:
        for position, written in writing._write(passages):
            yield position, replace(written, dropped=(Dropped("duplicate", "Again?"),))

    def dropped() -> object:
        return (CorpusManifest.load(run_dir / "corpus").augmentation or {}).get("dropped")

    monkeypatch.setattr(at_work, "writer_of", lambda config: dropping)
    writing.stops_after = 3
    with pytest.raises(KeyboardInterrupt):
        augment_corpus(run_dir, MODEL)
    assert dropped() == {"duplicate": 2}  # of the partition that is done
    writing.stops_after = None
    came = Came()
    augment_corpus(run_dir, MODEL, came=came)
    assert dropped() == {"duplicate": 5} == {"duplicate": came.dropped["duplicate"] + 2}
    assert came.samples == {"duplicate": ["Again?"]}
    augment_corpus(run_dir, MODEL, overwrite=True)
    assert dropped() == {"duplicate": 5}


def test_passages_that_failed_are_open_and_asked_for_alone(run_dir: Path, writing: Writing) -> None:
    writing.fails = {1: "503 busy", 2: "503 busy", 4: "no choices"}
    with pytest.raises(OpenPassagesError) as failed:
        augment_corpus(run_dir, MODEL)
    assert failed.value.exit_status == 75
    assert re.search(r"3 of 5 passages are open.*2 x 503 busy; 1 x no choices", str(failed.value))
    assert "run the same command again" in str(failed.value)
    manifest = CorpusManifest.load(run_dir / "corpus")
    assert [partition.counts["open"] for partition in manifest.partitions] == [1, 1, 1]
    assert num_open(manifest) == 3
    assert _titles(run_dir) == ["Ada Byrd", None, None, "The Kite", None]

    writing.asked, writing.fails = [], {2: "503 busy"}
    with pytest.raises(OpenPassagesError, match="1 of 5 passages are open"):
        augment_corpus(run_dir, MODEL)
    assert writing.asked == [1, 2, 4]
    writing.asked, writing.fails, writing.stops_after = [], {}, 0
    with pytest.raises(KeyboardInterrupt):  # what is written stays written
        augment_corpus(run_dir, MODEL)
    assert _titles(run_dir) == ["Ada Byrd", "Bo Lind", None, "The Kite", "Cy Roe"]
    writing.stops_after = None
    assert num_open(augment_corpus(run_dir, MODEL)) == 0
    assert writing.asked == [2]
    assert _titles(run_dir) == [title for title, _ in TEXTS]


def test_progress_is_told_passage_by_passage(run_dir: Path, writing: Writing) -> None:
    told: list[int] = []
    augment_corpus(run_dir, MODEL, progress=told.append)
    assert [each for each in told if each] == [1, 1, 1, 1, 1]


def test_settings_are_not_locked_before_anything_is_written(
    run_dir: Path, writing: Writing
) -> None:
    before = CorpusManifest.load(run_dir / "corpus")
    writing.fails = {i: "401 wrong key" for i in range(5)}
    with pytest.raises(OpenPassagesError, match="5 of 5"):
        augment_corpus(run_dir, MODEL)
    assert CorpusManifest.load(run_dir / "corpus") == before
    writing.fails = {}
    other = Config(augment=AugmentConfig(backend="hf", model="other"))
    assert augment_corpus(run_dir, other).augmentation == describe(other)


def test_an_outage_ends_the_run_instead_of_asking_millions(
    run_dir: Path, writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_OUTAGE", 3)
    writing.fails = {i: "connection refused" for i in range(5)}
    with pytest.raises(OpenPassagesError, match=r"5 of 5.*4 x connection refused"):
        augment_corpus(run_dir, MODEL)
    assert writing.asked == [0, 1, 2, 3]


def test_overwriting_writes_all_again_and_goes_on_where_it_stopped(
    run_dir: Path, writing: Writing
) -> None:
    augment_corpus(run_dir, Config())
    assert writing.asked == [0, 1, 2, 3, 4]
    for stops_after, expected in ((1, [0]), (2, [1, 2]), (1, [3]), (None, [4])):
        # Every stop is in the midst of a partition or at its beginning.
        writing.asked, writing.stops_after = [], stops_after
        if stops_after is None:
            augment_corpus(run_dir, MODEL, overwrite=True)
        else:
            with pytest.raises(KeyboardInterrupt):
                augment_corpus(run_dir, MODEL, overwrite=True)
        assert writing.asked == expected
    writing.asked = []
    augment_corpus(run_dir, MODEL, overwrite=True)  # done, so all of it once more
    assert writing.asked == [0, 1, 2, 3, 4]
    assert not [path for path in (run_dir / "augment").rglob("*") if path.is_file()]


def test_overwriting_the_only_partition_goes_on_after_an_outage(
    run_dir: Path, tmp_path: Path, writing: Writing
) -> None:
    one = tmp_path / "one"
    prepare([str(tmp_path / "passages.jsonl")], one / "corpus", partition_size=5)
    augment_corpus(one, Config())
    writing.fails = {1: "503"}
    with pytest.raises(OpenPassagesError, match="1 of 5 passages are open"):
        augment_corpus(one, MODEL, overwrite=True)
    writing.asked, writing.fails = [], {}
    assert num_open(augment_corpus(one, MODEL, overwrite=True)) == 0
    assert writing.asked == [1]


def test_an_outage_while_overwriting_loses_nothing_that_was_there(
    run_dir: Path, writing: Writing
) -> None:
    augment_corpus(run_dir, Config())
    writing.fails = {1: "503", 3: "503"}
    with pytest.raises(OpenPassagesError):
        augment_corpus(run_dir, MODEL, overwrite=True)
    assert _titles(run_dir) == [title for title, _ in TEXTS]
    manifest = CorpusManifest.load(run_dir / "corpus")
    assert [part.augmented for part in manifest.partitions] == [False, False, True]
    writing.asked, writing.fails = [], {}
    assert num_open(augment_corpus(run_dir, MODEL)) == 0  # with the flag or without
    assert writing.asked == [1, 3]


def test_nothing_is_written_about_a_removed_passage(run_dir: Path, writing: Writing) -> None:
    remove_passages(run_dir / "corpus", [0, 4], count=counts_of)  # 4 is a partition's only
    manifest = augment_corpus(run_dir, Config())
    assert writing.asked == [1, 2, 3]
    kept = [record.augmentation is not None for record in _records(run_dir)]
    assert kept == [False, True, True, True, False]
    assert all(partition.augmented for partition in manifest.partitions)
    assert [partition.counts["passage"] for partition in manifest.partitions] == [2, 4, 0]
    assert num_without_augmentation(manifest) == 0


def test_what_was_written_goes_with_its_passage(run_dir: Path) -> None:
    before = augment_corpus(run_dir, Config())
    manifest = remove_passages(run_dir / "corpus", [0], count=counts_of).manifest
    counted = count_examples(_records(run_dir)[1])
    assert {name: manifest.partitions[0].counts[name] for name in counted} == counted
    assert manifest.partitions[1:] == before.partitions[1:]
    again = augment_corpus(run_dir, Config())
    assert again == manifest
    assert _records(run_dir)[0].augmentation is None


def test_other_settings_than_the_recorded_ones_are_refused(run_dir: Path) -> None:
    augment_corpus(run_dir, Config())
    other = Config(augment=AugmentConfig(num_qas=5))
    said = "5 of 5 passages .*num_qas 6 there and 5 now.*--overwrite writes them again"
    with pytest.raises(ConfigError, match=said):
        augment_corpus(run_dir, other)
    manifest = augment_corpus(run_dir, other, overwrite=True)
    assert manifest.augmentation == describe(other)
    assert [each.augmentation for each in _records(run_dir)] == [
        rules.augment(each.passage, num_rewrites=1, num_qas=5) for each in _records(run_dir)
    ]


def test_what_was_written_with_other_settings_may_be_kept(run_dir: Path, writing: Writing) -> None:
    writing.stops_after = 2
    with pytest.raises(KeyboardInterrupt):
        augment_corpus(run_dir, MODEL)
    writing.asked, writing.stops_after = [], None
    warmer = Config(augment=AugmentConfig(backend="openai", model="m", temperature=1.0))
    with pytest.raises(ConfigError, match=r"2 of 5 .*temperature 0\.7 .*only the 3 others"):
        augment_corpus(run_dir, warmer)
    manifest = augment_corpus(run_dir, warmer, keep=True)
    assert writing.asked == [2, 3, 4]
    assert manifest.augmentation == describe(warmer)
    moved = Config(
        augment=AugmentConfig(
            backend="openai", model="m", temperature=1.0, base_url="http://127.0.0.1:9/v1"
        )
    )
    assert augment_corpus(run_dir, moved) == manifest  # the same model on another machine


def test_a_run_that_is_not_prepared_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"manifest\.json"):
        augment_corpus(tmp_path, Config())


def test_recorded_settings_hold_no_secret() -> None:
    config = Config(
        augment=AugmentConfig(
            backend="openai", model="m", base_url="https://user:secret@host:8000/v1?key=secret"
        )
    )
    assert describe(config)["endpoint"] == "https://host:8000/v1"
    assert "secret" not in json.dumps(describe(config))
    local = Config(augment=AugmentConfig(backend="hf"), model=ModelConfig(path="org/name"))
    assert describe(local)["model"] == "org/name"


def test_a_model_s_directory_is_the_same_from_every_directory(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "writer").mkdir()
    monkeypatch.chdir(tmp_path)
    config = Config(augment=AugmentConfig(backend="hf", model="writer"))
    assert describe(config)["model"] == str(tmp_path / "writer")
    # An earlier polyprag wrote down the model as it was given.
    manifest = CorpusManifest.load(run_dir / "corpus")
    done = tuple(structs.replace(part, augmented=True) for part in manifest.partitions)
    earlier = describe(config) | {"model": "writer"}
    structs.replace(manifest, partitions=done, augmentation=earlier).save(run_dir / "corpus")
    absolute = Config(augment=AugmentConfig(backend="hf", model=str(tmp_path / "writer")))
    assert augment_corpus(run_dir, absolute).augmentation == earlier
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match="written about with other settings"):
        augment_corpus(run_dir, Config(augment=AugmentConfig(backend="hf", model="other")))
