import hashlib
import json
from pathlib import Path

import pytest

from sharding.errors import CorpusError
from sharding.files import (
    TEMPORARY_NAME,
    atomic_write,
    exists,
    join,
    list_names,
    open_url,
    read_json,
    remove,
    sha256_of,
    write_json,
)

MEMORY = "memory://test-files"


@pytest.fixture(params=["local", "memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else f"{MEMORY}/{tmp_path.name}"


def test_what_is_written_is_read_back_listed_hashed_and_removed(directory: str) -> None:
    url = join(directory, "deep", "er", "file.bin")
    with atomic_write(url) as file:
        file.write(b"one")
    with atomic_write(url) as file:
        file.write(b"two")
    with open_url(url) as file:
        assert file.read() == b"two"
    assert sha256_of(url) == hashlib.sha256(b"two").hexdigest()
    assert list_names(join(directory, "deep", "er")) == ["file.bin"]
    remove(url)
    remove(url)
    assert not exists(url)


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(directory: str) -> None:
    url = join(directory, "file.bin")
    with atomic_write(url) as file:
        file.write(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(url) as file:
        file.write(b"half of the new")
        raise KeyboardInterrupt
    with open_url(url) as file:
        assert file.read() == b"old"
    assert list_names(directory) == ["file.bin"]


def test_a_file_is_not_seen_before_its_block_ends(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "file.bin") as file:
        file.write(b"all of it")
        assert not exists(tmp_path / "file.bin")
        (temporary,) = list_names(tmp_path)
        assert TEMPORARY_NAME.fullmatch(temporary)


def test_text_mode_is_utf8(directory: str) -> None:
    url = join(directory, "file.txt")
    with atomic_write(url, "w") as file:
        file.write("naïve")
    with open_url(url, "r") as file:
        assert file.read() == "naïve"
    with open_url(url) as file:
        assert file.read() == "naïve".encode()


@pytest.mark.parametrize("url", ["pipe:cat /etc/passwd", " PIPE:ls", "shell:ls", "s3::pipe:ls"])
def test_urls_that_run_commands_are_refused(url: str) -> None:
    with pytest.raises(CorpusError):
        open_url(url)


def test_missing_files_and_unknown_file_systems_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"gone\.json: no such file"):
        read_json(tmp_path / "gone.json")
    with pytest.raises(CorpusError, match="directory"):
        open_url(tmp_path)
    with pytest.raises(CorpusError, match="nosuch"):
        open_url("nosuch://bucket/file")


def test_a_directory_that_is_a_file_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(CorpusError, match="can't be written"):
        write_json(tmp_path / "run" / "manifest.json", {})


def test_json_round_trip(directory: str) -> None:
    value = {"a": [1, 2.5, None, "é"], "b": {}}
    write_json(join(directory, "x.json"), value)
    assert read_json(join(directory, "x.json")) == value
    with open_url(join(directory, "x.json")) as file:
        assert json.loads(file.read().decode()) == value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a":\n 1,}', r"x\.json:2: not valid JSON"),
        (b"\xff\xff", r"x\.json: not valid JSON"),
        (b"[" * 100_000, r"x\.json: not valid JSON"),
        (b"1" * 10_000, r"x\.json: not valid JSON"),
    ],
)
def test_damaged_json_names_file_and_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(CorpusError, match=message):
        read_json(tmp_path / "x.json")


def test_join() -> None:
    assert join("a/b/", "c", "d") == "a/b/c/d"
    assert join("/", "c") == "/c"
    assert join("s3://bucket", "c") == "s3://bucket/c"
    assert join("", "c") == "./c"
    assert join(Path("a"), "c") == "a/c"
