import errno
import hashlib
import logging
import multiprocessing
import os
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from sharding.errors import FileError
from sharding.storage.cache import LocalCache, cache_for, default_cache_dir


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
    cache = LocalCache(tmp_path / "cache", max_bytes=1000)
    url, sha256 = put(b"shard")
    assert cache.get(url, sha256=sha256, num_bytes=5, remedy="") == b"shard"
    os.remove(url)
    assert cache.get(url, sha256=sha256, num_bytes=5, remedy="") == b"shard"
    other = LocalCache(tmp_path / "cache", max_bytes=1000)  # another process's
    assert other.get(url, sha256=sha256, remedy="") == b"shard"


def test_the_least_recently_used_go_and_the_bound_holds(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]]
) -> None:
    cache = LocalCache(tmp_path / "cache", max_bytes=1000)
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
    cache = LocalCache(tmp_path / "cache", max_bytes=10)
    url, sha256 = put(b"x" * 11)
    assert cache.get(url, sha256=sha256, remedy="") == b"x" * 11
    assert entries(tmp_path) == [Path(url)]


@pytest.mark.parametrize("damage", [b"", b"shar", b"shArd", b"shard and more"])
def test_a_damaged_entry_is_fetched_again(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]], damage: bytes
) -> None:
    cache = LocalCache(tmp_path / "cache", max_bytes=1000)
    url, sha256 = put(b"shard")
    cache.get(url, sha256=sha256, remedy="")
    (entry,) = entries(tmp_path / "cache")
    entry.write_bytes(damage)
    assert cache.get(url, sha256=sha256, remedy="") == b"shard"
    assert entry.read_bytes() == b"shard"
    assert int((tmp_path / "cache" / "size").read_bytes()) >= 5


def test_another_file_than_promised_is_neither_returned_nor_kept(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]]
) -> None:
    cache = LocalCache(tmp_path / "cache", max_bytes=1000)
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
    cache = LocalCache(tmp_path / "cache", max_bytes=1000)
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
    cache = LocalCache(tmp_path / "file" / "cache", max_bytes=1000)
    url, sha256 = put(b"one")
    assert [cache.get(url, sha256=sha256, remedy="") for _ in range(3)] == [b"one"] * 3
    assert len(caplog.records) == 1


@pytest.mark.parametrize("count", [b"", b"garbage", b"9" * 20])
def test_a_lost_count_is_mended(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]], count: bytes
) -> None:
    directory = tmp_path / "cache"
    cache = LocalCache(directory, max_bytes=500)
    for i in range(4):
        url, sha256 = put(bytes([i]) * 100)
        cache.get(url, sha256=sha256, remedy="")
    (directory / "size").write_bytes(count)
    for i in range(4, 20):
        url, sha256 = put(bytes([i]) * 100)
        assert cache.get(url, sha256=sha256, remedy="") == bytes([i]) * 100
        assert taken(directory) <= 500


def test_what_a_killed_writer_left_goes(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]]
) -> None:
    cache = LocalCache(tmp_path / "cache", max_bytes=100)
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
    cache = LocalCache(directory, max_bytes=3000)
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
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork")) as processes:
        list(processes.map(_hammer, [directory] * 4, [files] * 4, range(4)))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda seed: _hammer(directory, files, seed), range(4, 8)))
    assert taken(directory) <= 3000
    for path in entries(directory):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


class Parts:
    """Directories of one file of 100 bytes, and how often each was filled."""

    def __init__(self) -> None:
        self.filled: list[int] = []

    def use(self, cache: LocalCache, number: int, num_bytes: int = 100) -> Path:
        data = bytes([number]) * num_bytes

        def is_sound(path: Path) -> bool:
            return (path / "data").is_file() and (path / "data").read_bytes() == data

        def fill(path: Path) -> None:
            (path / "data").write_bytes(data)
            self.filled.append(number)

        return cache.use_directory(f"{number:032x}", is_sound=is_sound, fill=fill)


@pytest.fixture
def parts() -> Parts:
    return Parts()


def aged(path: Path, at: int) -> Path:
    os.utime(path, (at, at))
    return path


