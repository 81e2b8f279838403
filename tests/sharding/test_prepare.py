import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sharding.errors import CorpusError
from sharding.files import list_names, sha256_of
from sharding.manifest import CorpusManifest
from sharding.partitions import read_partition, write_partition
from sharding.prepare import prepare


def write_source(path: Path, ids: range, extra: bytes = b"") -> str:
    lines = [json.dumps({"id": f"k{i}", "title": f"T{i}", "text": f"Text {i}."}) for i in ids]
    path.write_bytes("".join(line + "\n" for line in lines).encode() + extra)
    return str(path)


@pytest.fixture
def source(tmp_path: Path) -> str:
    return write_source(tmp_path / "a.jsonl", range(10))


def keys(corpus_dir: Path) -> list[str]:
    manifest = CorpusManifest.load(corpus_dir)
    return [
        record.passage.key
        for partition in manifest.partitions
        for record in read_partition(corpus_dir, partition, verify=True)
    ]


def snapshot(corpus_dir: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in corpus_dir.iterdir()}


def test_files_become_partitions_of_dense_ids_in_their_order(tmp_path: Path, source: str) -> None:
    other = write_source(tmp_path / "b.jsonl", range(10, 15))
    done: list[int] = []
    manifest = prepare([source, other], tmp_path / "c", partition_size=4, progress=done.append)
    assert manifest == CorpusManifest.load(tmp_path / "c")
    assert manifest.num_passages == sum(done) == 15
    assert [part.num_passages for part in manifest.partitions] == [4, 4, 4, 3]
    assert manifest.source == [source, other]
    assert manifest.source_sha256 == [sha256_of(source), sha256_of(other)]
    assert keys(tmp_path / "c") == [f"k{i}" for i in range(15)]
    names = [part.file for part in manifest.partitions]
    assert list_names(tmp_path / "c") == sorted(["manifest.json", *names])
    for part in manifest.partitions:
        assert sha256_of(tmp_path / "c" / part.file) == part.sha256


def test_the_same_files_again_change_nothing(tmp_path: Path, source: str) -> None:
    first = prepare([source], tmp_path / "c", partition_size=4)
    before = snapshot(tmp_path / "c")
    done: list[int] = []
    assert prepare([source], tmp_path / "c", partition_size=4, progress=done.append) == first
    moved = Path(source).rename(tmp_path / "moved.jsonl")
    assert prepare([str(moved)], tmp_path / "c", partition_size=4) == first
    assert snapshot(tmp_path / "c") == before
    assert sum(done) == 10


def test_a_damaged_shard_is_found_when_run_again(tmp_path: Path, source: str) -> None:
    manifest = prepare([source], tmp_path / "c", partition_size=4)
    shard = tmp_path / "c" / manifest.partitions[1].file
    shard.write_bytes(b"x" * shard.stat().st_size)
    with pytest.raises(CorpusError, match=shard.name):
        prepare([source], tmp_path / "c", partition_size=4)
    assert prepare([source], tmp_path / "c", partition_size=4, overwrite=True) == manifest
    assert len(keys(tmp_path / "c")) == 10


def test_another_corpus_is_not_replaced_unless_told_to(tmp_path: Path, source: str) -> None:
    prepare([source], tmp_path / "c", partition_size=4)
    before = snapshot(tmp_path / "c")
    other = write_source(tmp_path / "b.jsonl", range(5))
    with pytest.raises(CorpusError, match=r"from other files \(.*a\.jsonl\).*--overwrite"):
        prepare([other], tmp_path / "c", partition_size=4)
    with pytest.raises(CorpusError, match=r"partition_size=4.*another RUN.*--overwrite"):
        prepare([source], tmp_path / "c", partition_size=5)
    assert snapshot(tmp_path / "c") == before
    manifest = prepare([other], tmp_path / "c", partition_size=4, overwrite=True)
    assert keys(tmp_path / "c") == [f"k{i}" for i in range(5)]
    assert len(list_names(tmp_path / "c")) == 1 + len(manifest.partitions)


