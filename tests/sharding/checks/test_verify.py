import hashlib
import json
import os
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from sharding.checks.problem import Problem, mend
from sharding.checks.verify import verify_corpus
from sharding.corpus.manifest import MANIFEST_NAME, CorpusManifest
from sharding.corpus.partitions import write_partition, write_shard
from sharding.corpus.passages import QA, Augmentation, Passage, Record
from sharding.corpus.reader import Corpus
from sharding.corpus.shard_index import index_name
from sharding.storage.files import join, list_names, read_bytes, remove
from sharding.task_pool import ProcessPool

SIZES = [3, 3, 2]


def record(passage_id: int, *, num_qas: int = 1) -> Record:
    qas = tuple(QA(f"Q{i}?", "A", "It is A.") for i in range(num_qas))
    return Record(
        Passage(passage_id, f"k{passage_id}", "Title", f"Text {passage_id}."),
        Augmentation(("Reworded.",), qas),
    )


def count(given: Record) -> dict[str, int]:
    assert given.augmentation is not None
    return {"qa": len(given.augmentation.qas)}


def write(corpus_dir: str | Path) -> CorpusManifest:
    partitions = []
    first_id = 0
    for index, size in enumerate(SIZES):
        records = [record(i) for i in range(first_id, first_id + size)]
        partitions.append(
            write_partition(corpus_dir, index, records=records, augmented=True, counts={"qa": size})
        )
        first_id += size
    manifest = CorpusManifest(
        ["a.jsonl"],
        first_id,
        3,
        tuple(partitions),
        source_sha256=["0" * 64],
        skipped={"empty text": 2},
        augmentation={"backend": "rules"},
    )
    manifest.save(corpus_dir)
    return manifest


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Path, CorpusManifest]:
    return tmp_path, write(tmp_path)


def problems(corpus_dir: str | Path, *, quick: bool = False) -> list[Problem]:
    return verify_corpus(str(corpus_dir), quick=quick, count=count).problems


def messages(corpus_dir: str | Path, *, quick: bool = False) -> str:
    return "\n".join(problem.message for problem in problems(corpus_dir, quick=quick))


def age(directory: Path, *, seconds: float = 4000) -> None:
    """Makes all files as if nothing had been written for a while."""
    then = time.time() - seconds
    for path in directory.rglob("*"):
        os.utime(path, (then, then))


def flip(path: Path, at: int = 700) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("quick", [False, True])
def test_a_sound_corpus_has_no_problems(corpus: tuple[Path, CorpusManifest], quick: bool) -> None:
    directory, manifest = corpus
    found = verify_corpus(str(directory), quick=quick, count=count)
    assert (found.problems, found.manifest) == ([], manifest)


def test_progress_counts_all_bytes(corpus: tuple[Path, CorpusManifest]) -> None:
    directory, manifest = corpus
    shown: list[int] = []

    @contextmanager
    def show(total: int | None, description: str, *, unit: str):  # type: ignore[no-untyped-def]
        shown.append(-(total or 0))
        yield lambda done, note="": shown.append(done)

    verify_corpus(str(directory), show=show)
    assert sum(shown) == 0
    assert -shown[0] == sum(part.num_bytes for part in manifest.partitions)


def test_all_problems_are_told_at_once_with_their_members(
    corpus: tuple[Path, CorpusManifest],
) -> None:
    directory, manifest = corpus
    files = [part.file for part in manifest.partitions]
    (directory / files[0]).unlink()
    flip(directory / files[1], at=512 + 3)  # inside the first document
    (directory / files[2]).write_bytes((directory / files[2]).read_bytes()[:1500])
    (directory / ".manifest.json.0123abcd.tmp").write_bytes(b"half")
    text = messages(directory)
    assert f"{files[0]}: no such file; copy it from elsewhere" in text
    assert f"{files[1]}: SHA-256 differs" in text
    assert "member 000000000003.json: Object" in text
    assert f"{files[2]}: holds 1500 bytes where the manifest says" in text
    assert "holds 1 members where the manifest says 2, and is cut before 000000000007.json" in text
    assert ".manifest.json.0123abcd.tmp: left by a writer that was killed" in text
    assert len(problems(directory)) == 4
    assert len(problems(directory, quick=True)) == 3  # not the one that has its size


