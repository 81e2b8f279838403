import gzip
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.passages import to_json
from sharding.corpus.reader import Corpus
from sharding.errors import CorpusError
from sharding.ingest import pack, parse_task
from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.prepare import prepare
from sharding.ingest.splits import save_split
from sharding.shown_progress import Advance
from sharding.storage.files import list_names, sha256_of
from sharding.task_pool import ProcessPool


def write_source(path: Path, ids: range, extra: bytes = b"") -> str:
    lines = [json.dumps({"id": f"k{i}", "title": f"T{i}", "text": f"Text {i}."}) for i in ids]
    path.write_bytes("".join(line + "\n" for line in lines).encode() + extra)
    return str(path)


@pytest.fixture
def source(tmp_path: Path) -> str:
    return write_source(tmp_path / "a.jsonl", range(10))


def passages(corpus_dir: Path) -> list[dict[str, Any]]:
    """Everything in a corpus, read with Python's own tarfile and json."""
    found = []
    for partition in CorpusManifest.load(corpus_dir).partitions:
        with tarfile.open(corpus_dir / partition.file) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                found.append(json.load(file))
    assert [passage["id"] for passage in found] == list(range(len(found)))
    return found


def keys(corpus_dir: Path) -> list[str]:
    return [passage["key"] for passage in passages(corpus_dir)]


def snapshot(corpus_dir: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in corpus_dir.iterdir()}


def contents(corpus_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in corpus_dir.iterdir()}


def files_of(manifest: CorpusManifest) -> set[str]:
    names = [partition.file for partition in manifest.partitions]
    return {"manifest.json", *names, *(name.replace(".tar", ".idx") for name in names)}


class Shown:
    """Takes down what is shown of each stage."""

    def __init__(self) -> None:
        self.stages: dict[str, tuple[int | None, int]] = {}

    @contextmanager
    def __call__(self, total: int | None, description: str, *, unit: str) -> Iterator[Advance]:
        done = 0

        def advance(more: int, note: str = "", /) -> None:
            nonlocal done
            done += more

        yield advance
        self.stages[description] = (total, done)


def test_files_become_partitions_of_dense_ids_in_their_order(tmp_path: Path, source: str) -> None:
    other = write_source(tmp_path / "b.jsonl", range(10, 15))
    shown = Shown()
    manifest = prepare([source, other], tmp_path / "c", partition_size=4, show=shown)
    assert manifest == CorpusManifest.load(tmp_path / "c")
    assert manifest.num_passages == 15
    assert shown.stages == {"reading": (1, 0), "writing partitions": (15, 15)}
    assert [part.num_passages for part in manifest.partitions] == [4, 4, 4, 3]
    assert manifest.source == [source, other]
    assert manifest.source_sha256 == [sha256_of(source), sha256_of(other)]
    assert keys(tmp_path / "c") == [f"k{i}" for i in range(15)]
    assert set(list_names(tmp_path / "c")) == files_of(manifest)
    for part in manifest.partitions:
        assert sha256_of(tmp_path / "c" / part.file) == part.sha256


def test_the_same_files_again_change_nothing(tmp_path: Path, source: str) -> None:
    first = prepare([source], tmp_path / "c", partition_size=4)
    before = snapshot(tmp_path / "c")
    shown = Shown()
    assert prepare([source], tmp_path / "c", partition_size=4, show=shown) == first
    assert shown.stages == {"checking": (10, 10)}
    moved = Path(source).rename(tmp_path / "moved.jsonl")
    assert prepare([str(moved)], tmp_path / "c", partition_size=4) == first
    assert snapshot(tmp_path / "c") == before


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
    assert set(list_names(tmp_path / "c")) == files_of(manifest)


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
        prepare([source, other], tmp_path / "c", partition_size=4, split_bytes=100)
    manifest = prepare([source, other], tmp_path / "c", partition_size=4, on_error="skip")
    assert manifest.skipped == {"duplicate id": 1}
    assert [passage["text"] for passage in passages(tmp_path / "c")][9:] == [
        "Text 9.",
        "Text 10.",
        "Text 11.",
    ]