def test_bad_lines_stop_or_are_left_out_and_counted(tmp_path: Path) -> None:
    bad = b'{"id": "x", "title": "X", "text": ""}\nnot json\n{"id": "k1"}\n'
    source = write_source(tmp_path / "a.jsonl", range(5), bad)
    with pytest.raises(CorpusError, match=r"a\.jsonl:6: empty text"):
        prepare([source], tmp_path / "c", partition_size=4)
    assert not (tmp_path / "c" / "manifest.json").exists()
    manifest = prepare([source], tmp_path / "c", partition_size=4, on_error="skip")
    assert manifest.skipped == {"bad JSON": 1, "empty text": 1, "missing field": 1}
    assert manifest.num_passages == 5
    with pytest.raises(CorpusError, match="left out 3 lines"):
        prepare([source], tmp_path / "c", partition_size=4, on_error="stop")


def test_ids_are_unique_over_all_files(tmp_path: Path, source: str) -> None:
    other = write_source(tmp_path / "b.jsonl", range(9, 12))
    with pytest.raises(CorpusError, match=r"b\.jsonl:1: duplicate id: 'k9'"):
        prepare([source, other], tmp_path / "c", partition_size=4)


@pytest.mark.parametrize("data", [b"", b"\n\n"])
def test_no_passages_is_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    with pytest.raises(CorpusError, match=r"a\.jsonl: no passages"):
        prepare([str(tmp_path / "a.jsonl")], tmp_path / "c", partition_size=4)
    with pytest.raises(CorpusError, match="no corpus file"):
        prepare([], tmp_path / "c", partition_size=4)


@pytest.mark.parametrize("save_every_s", [0.0, 1e9])
def test_a_stopped_run_is_continued_with_the_shards_it_wrote(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch, save_every_s: float
) -> None:
    monkeypatch.setattr("sharding.prepare.SAVE_EVERY_S", save_every_s)
    calls = count(1)

    def stop_at_the_third(_: int) -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare([source], tmp_path / "c", partition_size=3, progress=stop_at_the_third)
    before = snapshot(tmp_path / "c")
    written: list[int] = []

    def write(corpus_dir: Any, index: int, **rest: Any) -> Any:
        written.append(index)
        return write_partition(corpus_dir, index, **rest)

    monkeypatch.setattr("sharding.prepare.write_partition", write)
    manifest = prepare([source], tmp_path / "c", partition_size=3)
    assert written == [3]
    after = snapshot(tmp_path / "c")
    assert all(after[part.file] == before[part.file] for part in manifest.partitions[:3])
    assert set(after) == {"manifest.json", *(part.file for part in manifest.partitions)}
    assert manifest == prepare([source], tmp_path / "fresh", partition_size=3)


def test_what_a_stopped_run_left_is_not_trusted_blindly(tmp_path: Path, source: str) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare([source], tmp_path / "c", partition_size=4, progress=stop)
    (shard,) = (tmp_path / "c").glob("part-*.tar")
    shard.write_bytes(b"x" * shard.stat().st_size)
    prepare([source], tmp_path / "c", partition_size=4)
    assert keys(tmp_path / "c") == [f"k{i}" for i in range(10)]


def test_a_stopped_run_over_other_files_is_not_continued(tmp_path: Path, source: str) -> None:
    calls = count(1)

    def stop(_: int) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare([source], tmp_path / "c", partition_size=4, progress=stop)
    other = write_source(tmp_path / "b.jsonl", range(20, 32))
    prepare([other], tmp_path / "c", partition_size=4)
    assert keys(tmp_path / "c") == [f"k{i}" for i in range(20, 32)]
    assert len(list_names(tmp_path / "c")) == 4


def test_a_corpus_can_lie_in_any_file_system(source: str, tmp_path: Path) -> None:
    url = f"memory://test-prepare/{tmp_path.name}"
    manifest = prepare([source], url, partition_size=4)
    assert CorpusManifest.load(url) == manifest == prepare([source], url, partition_size=4)
    first = next(read_partition(url, manifest.partitions[0], verify=True))
    assert first.passage.key == "k0"
    assert len(list_names(url)) == 4
