import json
import os
from collections.abc import Callable
from itertools import count as counter
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from sharding.corpus import rewrite
from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.corpus.partitions import check_shard
from sharding.corpus.passages import QA, Augmentation, Record
from sharding.corpus.reader import Corpus
from sharding.corpus.rewrite import Rewritten, rewrite_partitions
from sharding.storage.files import list_names

MakeCorpus = Callable[..., CorpusManifest]
RULES, MODEL = {"backend": "rules"}, {"backend": "hf"}


def augment_by(backend: str) -> Callable[[list[Record]], list[Record]]:
    def transform(records: list[Record]) -> list[Record]:
        return [
            structs.replace(
                record,
                augmentation=Augmentation(
                    (f"{record.passage.text} by {backend}",),
                    (QA("Which?", record.passage.key, "It is."),) * (record.passage.id % 2),
                ),
            )
            for record in records
        ]

    return transform


def count(record: Record) -> dict[str, int]:
    assert record.augmentation is not None
    return {"qa": len(record.augmentation.qas), "passage": 1}


def run(corpus_dir: Path, describe: dict[str, Any], **changes: Any) -> CorpusManifest:
    """Rewrites as `polyprag augment` does: whatever another description made, or nobody."""
    other = CorpusManifest.load(corpus_dir).augmentation != describe
    transform = changes.pop("transform", augment_by(describe["backend"]))

    def rewritten(records: list[Record]) -> Rewritten:
        made = transform(records)
        return made if isinstance(made, Rewritten) else Rewritten(made)

    settings: dict[str, Any] = {
        "needs": lambda part: other or not part.augmented,
        "anew": other,
        "describe": lambda: describe,
        "count": count,
    }
    return rewrite_partitions(corpus_dir, lambda part: rewritten, **(settings | changes))


@pytest.fixture
def corpus_dir(tmp_path: Path, make_corpus: MakeCorpus) -> Path:
    manifest = make_corpus(tmp_path / "corpus", sizes=[3, 3, 2])
    plain = tuple(structs.replace(part, augmented=False, counts={}) for part in manifest.partitions)
    structs.replace(manifest, partitions=plain).save(tmp_path / "corpus")
    return tmp_path / "corpus"


def rewrites(corpus_dir: Path) -> list[str | None]:
    return [
        record.augmentation.rewrites[0] if record.augmentation else None
        for record in Corpus.open(corpus_dir).iterate()
    ]


def by(backend: str) -> list[str]:
    return [f"Text {i}. by {backend}" for i in range(8)]


def test_every_partition_is_rewritten_counted_and_the_old_shards_go(corpus_dir: Path) -> None:
    before = CorpusManifest.load(corpus_dir)
    done: list[int] = []
    manifest = run(corpus_dir, RULES, progress=done.append)
    assert manifest == CorpusManifest.load(corpus_dir)
    assert rewrites(corpus_dir) == by("rules")
    assert sum(done) == 8
    assert manifest.augmentation == RULES
    assert all(part.augmented for part in manifest.partitions)
    assert [part.counts for part in manifest.partitions] == [
        {"qa": 1, "passage": 3},
        {"qa": 2, "passage": 3},
        {"qa": 1, "passage": 2},
    ]
    assert not {part.file for part in before.partitions} & set(list_names(corpus_dir))
    assert len(list_names(corpus_dir)) == 7


def test_nothing_to_do_changes_no_shard(corpus_dir: Path) -> None:
    first = run(corpus_dir, RULES)
    before = {path.name: path.stat().st_mtime_ns for path in corpus_dir.glob("*.tar")}
    done: list[int] = []
    assert run(corpus_dir, RULES, progress=done.append) == first
    assert {path.name: path.stat().st_mtime_ns for path in corpus_dir.glob("*.tar")} == before
    assert sum(done) == 8


def test_the_same_records_again_keep_their_shard(
    corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrite, "SAVE_EVERY_S", 0.0)
    first = run(corpus_dir, RULES)
    assert run(corpus_dir, RULES, needs=lambda _: True) == first
    assert rewrites(corpus_dir) == by("rules")


def test_an_error_keeps_the_partitions_before_it(corpus_dir: Path) -> None:
    transform = augment_by("rules")

    def fails_at_the_second(records: list[Record]) -> list[Record]:
        if records[0].passage.id == 3:
            raise ConnectionError("the endpoint is gone")
        return transform(records)

    with pytest.raises(ConnectionError, match="endpoint"):
        run(corpus_dir, RULES, transform=fails_at_the_second)
    halfway = CorpusManifest.load(corpus_dir)
    assert [part.augmented for part in halfway.partitions] == [True, False, False]
    rewritten: list[int] = []

    def noting(records: list[Record]) -> list[Record]:
        rewritten.append(records[0].passage.id)
        return transform(records)

    run(corpus_dir, RULES, transform=noting)
    assert rewritten == [3, 6]
    assert rewrites(corpus_dir) == by("rules")


