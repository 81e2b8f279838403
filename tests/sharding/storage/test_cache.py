import errno
import hashlib
import logging
import multiprocessing
import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sharding.errors import FileError
from sharding.storage.cache import ShardCache, cache_for, default_cache_dir


@pytest.fixture
def put(tmp_path: Path) -> Callable[[bytes], tuple[str, str]]:
    """Makes a source file; returns its URL and SHA-256."""

    def put(data: bytes) -> tuple[str, str]:
        sha256 = hashlib.sha256(data).hexdigest()
        source = tmp_path / "source" / sha256
        source.parent.mkdir(exist_ok=True)
        source.write_bytes(data)
        return str(source), sha256

    return put


def entries(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and path.name != "size"]


def taken(directory: Path) -> int:
    return sum(path.stat().st_size for path in entries(directory))


def test_a_second_use_needs_no_source(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]]
) -> None:
    cache = ShardCache(tmp_path / "cache", max_bytes=1000)
    url, sha256 = put(b"shard")
    assert cache.get(url, sha256=sha256, num_bytes=5, remedy="") == b"shard"
    os.remove(url)
    assert cache.get(url, sha256=sha256, num_bytes=5, remedy="") == b"shard"
    other = ShardCache(tmp_path / "cache", max_bytes=1000)  # another process's
    assert other.get(url, sha256=sha256, remedy="") == b"shard"


def test_the_least_recently_used_go_and_the_bound_holds(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]]
) -> None:
    cache = ShardCache(tmp_path / "cache", max_bytes=1000)
    files = [put(bytes([i]) * 100) for i in range(10)]
    for url, sha256 in files:
        cache.get(url, sha256=sha256, remedy="")
    for age, (_, sha256) in enumerate(files):  # the file system's clock may be coarse
        os.utime(tmp_path / "cache" / "shards" / sha256[:2] / sha256, (1000 + age, 1000 + age))
    cache.get(files[0][0], sha256=files[0][1], remedy="")  # used again: the youngest now
    url, sha256 = put(b"new" * 50)
    cache.get(url, sha256=sha256, remedy="")
    kept = {path.name for path in entries(tmp_path / "cache")}
    # 1,000 bytes and 150 more: room is made down to 900 with the new one.
    assert kept == {files[0][1], sha256, *(name for _, name in files[4:])}
    assert taken(tmp_path / "cache") <= 1000


def test_a_file_larger_than_the_cache_is_passed_through(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]]
) -> None:
    cache = ShardCache(tmp_path / "cache", max_bytes=10)
    url, sha256 = put(b"x" * 11)
    assert cache.get(url, sha256=sha256, remedy="") == b"x" * 11
    assert entries(tmp_path) == [Path(url)]


@pytest.mark.parametrize("damage", [b"", b"shar", b"shArd", b"shard and more"])
def test_a_damaged_entry_is_fetched_again(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]], damage: bytes
) -> None:
    cache = ShardCache(tmp_path / "cache", max_bytes=1000)
    url, sha256 = put(b"shard")
    cache.get(url, sha256=sha256, remedy="")
    (entry,) = entries(tmp_path / "cache")
    entry.write_bytes(damage)
    assert cache.get(url, sha256=sha256, remedy="") == b"shard"
    assert entry.read_bytes() == b"shard"
    assert int((tmp_path / "cache" / "shards" / "size").read_bytes()) >= 5


def test_another_file_than_promised_is_neither_returned_nor_kept(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]]
) -> None:
    cache = ShardCache(tmp_path / "cache", max_bytes=1000)
    url, sha256 = put(b"shard")
    Path(url).write_bytes(b"shark")
    with pytest.raises(FileError, match="SHA-256 differs"):
        cache.get(url, sha256=sha256, remedy="")
    with pytest.raises(FileError, match="holds 5 bytes where the manifest says 6"):
        cache.get(url, sha256=sha256, num_bytes=6, remedy="")
    assert entries(tmp_path / "cache") == []


