import gc
import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.corpus.partitions import write_partition
from sharding.corpus.passages import QA, Augmentation, Passage, Record, to_json
from sharding.corpus.reader import Corpus
from sharding.corpus.shard_index import index_name
from sharding.corpus.tar import pack_shard
from sharding.errors import CorpusError, FileError, StorageError

MakeCorpus = Callable[..., CorpusManifest]
RECORDS = [
    Record(
        Passage(i, f"key-{i}", "Tïtle", "Text. " * i),
        Augmentation(("Reworded.",), (QA("Q?", "A", "It is A."),)) if i % 2 else None,
    )
    for i in range(12)
]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("corpus")]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Three partitions of 5, 5 and 2 passages."""
    parts = tuple(
        write_partition(tmp_path, number, records=RECORDS[start : start + 5])
        for number, start in enumerate(range(0, 12, 5))
    )
    CorpusManifest(source=["x"], num_passages=12, partition_size=5, partitions=parts).save(tmp_path)
    return Corpus.open(tmp_path)


def with_shard(corpus: Corpus, data: bytes, *, num_passages: int = 5) -> tuple[Corpus, Partition]:
    """The corpus with other bytes as partition 1, and a hostile manifest that fits them."""
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"part-00001-{sha256[:12]}.tar"
    Path(corpus.directory, name).write_bytes(data)
    partition = Partition(1, 5, num_passages, name, len(data), sha256, False, {})
    first, _, last = corpus.manifest.partitions
    manifest = replace(corpus.manifest, partitions=(first, partition, last))
    return Corpus(corpus.directory, manifest), partition


def tar_of(
    change: Callable[[int, tarfile.TarInfo], None] = lambda i, info: None,
    records: list[Record] = RECORDS[5:10],
    mode: str = "w",
    format: int = tarfile.USTAR_FORMAT,
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=format) as tar:  # type: ignore[call-overload]
        for i, record in enumerate(records):
            data = to_json(record)
            info = tarfile.TarInfo(f"{record.passage.id:012d}.json")
            info.size, info.mode, info.uname, info.gname = len(data), 0o444, "polyprag", "polyprag"
            change(i, info)
            tar.addfile(info, io.BytesIO(data) if info.isreg() else None)
    content = buffer.getvalue().rstrip(b"\0")  # which tarfile fills up to 10 KiB
    return content + b"\0" * (-len(content) % 512 + 1024)


def test_partitions_and_all_together_give_the_records(corpus: Corpus) -> None:
    parts = corpus.manifest.partitions
    assert [corpus.records(part) for part in parts] == [RECORDS[:5], RECORDS[5:10], RECORDS[10:]]
    for prefetch in (1, 5):
        assert list(corpus.iterate(prefetch=prefetch)) == RECORDS
    assert list(corpus.iterate(parts[::-1])) == RECORDS[10:] + RECORDS[5:10] + RECORDS[:5]
    assert list(corpus.iterate([])) == []


def test_each_passage_is_found_by_its_id(corpus: Corpus) -> None:
    assert [corpus.record(i) for i in range(12)] == RECORDS
    for passage_id in (-1, 12):
        with pytest.raises(CorpusError, match=rf"no passage {passage_id}; ids go from 0 to 11"):
            corpus.record(passage_id)


def test_one_passage_is_read_without_reading_its_shard(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Corpus, "shard", None)
    assert corpus.record(7) == RECORDS[7]


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_an_index_that_is_missing_damaged_or_foreign_is_made_again(
    corpus: Corpus, damage: bytes | None
) -> None:
    names = [index_name(corpus.url(part)) for part in corpus.manifest.partitions]
    good = Path(names[1]).read_bytes()
    if damage is None:
        os.replace(names[0], names[1])
    elif damage:
        Path(names[1]).write_bytes(damage)
    else:
        os.remove(names[1])
    assert corpus.record(6) == RECORDS[6]
    assert Path(names[1]).read_bytes() == good


def test_an_index_that_cannot_be_saved_is_used_all_the_same(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.remove(index_name(corpus.url(corpus.manifest.partitions[1])))

    def refuse(*args: object) -> None:
        raise FileError("http:// is read-only")

    monkeypatch.setattr("sharding.corpus.reader.save_index", refuse)
    assert corpus.record(6) == RECORDS[6]


def test_a_storage_that_fails_is_no_damage_of_the_corpus(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise StorageError("s3://b: the storage failed 6 times in a row")

    for module in ("storage.verified", "corpus.reader", "corpus.shard_index"):
        monkeypatch.setattr(f"sharding.{module}.read_bytes", fail)
    monkeypatch.setattr("sharding.storage.versioned.read_small", fail)
    for read in (corpus.shard, corpus.records):
        with pytest.raises(StorageError):
            read(corpus.manifest.partitions[1])
    with pytest.raises(StorageError):
        corpus.record(6)
    with pytest.raises(StorageError):
        Corpus.open(corpus.directory)
    assert not issubclass(StorageError, CorpusError) and StorageError("").exit_status == 75


def test_a_shard_that_changes_under_an_open_corpus_is_found_out(corpus: Corpus) -> None:
    partition = corpus.manifest.partitions[1]
    assert corpus.record(6) == RECORDS[6]
    shard = Path(corpus.url(partition))
    data = shard.read_bytes()
    shard.write_bytes(data.replace(b"key-6", b"key-9"))
    with pytest.raises(CorpusError, match=rf"{partition.file}: SHA-256 differs"):
        corpus.record(6)
    shard.write_bytes(data)
    assert corpus.record(6) == RECORDS[6]


def set_name(name: str) -> Callable[[int, tarfile.TarInfo], None]:
    return lambda i, info: setattr(info, "name", name) if i == 2 else None


def set_type(kind: bytes) -> Callable[[int, tarfile.TarInfo], None]:
    def change(i: int, info: tarfile.TarInfo) -> None:
        if i == 2:
            info.type, info.linkname, info.size = kind, "/etc/passwd", 0

    return change


def set_header(**fields: object) -> Callable[[int, tarfile.TarInfo], None]:
    def change(i: int, info: tarfile.TarInfo) -> None:
        if i == 2:
            for name, value in fields.items():
                setattr(info, name, value)

    return change


SPARSE = {
    "GNU.sparse.major": "0",
    "GNU.sparse.minor": "1",
    "GNU.sparse.map": "0,0",
    "GNU.sparse.size": str(1 << 40),
}


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (tar_of(set_name("../../evil.json")), r"member '\.\./\.\./evil\.json': expected"),
        (tar_of(set_name("000000000006.json")), r"member '000000000006\.json': expected"),
        (tar_of(set_name("__meta__.json")), r"member '__meta__\.json': expected"),
        (tar_of(set_type(tarfile.SYMTYPE)), "member '000000000007.json': must be a plain file"),
        (tar_of(set_type(tarfile.LNKTYPE)), "member '000000000007.json': must be a plain file"),
        (tar_of(set_type(tarfile.FIFOTYPE)), "member '000000000007.json': must be a plain file"),
        (tar_of(set_type(tarfile.DIRTYPE)), "member '000000000007.json/': must be a plain file"),
        (tar_of(set_type(tarfile.CONTTYPE)), "member '000000000007.json': must be a plain file"),
        (tar_of(set_header(mtime=7)), "member '000000000007.json': has another header"),
        (tar_of(set_header(uid=7)), "member '000000000007.json': has another header"),
        (
            tar_of(set_header(pax_headers=SPARSE), format=tarfile.PAX_FORMAT),
            "member '.*PaxHeader.*': must be a plain file",
        ),
        (
            tar_of(set_name("n" * 101), format=tarfile.GNU_FORMAT),
            "member '000000000005.json': has another header",
        ),
        (tar_of(records=RECORDS[5:9]), "after 4 members, there is no more of them"),
        (tar_of(records=RECORDS[5:11]), "more than the 5 members"),
        (tar_of(mode="w:gz"), "not a readable tar after 0 members, there is something else"),
        (b"not a tar at all" * 100, "not a readable tar after 0 members"),
        (b"", "holds 0 members where the manifest says 5"),
        (b"\0" * 10240, "after 0 members, there is no more of them"),
    ],
)
def test_other_members_than_the_manifests_are_refused(
    corpus: Corpus, data: bytes, named: str
) -> None:
    hostile, partition = with_shard(corpus, data)
    for read in (lambda: hostile.records(partition), lambda: hostile.record(7)):
        with pytest.raises(CorpusError, match=rf"{partition.file}.*{named}"):
            read()


def test_the_tars_above_are_refused_for_their_change_only(corpus: Corpus) -> None:
    same, partition = with_shard(corpus, tar_of())
    assert same.records(partition) == RECORDS[5:10]


@pytest.mark.parametrize(
    ("document", "named"),
    [
        (to_json(RECORDS[3]), "holds passage 3"),
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "object"),
        (to_json(RECORDS[7]) + b",", "not valid JSON"),
        (to_json(RECORDS[7]).replace(b'"text":', b'"words":'), "words"),
        (b'{"id":7,"key":"","title":"","augmentation":' + b"[" * 100_000, r"\$\.augmentation"),
    ],
)
def test_what_is_no_record_is_refused_by_shard_and_member(
    corpus: Corpus, document: bytes, named: str
) -> None:
    documents = [to_json(record) for record in RECORDS[5:10]]
    documents[2] = document
    hostile, partition = with_shard(corpus, bytes(pack_shard(5, documents)[0]))
    for read in (lambda: hostile.records(partition), lambda: hostile.record(7)):
        with pytest.raises(
            CorpusError, match=rf"{partition.file}, member 000000000007\.json: .*{named}"
        ):
            read()


@pytest.mark.parametrize("num_passages", [4, 6, 10**15])
def test_a_manifest_that_counts_otherwise_is_refused(corpus: Corpus, num_passages: int) -> None:
    hostile, partition = with_shard(corpus, tar_of(), num_passages=num_passages)
    with pytest.raises(CorpusError, match=rf"{partition.file}: .*members"):
        hostile.records(partition)


def test_a_damaged_shard_is_met_after_the_records_before_it(corpus: Corpus) -> None:
    partition = corpus.manifest.partitions[1]
    os.truncate(corpus.url(partition), 1000)
    records = corpus.iterate()
    assert [next(records) for _ in range(5)] == RECORDS[:5]
    with pytest.raises(CorpusError, match=rf"{partition.file}: holds 1000 bytes"):
        next(records)


def test_leaving_or_forgetting_an_iteration_ends_its_thread(corpus: Corpus) -> None:
    records = corpus.iterate()
    next(records)
    records.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("corpus")]
    forgotten = corpus.iterate()
    next(forgotten)
    del forgotten
    gc.collect()


def test_shards_come_through_the_cache_where_the_corpus_is_remote(
    corpus: Corpus, tmp_path: Path
) -> None:
    asked: list[tuple[str, str, int]] = []

    class Cache:
        def get(self, url: str, *, sha256: str, num_bytes: int, remedy: str) -> bytes:
            asked.append((url, sha256, num_bytes))
            return (tmp_path / url.rpartition("/")[2]).read_bytes()

    part = corpus.manifest.partitions[1]
    remote = Corpus("s3://bucket/run/corpus", corpus.manifest, cache=Cache())  # type: ignore[arg-type]
    assert remote.records(part) == RECORDS[5:10]
    assert asked == [(f"s3://bucket/run/corpus/{part.file}", part.sha256, part.num_bytes)]
    local = Corpus(tmp_path, corpus.manifest, cache=Cache())  # type: ignore[arg-type]
    assert local.records(part) == RECORDS[5:10]
    assert len(asked) == 1
