"""The driver over a prepared corpus: what is done stays, what is missing is written."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from msgspec import structs

from polyprag.augment import corpus as driver
from polyprag.augment import rules
from polyprag.augment.corpus import augment_corpus, describe, num_without_augmentation
from polyprag.augment.written import Written
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


def _records(run_dir: Path) -> list[Record]:
    return list(Corpus.open(run_dir / "corpus").iterate())


def test_rules_reach_every_shard_and_are_counted(run_dir: Path) -> None:
    advanced: list[int] = []
    manifest = augment_corpus(run_dir, Config(), progress=advanced.append)
    records = _records(run_dir)
    assert sum(advanced) == len(TEXTS)
    assert [record.augmentation for record in records] == [
        rules.augment(record.passage, num_rewrites=1, num_qas=3, seed=0) for record in records
    ]
    assert all(partition.augmented for partition in manifest.partitions)
    for kind in ("passage_qa", "qa", "passage", "bare_passage"):
        total = sum(partition.counts[kind] for partition in manifest.partitions)
        assert total == sum(count_examples(record)[kind] for record in records)
    empty = Augmentation(rewrites=(), qas=())
    assert num_without_augmentation(manifest) == sum(r.augmentation == empty for r in records) >= 1
    assert manifest.augmentation == {"backend": "rules", "num_rewrites": 1, "num_qas": 3}


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


def test_a_stopped_run_goes_on_with_what_is_missing(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def writing(passages: Sequence[Passage]) -> Iterator[tuple[int, Written]]:
        if len(asked) >= 2:
            raise KeyboardInterrupt
        asked.extend(passage.id for passage in passages)
        for at, passage in enumerate(passages):
            yield at, Written(Augmentation(rewrites=(passage.title,), qas=()))

    monkeypatch.setattr(driver, "_writer", lambda config: writing)
    with pytest.raises(KeyboardInterrupt):
        augment_corpus(run_dir, Config())
    assert asked == [0, 1]
    partitions = CorpusManifest.load(run_dir / "corpus").partitions
    assert [partition.augmented for partition in partitions] == [True, False, False]

    again: list[int] = []

    def finishing(passages: Sequence[Passage]) -> Iterator[tuple[int, Written]]:
        again.extend(passage.id for passage in passages)
        for at, passage in enumerate(passages):
            yield at, Written(Augmentation(rewrites=(passage.title,), qas=()))

    monkeypatch.setattr(driver, "_writer", lambda config: finishing)
    augment_corpus(run_dir, Config())
    assert again == [2, 3, 4]
    assert [record.augmentation for record in _records(run_dir)] == [
        Augmentation(rewrites=(title,), qas=()) for title, _ in TEXTS
    ]
    again.clear()
    augment_corpus(run_dir, Config())
    assert again == []


def test_nothing_is_written_about_a_removed_passage(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_passages(run_dir / "corpus", [0, 4], count=driver.counts_of)  # 4 is a partition's only
    asked: list[int] = []

    def writing(passages: Sequence[Passage]) -> Iterator[tuple[int, Written]]:
        asked.extend(passage.id for passage in passages)
        for at, passage in enumerate(passages):
            yield at, Written(Augmentation(rewrites=(passage.title,), qas=()))

    monkeypatch.setattr(driver, "_writer", lambda config: writing)
    manifest = augment_corpus(run_dir, Config())
    assert asked == [1, 2, 3]
    kept = [record.augmentation is not None for record in _records(run_dir)]
    assert kept == [False, True, True, True, False]
    assert all(partition.augmented for partition in manifest.partitions)
    assert [partition.counts["passage"] for partition in manifest.partitions] == [2, 4, 0]
    assert num_without_augmentation(manifest) == 0


def test_what_was_written_goes_with_its_passage(run_dir: Path) -> None:
    before = augment_corpus(run_dir, Config())
    manifest = remove_passages(run_dir / "corpus", [0], count=driver.counts_of).manifest
    counted = count_examples(_records(run_dir)[1])
    assert {name: manifest.partitions[0].counts[name] for name in counted} == counted
    assert manifest.partitions[1:] == before.partitions[1:]
    again = augment_corpus(run_dir, Config())
    assert again == manifest
    assert _records(run_dir)[0].augmentation is None


def test_other_settings_than_the_recorded_ones_are_refused(run_dir: Path) -> None:
    augment_corpus(run_dir, Config())
    other = Config(augment=AugmentConfig(num_qas=5))
    with pytest.raises(ConfigError, match="num_qas 3 there and 5 now"):
        augment_corpus(run_dir, other)


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
    with pytest.raises(ConfigError, match="augmented with other settings"):
        augment_corpus(run_dir, Config(augment=AugmentConfig(backend="hf", model="other")))
