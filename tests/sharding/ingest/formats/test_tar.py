"""WebDataset shards, written by webdataset or by hand, sound or hostile, by way of `prepare`."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import webdataset as wds
import zstandard

from sharding.corpus.reader import Corpus
from sharding.errors import CorpusError
from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.formats import tar as tar_format
from sharding.ingest.prepare import prepare
from sharding.task_pool import ProcessPool

Rows = list[tuple[str, str, str]]


def read(source: Path, tmp_path: Path, **options: Any) -> Rows:
    corpus_dir = str(tmp_path / "corpus")
    prepare([str(source)], corpus_dir, partition_size=5, overwrite=True, **options)
    records = Corpus.open(corpus_dir).iterate()
    return [(r.passage.key, r.passage.title, r.passage.text) for r in records]


def member(name: str, data: bytes = b"", **changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in changes.items():
        setattr(info, field, value)
    return info, data


def passage(name: str, **changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, json.dumps({"title": "T", "text": f"Text of {name}."} | changes).encode())


def write(path: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return path


ROWS = [(str(i), f"T {i}", f"Text {i}, é.") for i in range(20)]


def write_shards(directory: Path, *, maxcount: int = 7) -> Path:
    directory.mkdir()
    pattern = str(directory / "shard-%03d.tar")
    with wds.ShardWriter(pattern, maxcount=maxcount, verbose=0) as writer:
        for key, title, text in ROWS:
            writer.write({"__key__": f"s{key}", "json": {"id": key, "title": title, "text": text}})
    return directory


@pytest.mark.parametrize("split_bytes", [1, 100, 1 << 20])
def test_shards_that_webdataset_wrote_are_read(tmp_path: Path, split_bytes: int) -> None:
    source = write_shards(tmp_path / "shards")
    assert read(source, tmp_path, split_bytes=split_bytes) == ROWS
    assert read(source / "*-00[01].tar", tmp_path) == ROWS[:14]


def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path) -> None:
    source = write_shards(tmp_path / "shards", maxcount=3)
    found = []
    for workers in (0, 2):
        corpus = tmp_path / f"corpus-{workers}"
        if workers:
            with ProcessPool(workers) as pool:
                prepare([str(source)], corpus, partition_size=4, pool=pool, split_bytes=99)
        else:
            prepare([str(source)], corpus, partition_size=4)
        found.append({path.name: path.read_bytes() for path in corpus.iterdir()})
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar.zst"])
def test_compressed_shards_are_read_and_cut_ones_are_errors(tmp_path: Path, name: str) -> None:
    (shard,) = write_shards(tmp_path / "shards", maxcount=99).iterdir()
    pack = zstandard.ZstdCompressor().compress if name.endswith("zst") else gzip.compress
    path = tmp_path / name
    path.write_bytes(pack(shard.read_bytes()))
    assert read(path, tmp_path) == ROWS
    path.write_bytes(path.read_bytes()[:-20])
    for on_error in ("stop", "skip"):
        with pytest.raises(CorpusError, match=rf"{name}:\d+: not readable: tar: truncated"):
            read(path, tmp_path, on_error=on_error)


def test_a_shard_behind_a_url_is_read_and_one_that_runs_a_command_is_refused(
    tmp_path: Path,
) -> None:
    import fsspec

    source = write_shards(tmp_path / "shards")
    for shard in source.iterdir():
        with fsspec.open(f"memory://{tmp_path.name}/{shard.name}", "wb") as file:
            file.write(shard.read_bytes())
    assert read(f"memory://{tmp_path.name}", tmp_path) == ROWS  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="refused"):
        read("pipe:touch x.tar", tmp_path)  # type: ignore[arg-type]


def test_texts_and_titles_may_be_members_and_the_key_is_the_id(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with wds.TarWriter(str(path)) as writer:
        writer.write({"__key__": "dir/a", "txt": "Text a.\n", "title": "A\n", "jpg": b"\xff"})
        writer.write({"__key__": "b", "txt": "Text b."})
        writer.write({"__key__": "c", "json": {"text": "Text c."}, "title": "C"})
        writer.write({"__key__": "d", "json": {"_id": 4, "body": "Text d.", "title": None}})
    assert read(path, tmp_path) == [
        ("dir/a", "A", "Text a.\n"),
        ("b", "", "Text b."),
        ("c", "C", "Text c."),
        ("4", "", "Text d."),
    ]


def test_fields_may_have_other_names(tmp_path: Path) -> None:
    data = json.dumps({"_id": 7, "contents": "Text.", "title": 3}).encode()
    path = write(tmp_path / "x.tar", [member("a.JSON", data), member("b.txt", b"Text b.")])
    fields = FieldMap(id="_id", title=None, text="contents")
    assert read(path, tmp_path, fields=fields) == [("7", "", "Text."), ("b", "", "Text b.")]


def test_a_corpus_of_polyprag_is_a_source_too(tmp_path: Path) -> None:
    source = write_shards(tmp_path / "shards")
    prepare([str(source)], tmp_path / "first", partition_size=6)
    found = read(tmp_path / "first", tmp_path)
    assert [row[1:] for row in found] == [row[1:] for row in ROWS]
    assert [row[0] for row in found] == [str(i) for i in range(20)]


LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([member("x.json", b"{")], "bad JSON: sample 'x': its .json member"),
        ([member("x.json", b"[1]")], "bad JSON: sample 'x'.*not an object"),
        ([member("x.json", b"[" * 100_000)], "bad JSON: sample 'x'"),
        ([member("x.json", b'{"text": "\xff", "title": ""}')], "bad UTF-8: sample 'x'"),
        ([member("x.txt", b"\xff")], r"bad UTF-8: sample 'x': its \.txt member"),
        ([member("x.txt", b"t"), member("x.title", b"\xff")], r"bad UTF-8.*its \.title member"),
        ([member("x.txt", b" \n")], "empty text: sample 'x'"),
        ([member("x.jpg", b"?")], r"missing field: sample 'x': it has neither"),
        ([passage("x.json", text=None)], "wrong type: sample 'x': text is not a string"),
        ([member("x.json", b'{"title": "t"}')], "missing field: sample 'x': text is not there"),
        ([passage("x.json"), passage("x.json")], r"duplicate member: sample 'x': its \.json"),
        ([member("x.json", **LINK)], r"not a plain file: sample 'x': its \.json member"),
        ([member("x.txt", type=tarfile.CHRTYPE)], "not a plain file: sample 'x'"),
        ([member("x.json", b" " * 2000)], r"member too large: sample 'x': its \.json member"),
        ([passage("x\udcff.json")], r"bad UTF-8: sample 'x\\udcff'"),
    ],
)
def test_a_bad_sample_stops_by_its_key_or_is_counted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bad: list[tuple[tarfile.TarInfo, bytes]],
    message: str,
) -> None:
    monkeypatch.setattr(tar_format, "MAX_SOURCE_MEMBER_BYTES", 1000)
    if len(bad[0][1]) > 2000:
        monkeypatch.setattr(tar_format, "MAX_SOURCE_MEMBER_BYTES", 1 << 20)
    path = write(tmp_path / "x.tar", [passage("a.json"), *bad, passage("b.json")])
    for split_bytes in (1, 1 << 20):
        with pytest.raises(CorpusError, match=rf"x\.tar:2: {message}.*--on-error skip"):
            read(path, tmp_path, split_bytes=split_bytes)
    assert [row[0] for row in read(path, tmp_path, on_error="skip")] == ["a", "b"]


def test_names_lead_nowhere_and_what_is_no_sample_is_nothing(tmp_path: Path) -> None:
    members = [
        member("docs/", type=tarfile.DIRTYPE),
        member("README", b"?"),
        member("__meta__/x.json", b"?"),
        passage("/etc/passwd.json"),
        passage("../../up.json"),
        member("up.__bad__", b"?"),
        member(".json", json.dumps({"id": "k", "title": "", "text": "t"}).encode()),
    ]
    path = write(tmp_path / "x.tar", members)
    keys = [row[0] for row in read(path, tmp_path)]
    assert keys == ["/etc/passwd", "../../up"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus", "x.tar"]


def test_one_key_in_two_places_is_a_duplicate_id(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tar", [passage("a.json"), passage("b.json"), passage("a.json")])
    with pytest.raises(CorpusError, match=r"x\.tar:3: duplicate id: 'a'"):
        read(path, tmp_path)


def test_a_shard_that_is_cut_anywhere_or_has_a_damaged_header_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tar", [passage(f"{i}.json") for i in range(3)])
    data = path.read_bytes()
    end = 3 * 1024
    for cut in (0, 100, 512, 600, 1024, 1100, 2048, end - 512, end):
        path.write_bytes(data[:cut])
        for on_error in ("stop", "skip"):
            with pytest.raises(CorpusError, match=r"x\.tar:\d: not readable: tar: .*again"):
                read(path, tmp_path, on_error=on_error)
    path.write_bytes(data[:1024] + b"\xff" + data[1025:])
    with pytest.raises(CorpusError, match=r"x\.tar:\d: not readable: tar: .*header is damaged"):
        read(path, tmp_path)
    path.write_bytes(data[: end + 512])  # one block of zeros, as some writers leave it
    assert len(read(path, tmp_path)) == 3


def test_headers_without_end_are_refused_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    name, _ = member("long", type=tarfile.GNUTYPE_LONGNAME)
    name.size = 1 << 40
    path.write_bytes(name.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    with pytest.raises(CorpusError, match="not readable: tar: a header of"):
        read(path, tmp_path)
    name.size = 3
    chain = (name.tobuf(tarfile.GNU_FORMAT) + b"abc".ljust(512, b"\0")) * 5000
    path.write_bytes(chain + bytes(2048))
    with pytest.raises(CorpusError, match="not readable: tar"):
        read(path, tmp_path)