def test_processes_find_what_one_process_finds(corpus: tuple[Path, CorpusManifest]) -> None:
    directory, manifest = corpus
    flip(directory / manifest.partitions[1].file)
    (directory / index_name(manifest.partitions[2].file)).unlink()
    with ProcessPool(2) as pool:
        found = verify_corpus(str(directory), pool=pool).problems
    assert [p.message for p in found] == [p.message for p in verify_corpus(str(directory)).problems]
    done, left = mend(found)
    assert len(done) == len(left) == 1


@pytest.mark.parametrize("quick", [False, True])
def test_an_index_is_made_again(corpus: tuple[Path, CorpusManifest], quick: bool) -> None:
    directory, manifest = corpus
    paths = [directory / index_name(part.file) for part in manifest.partitions]
    before = [path.read_bytes() for path in paths]
    paths[0].unlink()
    paths[1].write_bytes(before[1][:-1])
    done, left = mend(problems(directory, quick=quick))
    assert (len(done), left) == (2, [])
    assert [path.read_bytes() for path in paths] == before
    assert problems(directory) == []


def test_an_index_that_lies_consistently_is_found(corpus: tuple[Path, CorpusManifest]) -> None:
    """One of other documents with the same sizes, with all its own checksums right."""
    directory, manifest = corpus
    part = manifest.partitions[0]
    other = write_partition(
        directory / "other", 0, records=[replace_text(record(i)) for i in range(3)]
    )
    assert other.num_bytes == part.num_bytes
    forged = (directory / "other" / index_name(other.file)).read_bytes()
    body = forged[:16] + bytes.fromhex(part.sha256) + forged[48:-32]
    path = directory / index_name(part.file)
    path.write_bytes(body + hashlib.sha256(body).digest())
    assert "isn't the index of its shard" in messages(directory)
    assert Corpus.open(directory).record(1) == record(1)


def replace_text(given: Record) -> Record:
    passage = given.passage
    text = passage.text.replace("T", "t")
    return Record(Passage(passage.id, passage.key, passage.title, text), given.augmentation)


def test_wrong_counts_are_counted_again(corpus: tuple[Path, CorpusManifest]) -> None:
    directory, manifest = corpus
    wrong = replace(manifest.partitions[1], counts={"qa": 7})
    partitions = (manifest.partitions[0], wrong, manifest.partitions[2])
    replace(manifest, partitions=partitions).save(directory)
    assert "manifest.json: partitions[1].counts differ" in messages(directory)
    assert verify_corpus(str(directory)).problems == []  # nobody said how to count
    done, left = mend(problems(directory))
    assert (len(done), left) == (1, [])
    assert CorpusManifest.load(directory) == manifest


def test_every_wrong_field_of_a_manifest_is_named(corpus: tuple[Path, CorpusManifest]) -> None:
    directory, _ = corpus
    values = json.loads((directory / MANIFEST_NAME).read_text())
    values["partitions"][0]["num_bytes"] = -1
    values["partitions"][2]["counts"] = {"qa": "x"}
    values["skipped"] = []
    (directory / MANIFEST_NAME).write_text(json.dumps(values))
    text = messages(directory)
    for field in ("partitions[0]: num_bytes", "partitions[2]: counts[...]", "skipped"):
        assert f"manifest.json: {field}: Expected `" in text


def test_overlapping_ids_are_all_named(corpus: tuple[Path, CorpusManifest]) -> None:
    directory, manifest = corpus
    values = json.loads((directory / MANIFEST_NAME).read_text())
    values["partitions"][1]["first_id"] = 2
    values["num_passages"] = 9
    (directory / MANIFEST_NAME).write_text(json.dumps(values))
    text = messages(directory)
    assert "partitions[1].first_id must be 3" in text
    assert "partitions[2].first_id must be 5" in text
    assert "num_passages must be the partitions' sum, 8" in text
    done, left = mend(problems(directory))
    assert (len(done), left) == (1, [])  # one repair for all three
    assert CorpusManifest.load(directory) == manifest


