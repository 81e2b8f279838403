import hashlib
import os
import tarfile
from pathlib import Path

import pytest
import webdataset

from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.corpus.partitions import (
    check_shard,
    remove_unnamed_shards,
    write_partition,
    write_shard,
)
from sharding.corpus.passages import QA, Augmentation, Passage, Record, to_json
from sharding.errors import CorpusError
from sharding.storage.files import list_names

RECORDS = [
    Record(
        Passage(i, f"key-{i}", "Tïtle", "Text."),
        Augmentation(("Reworded.",), (QA("Q?", "A", "It is A."),)) if i % 2 else None,
    )
    for i in range(40, 45)
]


def write(directory: Path) -> Partition:
    return write_partition(directory, 3, records=RECORDS, augmented=True, counts={"qa": 2})


def test_the_manifests_entry_says_what_was_written(tmp_path: Path) -> None:
    partition = write(tmp_path)
    assert (partition.index, partition.first_id, partition.num_passages) == (3, 40, 5)
    assert (partition.augmented, partition.counts) == (True, {"qa": 2})
    data = (tmp_path / partition.file).read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (partition.num_bytes, partition.sha256)
    assert partition.file == f"part-00003-{partition.sha256[:12]}.tar"
    check_shard(tmp_path, partition)


def test_equal_records_give_equal_bytes_however_they_are_written(tmp_path: Path) -> None:
    first = write(tmp_path / "a")
    documents = [to_json(record) for record in RECORDS]
    second = write_shard(
        tmp_path / "b", 3, first_id=40, documents=documents, augmented=True, counts={"qa": 2}
    )
    assert first == second
    for name in list_names(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_webdataset_reads_a_shard_as_its_own(tmp_path: Path) -> None:
    partition = write(tmp_path)
    samples = list(webdataset.WebDataset(str(tmp_path / partition.file), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"{i:012d}" for i in range(40, 45)]
    assert [sample["json"] for sample in samples] == [to_json(record) for record in RECORDS]


def test_python_tarfile_finds_no_time_and_no_owner_in_a_shard(tmp_path: Path) -> None:
    partition = write(tmp_path)
    with tarfile.open(tmp_path / partition.file) as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname) for m in tar} == {(0, 0, 0, "polyprag")}


@pytest.mark.parametrize("records", [[], RECORDS[::2], RECORDS[::-1]])
def test_ids_must_be_consecutive(tmp_path: Path, records: list[Record]) -> None:
    with pytest.raises(ValueError, match=r"consecutive|at least one"):
        write_partition(tmp_path, 0, records=records)
    assert list_names(tmp_path) == []


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    partition = write(tmp_path)
    (tmp_path / partition.file).unlink()
    with pytest.raises(CorpusError, match=rf"{partition.file}: no such file"):
        check_shard(tmp_path, partition)


def test_a_changed_byte_is_found_by_the_checksum(tmp_path: Path) -> None:
    partition = write(tmp_path)
    data = bytearray((tmp_path / partition.file).read_bytes())
    data[600] ^= 1
    (tmp_path / partition.file).write_bytes(data)
    with pytest.raises(CorpusError, match=rf"{partition.file}: SHA-256 differs"):
        check_shard(tmp_path, partition)


@pytest.mark.parametrize("size", [0, 100, 1 << 40])
def test_a_shard_of_another_size_is_refused_before_it_is_read(tmp_path: Path, size: int) -> None:
    partition = write(tmp_path)
    os.truncate(tmp_path / partition.file, size)
    with pytest.raises(CorpusError, match=rf"{partition.file}: holds {size} bytes where"):
        check_shard(tmp_path, partition)


def test_only_shards_and_indexes_that_nobody_names_are_removed(tmp_path: Path) -> None:
    kept = write(tmp_path)
    for name in (
        "part-00003-000000000000.tar",
        "part-00003-000000000000.idx",
        ".part-00003-000000000000.tar.0123abcd.tmp",
        "notes.txt",
        "notes.idx",
        "part-me.tar",
    ):
        (tmp_path / name).write_bytes(b"")
    manifest = CorpusManifest(
        source=["x"], num_passages=kept.num_passages, partition_size=5, partitions=(kept,)
    )
    remove_unnamed_shards(tmp_path, manifest)
    index = kept.file.replace(".tar", ".idx")
    assert list_names(tmp_path) == sorted(
        [kept.file, index, "notes.idx", "notes.txt", "part-me.tar"]
    )