def test_a_duplicate_in_the_middle_of_a_file_is_named_by_its_line(tmp_path: Path) -> None:
    again = b'{"id": "k77", "title": "", "text": "again"}\n{"id": "k3", "title": "", "text": "x"}\n'
    source = write_source(tmp_path / "a.jsonl", range(100), again)
    for split_bytes in (100, 1 << 20):
        with pytest.raises(CorpusError, match=r"a\.jsonl:101: duplicate id: 'k77'"):
            prepare([source], tmp_path / "c", partition_size=4, split_bytes=split_bytes)


def test_equal_passages_stay_once_when_asked_to(tmp_path: Path, source: str) -> None:
    lines = [
        {"id": "same", "title": "T3", "text": "Text 3."},
        {"id": "title", "title": "other", "text": "Text 3."},
        {"id": "moved", "title": "T3T", "text": "ext 3."},
    ]
    other = tmp_path / "b.jsonl"
    other.write_text("".join(json.dumps(line) + "\n" for line in lines))
    both = [source, str(other)]
    assert prepare(both, tmp_path / "all", partition_size=4).num_passages == 13
    manifest = prepare(
        both, tmp_path / "c", partition_size=4, drop_duplicates=True, split_bytes=100
    )
    assert manifest.skipped == {"duplicate text": 1}
    assert keys(tmp_path / "c") == [*(f"k{i}" for i in range(10)), "title", "moved"]
    assert prepare(both, tmp_path / "c", partition_size=4, drop_duplicates=True) == manifest
    with pytest.raises(CorpusError, match="made with drop_duplicates=True, and this is False"):
        prepare(both, tmp_path / "c", partition_size=4)


def test_cut_texts_keep_their_title_and_are_duplicates_as_a_whole(tmp_path: Path) -> None:
    words = [str(i) for i in range(25)]
    lines = [
        {"id": "a", "title": "A", "text": " ".join(words)},
        {"id": "b", "title": "B", "text": "short"},
        {"id": "a", "title": "C", "text": " ".join([*words, *words])},
        {"id": "a#2", "title": "D", "text": "an id that a cut text has"},
    ]
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options: dict[str, Any] = {"partition_size": 2, "chunk_words": 10}
    with pytest.raises(CorpusError, match=r"a\.jsonl:3: duplicate id: 'a"):
        prepare([str(source)], tmp_path / "c", **options)
    manifest = prepare([str(source)], tmp_path / "c", on_error="skip", **options)
    assert [(p["key"], p["title"], p["text"]) for p in passages(tmp_path / "c")] == [
        ("a#1", "A", " ".join(words[:10])),
        ("a#2", "A", " ".join(words[10:20])),
        ("a#3", "A", " ".join(words[20:])),
        ("b", "B", "short"),
    ]
    assert manifest.skipped == {"duplicate id": 6}
    assert manifest.options["chunk_words"] == 10


@pytest.mark.parametrize("data", [b"", b"\n\n"])
def test_no_passages_is_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    with pytest.raises(CorpusError, match=r"a\.jsonl: no passages"):
        prepare([str(tmp_path / "a.jsonl")], tmp_path / "c", partition_size=4)
    with pytest.raises(CorpusError, match="no corpus file"):
        prepare([], tmp_path / "c", partition_size=4)
    assert list_names(tmp_path / "c") == []


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPool]:
    with ProcessPool(2) as pool:
        yield pool


def write_all_kinds(directory: Path) -> list[str]:
    """Some 600 passages in every kind of file."""

    def rows(kind: str, number: int) -> list[dict[str, str]]:
        return [
            {"id": f"{kind}{i}", "title": f"T {i}", "text": f'{i} "é" and\n{i}, ' * (i % 7 + 1)}
            for i in range(number)
        ]

    def lines(kind: str) -> bytes:
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows(kind, 100))

    def tsv(kind: str) -> bytes:
        found = [
            "\t".join([row["id"], '"' + row["text"].replace('"', '""') + '"', row["title"]])
            for row in rows(kind, 100)
        ]
        return ("id\ttext\ttitle\n" + "\n".join(found)).encode()

    directory.mkdir()
    (directory / "1.jsonl").write_bytes(lines("plain"))
    (directory / "2.jsonl.gz").write_bytes(gzip.compress(lines("zip"), mtime=0))
    (directory / "3.jsonl.zst").write_bytes(zstandard.compress(lines("zst")))
    (directory / "4.tsv").write_bytes(tsv("tsv"))
    (directory / "5.tsv.gz").write_bytes(gzip.compress(tsv("tsvgz"), mtime=0))
    table = pa.Table.from_pylist(rows("pq", 100))
    pq.write_table(table, directory / "6.parquet", row_group_size=17)
    with pa.ipc.new_stream(str(directory / "7.arrow"), table.schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows("arrow", 100)), max_chunksize=13)
    return [str(directory)]


