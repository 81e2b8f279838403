"""Pipes, devices and endless files in the place of files: an error at once, and no wait."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from polyprag.config.files import load_config
from polyprag.evaluation.questions import read_questions
from polyprag.retrieval.parts.index_store import index_store_of, only_build
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.reader import Corpus
from sharding.errors import FileError, PolypragError
from sharding.ingest.prepare import prepare
from sharding.rows.file import load_rows, map_rows
from sharding.storage.files import (
    atomic_write,
    list_sizes,
    open_url,
    read_bytes,
    read_json,
    remove_directory,
    sha256_of,
    size_of,
)
from sharding.storage.local import open_append


def as_pipe(path: Path) -> None:
    os.mkfifo(path)


def as_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def as_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS = {"a pipe": as_pipe, "a socket": as_socket, "a device": as_device}
READERS: list[Callable[[Path], object]] = [
    read_bytes,
    read_json,
    open_url,
    sha256_of,
    size_of,
    load_rows,
    lambda path: load_config([path]),
    lambda path: read_questions(str(path)),
    lambda path: prepare([str(path)], path.parent / "corpus", partition_size=4),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", range(len(READERS)))
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str, reader: int) -> None:
    path = tmp_path / "passages.jsonl"
    KINDS[kind](path)
    with pytest.raises(PolypragError, match=f"passages.jsonl.*{kind}, not a file"):
        READERS[reader](path)


def test_a_pipe_as_a_shard_manifest_or_mapped_file_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "passages.jsonl"
    source.write_text('{"id": "1", "title": "t", "text": "x"}\n')
    manifest = prepare([str(source)], tmp_path / "corpus", partition_size=4)
    corpus = Corpus.open(tmp_path / "corpus")
    for name in (manifest.partitions[0].file, "manifest.json"):
        (tmp_path / "corpus" / name).unlink()
        os.mkfifo(tmp_path / "corpus" / name)
    with pytest.raises(PolypragError, match="a pipe"):
        corpus.records(manifest.partitions[0])
    with pytest.raises(PolypragError, match="a pipe"):
        CorpusManifest.load(tmp_path / "corpus")
    with pytest.raises(OSError, match="a pipe"):
        map_rows(tmp_path / "corpus" / "manifest.json")


def test_long_files_are_read_no_further_than_they_can_be_long(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a sparse terabyte
    with pytest.raises(FileError, match="more than"):
        read_json(path)
    with pytest.raises(PolypragError, match="more than"):
        CorpusManifest.load(tmp_path)
    with pytest.raises(PolypragError, match="at most 64 KiB"):
        load_config([path])


def test_a_link_that_leads_nowhere_is_listed(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "nothing")
    assert list(list_sizes(tmp_path)) == ["a"]


def test_removing_a_linked_directory_leaves_what_it_links_to(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("kept")
    (tmp_path / "router").symlink_to(elsewhere)
    remove_directory(tmp_path / "router")
    assert not (tmp_path / "router").is_symlink()
    assert (elsewhere / "precious").read_text() == "kept"


def test_links_are_neither_emptied_nor_added_to(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    run = tmp_path / "run"
    (run / "index").mkdir(parents=True)
    (run / "index" / ".lock").symlink_to(precious)
    store = index_store_of(run, cache_dir=None, cache_gb=0)
    with pytest.raises(PolypragError, match=r"\.lock: can't be locked"), only_build(store):
        pass
    with pytest.raises(OSError, match="Too many levels"):
        open_append(run / "index" / ".lock")
    with atomic_write(run / "index" / ".lock") as file:  # takes the link's place
        file.write(b"new")
    assert precious.read_text() == "kept"
