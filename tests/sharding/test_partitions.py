import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import webdataset

from sharding.errors import CorpusError
from sharding.files import list_names
from sharding.manifest import CorpusManifest, Partition
from sharding.partitions import (
    check_shard,
    read_partition,
    remove_unnamed_shards,
    write_partition,
)
from sharding.passages import QA, Augmentation, Passage, Record, to_json

RECORDS = [
    Record(
        Passage(i, f"key-{i}", "Tïtle", "Text."),
        Augmentation(("Reworded.",), (QA("Q?", "A", "It is A."),)) if i % 2 else None,
    )
    for i in range(40, 45)
]


def write(directory: Path) -> Partition:
    return write_partition(directory, 3, records=RECORDS, augmented=True, counts={"qa": 2})


def as_written(directory: Path, data: bytes) -> Partition:
    """A manifest entry that fits whatever bytes, as a hostile manifest's would."""
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"part-00003-{sha256[:12]}.tar"
    (directory / name).write_bytes(data)
    return Partition(3, 40, len(RECORDS), name, len(data), sha256)


def tar_of(
    change: Callable[[int, tarfile.TarInfo], None] = lambda i, info: None,
    records: list[Record] = RECORDS,
    mode: str = "w",
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for i, record in enumerate(records):
            data = to_json(record)
            info = tarfile.TarInfo(f"{record.passage.id:012d}.json")
            info.size = len(data)
            change(i, info)
            tar.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return buffer.getvalue()


def test_records_are_read_back_in_order(tmp_path: Path) -> None:
    partition = write(tmp_path)
    assert list(read_partition(tmp_path, partition, verify=True)) == RECORDS
    assert (partition.first_id, partition.num_passages) == (40, 5)
    assert (partition.augmented, partition.counts) == (True, {"qa": 2})


def test_equal_records_give_equal_bytes_under_the_name_of_their_hash(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    assert first == second
    data = (tmp_path / "a" / first.file).read_bytes()
    assert data == (tmp_path / "b" / second.file).read_bytes()
    assert hashlib.sha256(data).hexdigest() == first.sha256
    assert first.file == f"part-00003-{first.sha256[:12]}.tar"
    assert len(data) == first.num_bytes


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
    with pytest.raises(ValueError, match="consecutive"):
        write_partition(tmp_path, 0, records=records)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    partition = write(tmp_path)
    (tmp_path / partition.file).unlink()
    with pytest.raises(CorpusError, match=rf"{partition.file}: no such file"):
        list(read_partition(tmp_path, partition))


def test_a_changed_byte_is_found_by_the_checksum(tmp_path: Path) -> None:
    partition = write(tmp_path)
    data = bytearray((tmp_path / partition.file).read_bytes())
    data[600] ^= 1
    (tmp_path / partition.file).write_bytes(data)
    with pytest.raises(CorpusError, match=rf"{partition.file}: SHA-256 differs"):
        list(read_partition(tmp_path, partition, verify=True))
    with pytest.raises(CorpusError, match=rf"{partition.file}: SHA-256 differs"):
        check_shard(tmp_path, partition)


def test_a_truncated_shard_is_named_wherever_it_was_cut(tmp_path: Path) -> None:
    data = tar_of()
    for length in range(0, 5 * 1024, 256):
        partition = as_written(tmp_path, data[:length])
        with pytest.raises(CorpusError, match=rf"{partition.file}: "):
            list(read_partition(tmp_path, partition, verify=True))
        with pytest.raises(CorpusError, match=rf"{partition.file}: holds {length} bytes"):
            list(read_partition(tmp_path, replace(partition, num_bytes=len(data))))


def set_name(name: str) -> Callable[[int, tarfile.TarInfo], None]:
    return lambda i, info: setattr(info, "name", name) if i == 2 else None


def set_type(kind: bytes) -> Callable[[int, tarfile.TarInfo], None]:
    def change(i: int, info: tarfile.TarInfo) -> None:
        if i == 2:
            info.type, info.linkname, info.size = kind, "/etc/passwd", 0

    return change


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (tar_of(set_name("../../evil.json")), r"member '\.\./\.\./evil\.json'"),
        (tar_of(set_name("000000000041.json")), r"member '000000000041\.json'"),
        (tar_of(set_name("__meta__.json")), r"member '__meta__\.json'"),
        (tar_of(set_type(tarfile.SYMTYPE)), "member '000000000042.json': must be a plain file"),
        (tar_of(set_type(tarfile.FIFOTYPE)), "member '000000000042.json': must be a plain file"),
        (tar_of(set_type(tarfile.DIRTYPE)), "member '000000000042.json': must be a plain file"),
        (tar_of(records=RECORDS[:-1]), "holds 4 members where the manifest says 5"),
        (tar_of(mode="w:gz"), "not a readable tar"),
        (b"not a tar at all" * 100, "not a readable tar"),
    ],
)
def test_other_members_than_the_manifests_are_refused(
    tmp_path: Path, data: bytes, named: str
) -> None:
    partition = as_written(tmp_path, data)
    with pytest.raises(CorpusError, match=rf"{partition.file}.*{named}"):
        list(read_partition(tmp_path, partition, verify=True))


def test_a_sparse_member_that_claims_a_terabyte_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("000000000040.json")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,0",
        "GNU.sparse.size": str(1 << 40),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    partition = as_written(tmp_path, buffer.getvalue())
    with pytest.raises(CorpusError, match="must be a plain file"):
        list(read_partition(tmp_path, partition))


def test_a_record_under_another_members_name_is_refused(tmp_path: Path) -> None:
    swapped = [RECORDS[0], RECORDS[0], *RECORDS[2:]]
    names = [f"{i:012d}.json" for i in range(40, 45)]
    data = tar_of(lambda i, info: setattr(info, "name", names[i]), swapped)
    partition = as_written(tmp_path, data)
    with pytest.raises(CorpusError, match=r"member 000000000041\.json: holds passage 40"):
        list(read_partition(tmp_path, partition))


def test_only_shards_that_nobody_names_are_removed(tmp_path: Path) -> None:
    kept = write(tmp_path)
    for name in (
        "part-00003-000000000000.tar",
        ".part-00003-000000000000.tar.0123abcd.tmp",
        "notes.txt",
        "part-me.tar",
    ):
        (tmp_path / name).write_bytes(b"")
    manifest = CorpusManifest(["x"], kept.num_passages, 5, (kept,))
    remove_unnamed_shards(tmp_path, manifest)
    assert list_names(tmp_path) == sorted([kept.file, "notes.txt", "part-me.tar"])