@pytest.mark.parametrize("split_bytes", [300, 5000, 1 << 24])
def test_bytes_depend_neither_on_workers_nor_on_splits(
    tmp_path: Path, processes: ProcessPool, split_bytes: int
) -> None:
    sources = write_all_kinds(tmp_path / "sources")
    manifest = prepare(sources, tmp_path / "one", partition_size=32)
    assert manifest.num_passages == 700
    prepare(sources, tmp_path / "inline", partition_size=32, split_bytes=split_bytes)
    prepare(sources, tmp_path / "many", partition_size=32, pool=processes, split_bytes=split_bytes)
    assert contents(tmp_path / "inline") == contents(tmp_path / "one")
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    names = sorted((tmp_path / "sources").iterdir())
    assert manifest.source_sha256 == [sha256_of(name) for name in names]


def test_shards_hold_records_as_to_json_writes_them(tmp_path: Path, source: str) -> None:
    manifest = prepare([source], tmp_path / "c", partition_size=4)
    corpus = Corpus.open(str(tmp_path / "c"))
    with tarfile.open(tmp_path / "c" / manifest.partitions[0].file) as tar:
        for record, member in zip(corpus.records(manifest.partitions[0]), tar, strict=True):
            file = tar.extractfile(member)
            assert file is not None and file.read() == to_json(record)


SCRIPT = """
import sys
from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.prepare import prepare
from sharding.task_pool import ProcessPool

if __name__ == "__main__":
    with ProcessPool(2) as pool:
        prepare([sys.argv[1]], sys.argv[2], partition_size=8, pool=pool, split_bytes=2000)
"""