def test_one_bound_holds_over_files_and_directories_and_the_oldest_of_either_go(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]], parts: Parts
) -> None:
    root = tmp_path / "cache"
    cache = LocalCache(root, max_bytes=500)

    def shard(number: int, at: int) -> Path:
        url, sha256 = put(bytes([number]) * 100)
        cache.get(url, sha256=sha256, remedy="")
        return aged(root / "shards" / sha256[:2] / sha256, at)

    def part(number: int, at: int) -> Path:
        return aged(parts.use(LocalCache(root, max_bytes=500), number), at)  # used no longer

    first = part(1, 1000)
    second = shard(2, 1001)
    third = part(3, 1002)
    fourth = shard(4, 1003)
    assert taken(root) == 400
    fifth = part(5, 1004)  # 500 bytes: as many as may be
    assert taken(root) == 500 and first.exists()
    sixth = shard(6, 1005)  # room is made down to 450
    assert [path.exists() for path in (first, second, third, fourth)] == [False, False, True, True]
    assert taken(root) == 400
    part(3, 1006)  # used again: no longer the oldest
    seventh = part(7, 1007)
    eighth = shard(8, 1008)
    assert not fourth.exists() and not fifth.exists()
    assert third.exists() and sixth.exists() and seventh.exists() and eighth.exists()
    assert taken(root) <= 500
    assert int((root / "size").read_text()) == taken(root)
    assert parts.filled == [1, 3, 5, 7]


def test_a_directory_in_use_stays_and_shards_go_on_without_room(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]], parts: Parts
) -> None:
    root = tmp_path / "cache"
    user, cache = LocalCache(root, max_bytes=250), LocalCache(root, max_bytes=250)
    held = [aged(parts.use(user, number), 1000) for number in (1, 2, 3)]  # more than the bound
    url, sha256 = put(b"shard" * 20)
    assert cache.get(url, sha256=sha256, remedy="") == b"shard" * 20
    assert not (root / "shards" / sha256[:2] / sha256).exists()
    assert all(path.exists() for path in held) and taken(root) == 300
    cache.drop_directory(held[0].name)
    assert held[0].exists()  # somebody else uses it
    del user
    assert cache.get(url, sha256=sha256, remedy="") == b"shard" * 20
    assert (root / "shards" / sha256[:2] / sha256).exists()
    assert taken(root) <= 250
    left = next(path for path in held if path.exists())
    cache.drop_directory(left.name)
    assert not left.exists() and int((root / "size").read_text()) == taken(root) == 100


def test_a_directory_that_was_built_is_counted_and_a_failed_one_leaves_nothing(
    tmp_path: Path, parts: Parts
) -> None:
    root = tmp_path / "cache"
    cache = LocalCache(root, max_bytes=1000)
    built = cache.directories / "build"
    built.mkdir(parents=True)
    (built / "data").write_bytes(bytes([7]) * 100)
    cache.add_directory(f"{7:032x}", built)
    assert parts.use(cache, 7).is_dir() and parts.filled == [] and not built.exists()
    assert int((root / "size").read_text()) == 100

    def fail(path: Path) -> None:
        (path / "data").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        cache.use_directory(f"{8:032x}", is_sound=Path.is_dir, fill=fail)
    assert [path.name for path in cache.directories.iterdir() if path.is_dir()] == [f"{7:032x}"]
    assert int((root / "size").read_text()) == taken(root) == 100


def test_what_an_earlier_version_kept_is_counted(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]]
) -> None:
    root = tmp_path / "cache"
    copy = root / "index" / f"{1:032x}"
    copy.mkdir(parents=True)
    (copy / "data").write_bytes(b"x" * 200)
    (root / "shards").mkdir()
    (root / "shards" / "size").write_text(f"{0:020}")  # it counted shards alone
    url, sha256 = put(b"y" * 200)
    LocalCache(root, max_bytes=300).get(url, sha256=sha256, remedy="")
    assert not copy.exists() and int((root / "size").read_text()) == taken(root) == 200


def _hammer_both(root: Path, files: list[tuple[str, str]], seed: int) -> None:
    """Reads files and uses directories at random; what is in use must stay whole."""
    generator, parts = random.Random(seed), Parts()
    cache = LocalCache(root, max_bytes=1500)
    for _ in range(100):
        number = generator.randrange(len(files))
        url, sha256 = files[number]
        assert cache.get(url, sha256=sha256, remedy="") == bytes([number]) * 200
        user = LocalCache(root, max_bytes=1500)
        path = parts.use(user, number, num_bytes=300)
        cache.get(*files[0][:1], sha256=files[0][1], remedy="")
        assert (path / "data").read_bytes() == bytes([number]) * 300


def test_processes_and_threads_share_files_and_directories(
    tmp_path: Path, put: Callable[[bytes], tuple[str, str]]
) -> None:
    files = [put(bytes([i]) * 200) for i in range(12)]
    root = tmp_path / "cache"
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as processes:
        list(processes.map(_hammer_both, [root] * 3, [files] * 3, range(3)))
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda seed: _hammer_both(root, files, seed), range(3, 6)))
    LocalCache(root, max_bytes=1500).get(files[0][0], sha256=files[0][1], remedy="")
    Parts().use(LocalCache(root, max_bytes=1500), 3, num_bytes=300)
    assert taken(root) <= 1500
    assert int((root / "size").read_text()) >= taken(root)


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