def test_a_lost_manifest_is_made_from_the_shards(corpus: tuple[Path, CorpusManifest]) -> None:
    directory, manifest = corpus
    (directory / MANIFEST_NAME).unlink()
    text = messages(directory)
    assert "let --repair make it anew from the 3 shards" in text
    assert "the passages 0 to 7" in text
    assert "the names of the source files" in text
    assert "can't be told" in text
    mend(problems(directory))
    assert CorpusManifest.load(directory) == replace(
        manifest, source=[], source_sha256=[], skipped={}, augmentation=None
    )


def test_a_lost_manifest_keeps_what_was_written_beside_passages_that_are_open(
    corpus: tuple[Path, CorpusManifest],
) -> None:
    directory, manifest = corpus
    for part in manifest.partitions:
        (directory / part.file).unlink()
    records = [record(i) for i in range(8)]
    for i in (1, 3, 4, 5):
        records[i] = Record(records[i].passage, None)
    parts = [
        write_partition(directory, index, records=records[at : at + 3])
        for index, at in enumerate((0, 3, 6))
    ]
    (directory / MANIFEST_NAME).unlink()

    def counted(given: Record) -> dict[str, int]:
        return {"open": int(given.augmentation is None)}

    mend(verify_corpus(str(directory), count=counted).problems)
    found = CorpusManifest.load(directory).partitions
    assert [part.file for part in found] == [part.file for part in parts]
    assert [(part.augmented, part.counts) for part in found] == [
        (True, {"open": 1}),
        (False, {}),
        (True, {"open": 0}),
    ]


def test_what_a_damaged_manifest_still_says_is_kept_and_so_is_the_file(
    corpus: tuple[Path, CorpusManifest],
) -> None:
    directory, manifest = corpus
    values = json.loads((directory / MANIFEST_NAME).read_text())
    values["num_passages"] = 5
    values["source"] = "a.jsonl"
    damaged = json.dumps(values).encode()
    (directory / MANIFEST_NAME).write_bytes(damaged)
    done, left = mend(problems(directory))
    assert left == []
    assert "manifest.damaged.json" in done[0]
    assert (directory / "manifest.damaged.json").read_bytes() == damaged
    assert CorpusManifest.load(directory) == replace(manifest, source=[])
    assert problems(directory) == []


def test_a_manifest_is_not_made_from_shards_that_are_not_a_whole_corpus(
    corpus: tuple[Path, CorpusManifest],
) -> None:
    directory, manifest = corpus
    kept = {name: (directory / name).read_bytes() for name in list_names(directory)}
    (directory / MANIFEST_NAME).unlink()
    files = [part.file for part in manifest.partitions]

    def refused(because: str) -> None:
        found = problems(directory)
        assert because in "\n".join(problem.message for problem in found)
        assert mend(found)[0] == []
        assert not (directory / MANIFEST_NAME).exists()

    (directory / files[1]).rename(directory / "away")
    refused("the shards of partitions 1 to 1 are lost")
    (directory / "away").rename(directory / files[1])
    flip(directory / files[2])
    refused(f"{files[2]}: has another SHA-256 than its name says")
    (directory / files[2]).write_bytes(kept[files[2]])
    second = write_partition(directory, 1, records=[record(i, num_qas=2) for i in (3, 4, 5)])
    refused("there is another shard of partition 1")
    (directory / second.file).unlink()
    values = json.loads(kept[MANIFEST_NAME]) | {"skipped": None}
    (directory / MANIFEST_NAME).write_text(json.dumps(values))
    (directory / files[2]).unlink()
    found = problems(directory)
    assert f"{files[2]}: no such file, and the manifest names it" in messages(directory)
    assert mend(found)[0] == []  # dense ids, but not all of them