def begin(tmp_path: Path, source: str) -> subprocess.Popen[bytes]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, script, source, tmp_path / "c"],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A shell starts what it sends to the background with the signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(pattern: str, number: int, work_dir: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(6000):
        if len(list(work_dir.glob(pattern))) >= number:
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    raise AssertionError(f"no {pattern}")


def processes_of(session: int) -> list[str]:
    """What runs in a session, zombies left out."""
    listed = subprocess.run(
        ["ps", "-e", "-o", "sid=,stat=,args="], capture_output=True, text=True, check=True
    )
    found = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [args for sid, stat, args in found if int(sid) == session and stat[0] != "Z"]


def wait_for_the_end_of(session: int) -> None:
    deadline = time.monotonic() + 60
    while processes_of(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(session) == []


@pytest.mark.parametrize("pattern", ["split-*", "packed-*"])
def test_a_killed_run_is_continued_with_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    source = write_source(tmp_path / "a.jsonl", range(10_000))
    process = begin(tmp_path, source)
    work_dir = tmp_path / "c" / "work"
    wait_for(pattern, 5, work_dir, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for_the_end_of(process.pid)
    assert not (tmp_path / "c" / "manifest.json").exists()

    splits = {path.name for path in work_dir.glob("split-*")}
    packs = {path.name for path in work_dir.glob("packed-*")}
    damaged = min(splits)
    (work_dir / damaged).write_bytes((work_dir / damaged).read_bytes()[:-1])
    saved, packed = [], []

    def save(url: str, split: Any) -> None:
        saved.append(url.rsplit("/", 1)[-1])
        save_split(url, split)

    def note(url: str, value: Any) -> None:
        packed.append(url.rsplit("/", 1)[-1])

    monkeypatch.setattr(parse_task, "save_split", save)
    monkeypatch.setattr(pack, "write_json", note)
    prepare([source], tmp_path / "c", partition_size=8, split_bytes=2000)
    assert damaged in saved and splits & set(saved) == {damaged}
    assert len(splits | set(saved)) > len(splits) or pattern == "packed-*"
    assert not packs & set(packed)
    assert packed and (packs or pattern == "split-*")
    monkeypatch.undo()
    prepare([source], tmp_path / "fresh", partition_size=8)
    assert contents(tmp_path / "c") == contents(tmp_path / "fresh")


def test_ctrl_c_leaves_no_process_behind(tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.jsonl", range(100_000))  # many seconds of work
    process = begin(tmp_path, source)
    wait_for("split-*", 5, tmp_path / "c" / "work", process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to all of them
    stderr = process.communicate(timeout=20)[1].decode()
    wait_for_the_end_of(process.pid)
    assert stderr.count("Traceback") == 1 and stderr.rstrip().endswith("KeyboardInterrupt")


def test_a_shard_that_was_damaged_since_a_stop_is_written_again(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count()

    class Stopped:
        num_workers = 1

        def map(self, function: Any, tasks: Any, *, num_bytes: Any = None) -> Any:
            for result in map(function, tasks):
                yield result
                if function is pack.write_pack and next(calls) == 1:
                    raise KeyboardInterrupt

    options: dict[str, Any] = {"partition_size": 1, "split_bytes": 50}
    with pytest.raises(KeyboardInterrupt):
        prepare([source], tmp_path / "c", pool=Stopped(), **options)
    first, *_, second = sorted((tmp_path / "c").glob("part-*.tar"))
    first.write_bytes(b"x" * first.stat().st_size)
    before = second.stat().st_mtime_ns
    prepare([source], tmp_path / "c", **options)
    assert keys(tmp_path / "c") == [f"k{i}" for i in range(10)]
    assert second.stat().st_mtime_ns == before


def test_a_stopped_run_over_other_files_is_not_continued(tmp_path: Path, source: str) -> None:
    bad = write_source(tmp_path / "b.jsonl", range(20, 32), b"not json\n")
    with pytest.raises(CorpusError, match="bad JSON"):
        prepare([bad], tmp_path / "c", partition_size=4, split_bytes=100)
    assert list((tmp_path / "c" / "work").iterdir())
    manifest = prepare([source], tmp_path / "c", partition_size=4, split_bytes=100)
    assert keys(tmp_path / "c") == [f"k{i}" for i in range(10)]
    assert set(list_names(tmp_path / "c")) == files_of(manifest)


def test_a_corpus_can_lie_in_any_file_system(source: str, tmp_path: Path) -> None:
    url = f"memory://test-prepare/{tmp_path.name}"
    manifest = prepare([source], url, partition_size=4)
    assert CorpusManifest.load(url) == manifest == prepare([source], url, partition_size=4)
    assert Corpus.open(url).records(manifest.partitions[0])[0].passage.key == "k0"
    assert set(list_names(url)) - {"work"} == files_of(manifest)


@pytest.mark.parametrize("ending", [".jsonl", ".json"])
def test_a_title_behind_the_first_rows_is_used(tmp_path: Path, ending: str) -> None:
    rows: list[dict[str, object]] = [{"id": n, "text": f"Text {n}."} for n in range(150)]
    rows[120]["title"], rows[130]["Page Title"], rows[140]["headline"] = "One", "Two", 3
    path = tmp_path / f"a{ending}"
    lines = "\n".join(map(json.dumps, rows))
    path.write_text(lines if ending == ".jsonl" else f"[{','.join(lines.splitlines())}]")
    prepare([str(path)], tmp_path / "corpus", partition_size=200)
    titles = {r.passage.key: r.passage.title for r in Corpus.open(tmp_path / "corpus").iterate()}
    assert {key: title for key, title in titles.items() if title} == {"120": "One", "130": "Two"}
    prepare([str(path)], tmp_path / "none", partition_size=200, fields=FieldMap(title=None))
    assert {r.passage.title for r in Corpus.open(tmp_path / "none").iterate()} == {""}


def test_an_id_behind_the_first_rows_is_told_with_its_row(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"text": f"Text {n}.", "n": n} for n in range(150)]
    rows[120]["_id"] = "x7"
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(CorpusError, match=r"a.jsonl:121: id in some .* _id='x7'.*--map id=NAME"):
        prepare([str(path)], tmp_path / "corpus", partition_size=200)
    kept = prepare([str(path)], tmp_path / "corpus", partition_size=200, on_error="skip")
    assert (kept.num_passages, kept.skipped) == (149, {"id in some rows only": 1})
    fields = FieldMap(id="n")
    assert prepare([str(path)], tmp_path / "n", partition_size=200, fields=fields).num_passages