def test_a_full_disk_costs_one_warning(
    tmp_path: Path,
    put: Callable[[bytes], tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(self: Path, data: bytes) -> int:
        with open(self, "wb") as file:
            file.write(data[:2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files = [put(b"one"), put(b"two")]
    cache = ShardCache(tmp_path / "cache", max_bytes=1000)
    monkeypatch.setattr(Path, "write_bytes", full)
    with caplog.at_level(logging.WARNING):
        assert [cache.get(url, sha256=sha, remedy="") for url, sha in files * 2] == [
            b"one",
            b"two",
        ] * 2
    assert entries(tmp_path / "cache") == []
    (record,) = caplog.records
    assert "No space left" in record.getMessage()
    assert "data.cache_dir" in record.getMessage()


def test_a_directory_that_cannot_be_made_costs_one_warning(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    cache = ShardCache(tmp_path / "file" / "cache", max_bytes=1000)
    url, sha256 = put(b"one")
    assert [cache.get(url, sha256=sha256, remedy="") for _ in range(3)] == [b"one"] * 3
    assert len(caplog.records) == 1


@pytest.mark.parametrize("count", [b"", b"garbage", b"9" * 20])
def test_a_lost_count_is_mended(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]], count: bytes
) -> None:
    directory = tmp_path / "cache"
    cache = ShardCache(directory, max_bytes=500)
    for i in range(4):
        url, sha256 = put(bytes([i]) * 100)
        cache.get(url, sha256=sha256, remedy="")
    (directory / "shards" / "size").write_bytes(count)
    for i in range(4, 20):
        url, sha256 = put(bytes([i]) * 100)
        assert cache.get(url, sha256=sha256, remedy="") == bytes([i]) * 100
        assert taken(directory) <= 500


def test_what_a_killed_writer_left_goes(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]]
) -> None:
    cache = ShardCache(tmp_path / "cache", max_bytes=100)
    url, sha256 = put(b"x" * 60)
    cache.get(url, sha256=sha256, remedy="")
    left = tmp_path / "cache" / "shards" / sha256[:2] / f".{sha256}.0123abcd.tmp"
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    url, sha256 = put(b"y" * 60)
    cache.get(url, sha256=sha256, remedy="")
    assert not left.exists()


def _hammer(directory: Path, files: list[tuple[str, str]], seed: int) -> int:
    """Reads files at random through a cache too small for them; returns the largest total seen."""
    cache = ShardCache(directory, max_bytes=3000)
    generator = random.Random(seed)
    most = 0
    for _ in range(300):
        number = generator.randrange(len(files))
        url, sha256 = files[number]
        assert cache.get(url, sha256=sha256, remedy="") == bytes([number]) * (100 + 37 * number)
        if generator.random() < 0.05:
            (directory / "shards" / sha256[:2] / sha256).unlink(missing_ok=True)
    for path in entries(directory):
        if not path.name.startswith("."):
            try:
                most += path.stat().st_size
            except FileNotFoundError:
                continue
    return most


def test_threads_and_processes_share_it(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]]
) -> None:
    files = [put(bytes([i]) * (100 + 37 * i)) for i in range(24)]
    directory = tmp_path / "cache"
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(_hammer, [(directory, files, seed) for seed in range(4)])
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda seed: _hammer(directory, files, seed), range(4, 8)))
    assert taken(directory) <= 3000
    for path in entries(directory):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def test_only_remote_corpora_are_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for url in ("runs/wiki/corpus", "file:///runs/wiki", tmp_path):
        assert cache_for(url, directory=None, max_gb=1.0) is None
    assert cache_for("s3://bucket/run", directory=None, max_gb=0) is None
    assert cache_for("s3://bucket/run", directory=str(tmp_path), max_gb=1.0) is not None
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_cache_dir() == "/x/polyprag"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_cache_dir() == "/home/me/.cache/polyprag"