def test_shards_of_a_stopped_prepare_are_not_taken_for_a_whole_corpus(
    corpus: tuple[Path, CorpusManifest],
) -> None:
    directory, _ = corpus
    (directory / MANIFEST_NAME).unlink()
    (directory / "work").mkdir()
    age(directory)
    found = problems(directory)
    assert "the same command goes on with it" in found[0].message
    assert mend(found)[0] == []
    assert (directory / "work").is_dir()


def test_a_manifest_of_another_version_is_left_alone(corpus: tuple[Path, CorpusManifest]) -> None:
    directory, _ = corpus
    text = (directory / MANIFEST_NAME).read_text().replace('"version": 3', '"version": 4')
    (directory / MANIFEST_NAME).write_text(text)
    found = problems(directory)
    assert "version 4 can't be read" in found[0].message
    assert mend(found)[0] == []
    assert (directory / MANIFEST_NAME).read_text() == text


def test_leftovers_go_when_nothing_was_written_for_an_hour(
    corpus: tuple[Path, CorpusManifest],
) -> None:
    directory, _ = corpus
    before = list_names(directory)
    write_partition(directory, 1, records=[record(i, num_qas=2) for i in (3, 4, 5)])
    (directory / ".part-00009.0123abcd.tmp").write_bytes(b"half")
    (directory / "work").mkdir()
    (directory / "work" / "split-000000.bin").write_bytes(b"x")
    (directory / "notes.txt").write_text("the user's own")
    found = problems(directory)
    assert len(found) == 4  # a shard, its index, a temporary file, work/
    assert all("--repair does so when nothing was written there for an hour" in p.message
               for p in found)  # fmt: skip
    assert mend(found)[0] == []
    age(directory)
    (directory / "work" / "packed-000000.json").write_bytes(b"{}")
    assert len(mend(problems(directory))[0]) == 3, "a prepare may be at work in work/"
    assert (directory / "work").is_dir()
    age(directory)
    done, left = mend(problems(directory))
    assert (len(done), left) == (1, [])
    assert list_names(directory) == sorted([*before, "notes.txt"])


def test_records_that_are_written_otherwise_are_named(tmp_path: Path) -> None:
    documents = [
        b'{"id":0,"key":"a","title":"t","text":"x", "augmentation":null}',
        b'{"id":1,"key":"a","title":"t","text":"x","text":"y","augmentation":null}',
        b'{"id":2,"key":"a","title":"t","text":1,"augmentation":null}',
        b'{"id":3,"key":"a","title":"t","text":"x","augmentation":null}',
    ]
    forged = write_shard(tmp_path, 0, first_id=0, documents=documents)
    CorpusManifest(["x"], 4, 4, (forged,)).save(tmp_path)
    found = [p.message for p in verify_corpus(str(tmp_path)).problems if forged.file in p.message]
    assert "member 000000000000.json: isn't written as polyprag writes it" in found[0]
    assert "member 000000000001.json: isn't written as polyprag writes it" in found[1]
    assert "member 000000000002.json: Expected `str`, got `int` - at `$.text`" in found[2]
    assert len(found) == 3


def test_a_corpus_in_object_storage_is_verified_and_mended(s3: str) -> None:
    corpus_dir = f"{s3}/run/corpus"
    manifest = write(corpus_dir)
    assert problems(corpus_dir) == []
    remove(join(corpus_dir, index_name(manifest.partitions[0].file)))
    remove(join(corpus_dir, MANIFEST_NAME))
    mend(problems(corpus_dir))  # the manifest
    mend(problems(corpus_dir))  # the index
    assert problems(corpus_dir) == []
    remove(join(corpus_dir, manifest.partitions[1].file))
    assert f"{manifest.partitions[1].file}: no such file" in messages(corpus_dir)
    stray = write_partition(corpus_dir, 5, records=[record(9)])
    found = problems(corpus_dir)
    assert stray.file in "\n".join(p.file for p in found)
    mend(found)
    assert read_bytes(join(corpus_dir, stray.file)), "it is too young to be a leftover"