def test_stopping_a_second_kind_of_augmentation_leaves_no_mixture_behind(
    corpus_dir: Path,
) -> None:
    run(corpus_dir, RULES)

    def stops(records: list[Record]) -> list[Record]:
        if records[0].passage.id == 3:
            raise KeyboardInterrupt
        return augment_by("hf")(records)

    with pytest.raises(KeyboardInterrupt):
        run(corpus_dir, MODEL, transform=stops)
    halfway = CorpusManifest.load(corpus_dir)
    assert halfway.augmentation == MODEL
    assert [part.augmented for part in halfway.partitions] == [True, False, False]
    assert [part.counts for part in halfway.partitions][1:] == [{}, {}]
    run(corpus_dir, MODEL)
    assert rewrites(corpus_dir) == by("hf")


def test_nothing_is_said_of_how_before_something_is_written(corpus_dir: Path) -> None:
    before = CorpusManifest.load(corpus_dir)

    def nothing_came(records: list[Record]) -> Rewritten:
        return Rewritten(records, is_changed=False)

    with pytest.raises(AssertionError):  # `count` wants an augmentation
        run(corpus_dir, RULES, transform=nothing_came)
    manifest = run(corpus_dir, RULES, transform=nothing_came, count=lambda record: {})
    assert manifest == before == CorpusManifest.load(corpus_dir)
    assert manifest.augmentation is None

    def only_the_second(records: list[Record]) -> Rewritten:
        if records[0].passage.id == 3:
            return Rewritten(augment_by("rules")(records))
        return Rewritten(records, is_changed=False)

    def how_many(record: Record) -> dict[str, int]:
        return {"passage": int(record.augmentation is not None)}

    written = run(corpus_dir, RULES, transform=only_the_second, count=how_many)
    assert written.augmentation == RULES
    assert [part.augmented for part in written.partitions] == [True, True, True]
    assert [part.counts["passage"] for part in written.partitions] == [0, 3, 0]


def test_a_partition_may_stay_as_it_is_and_what_was_seen_can_end_the_work(
    corpus_dir: Path,
) -> None:
    run(corpus_dir, RULES)
    seen: list[tuple[int, str]] = []

    def see(partition: Partition, notes: str) -> None:
        seen.append((partition.index, notes))
        if partition.index == 1:
            raise ConnectionError("it has failed often enough")

    def stays(records: list[Record]) -> Rewritten:
        if records[0].passage.id == 0:
            return Rewritten(augment_by("hf")(records), notes="came")
        return Rewritten(None, is_changed=False, notes="failed")

    with pytest.raises(ConnectionError, match="often enough"):
        run(corpus_dir, MODEL, transform=stays, see=see)
    assert seen == [(0, "came"), (1, "failed")]
    halfway = CorpusManifest.load(corpus_dir)
    assert [part.augmented for part in halfway.partitions] == [True, False, False]
    assert rewrites(corpus_dir) == by("hf")[:3] + by("rules")[3:]


@pytest.mark.parametrize("change", [lambda records: records[:-1], lambda records: records[::-1]])
def test_passages_may_not_change(
    corpus_dir: Path, change: Callable[[list[Record]], list[Record]]
) -> None:
    with pytest.raises(ValueError, match="changed the passages"):
        run(corpus_dir, RULES, transform=change)


class Killed(BaseException):
    pass


class Killing:
    """Makes functions fail from a number of calls on, as if the process were gone."""

    def __init__(self, survives: int) -> None:
        self.left = survives

    def guard(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any) -> Any:
            if self.left == 0:
                raise Killed
            self.left -= 1
            return function(*args)

        return guarded


@pytest.mark.parametrize("save_every_s", [0.0, 1e9])
def test_a_kill_at_any_step_leaves_a_whole_corpus_that_is_finished_by_running_again(
    tmp_path: Path,
    make_corpus: MakeCorpus,
    monkeypatch: pytest.MonkeyPatch,
    save_every_s: float,
) -> None:
    monkeypatch.setattr(rewrite, "SAVE_EVERY_S", save_every_s)
    for survives in counter():
        corpus_dir = tmp_path / str(survives)
        make_corpus(corpus_dir, sizes=[3, 3, 2])
        with monkeypatch.context() as patch:
            killing = Killing(survives)
            for name in ("replace", "remove"):
                patch.setattr(os, name, killing.guard(getattr(os, name)))
            try:
                run(corpus_dir, RULES)
                killed = False
            except Killed:
                killed = True

        manifest = CorpusManifest.load(corpus_dir)
        for part in manifest.partitions:
            check_shard(corpus_dir, part)
        assert [part.augmented for part in manifest.partitions] == [
            text is not None for text in rewrites(corpus_dir)[0::3]
        ] or manifest.augmentation is None
        run(corpus_dir, RULES)
        assert rewrites(corpus_dir) == by("rules")
        assert not [name for name in list_names(corpus_dir) if name.endswith(".tmp")]
        assert len(list_names(corpus_dir)) == 7
        if not killed:
            break
    assert survives > 5
    assert json.loads((corpus_dir / "manifest.json").read_text())["augmentation"] == RULES


def test_partitions_that_need_nothing_are_left_alone(corpus_dir: Path) -> None:
    before = CorpusManifest.load(corpus_dir)

    def only_the_last(part: Partition) -> bool:
        return part.index == 2

    manifest = run(corpus_dir, RULES, needs=only_the_last)
    assert manifest.partitions[:2] == before.partitions[:2]
    assert rewrites(corpus_dir) == [None] * 6 + by("rules")[6:]
