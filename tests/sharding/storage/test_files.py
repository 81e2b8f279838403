import errno
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import botocore.exceptions
import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from sharding.errors import FileError, StorageError
from sharding.storage import retry
from sharding.storage.array_files import read_buffer, write_buffers
from sharding.storage.files import (
    TEMPORARY_NAME,
    atomic_write,
    changed_at,
    create,
    exists,
    join,
    list_names,
    list_sizes,
    open_url,
    read_bytes,
    read_json,
    remove,
    sha256_of,
    size_of,
    upload,
    write_json,
)
from sharding.storage.ranged import RangedFile
from sharding.storage.urls import local_path

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


def test_a_file_of_this_machine_goes_to_any_place(directory: str, tmp_path: Path) -> None:
    source = tmp_path / "log"
    source.write_bytes(b"line\n" * 1000)
    url = join(directory, "logs", "copy")
    for _ in range(2):
        upload(source, url)
        assert read_bytes(url) == source.read_bytes()
    assert list_names(join(directory, "logs")) == ["copy"]


def test_buffers_are_written_and_read_back_as_one_file(directory: str) -> None:
    url = join(directory, "arrays")
    write_buffers(url, [b"head", memoryview(b""), memoryview(bytes(range(200)) * 100)])
    assert bytes(read_buffer(url)) == b"head" + bytes(range(200)) * 100


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


@pytest.mark.parametrize(
    "url",
    [
        "pipe:cat /etc/passwd",
        " PIPE:ls",
        "shell:ls",
        "exec:ls",
        "s3::pipe:ls",
        "simplecache::pipe:ls",
        "simplecache:: Pipe://ls",
        "zip://a::shell::file:///tmp/x",
    ],
)
def test_urls_that_run_commands_are_refused(url: str) -> None:
    for use in (open_url, read_bytes, exists, list_names, remove, sha256_of, size_of):
        with pytest.raises(FileError, match="run commands and are refused"):
            use(url)
    with pytest.raises(FileError, match="run commands and are refused"), atomic_write(url):
        pytest.fail("the block must not run")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/a/b", "/a/b"),
        ("a/b", "a/b"),
        ("file:///a/b", "/a/b"),
        ("FILE:///a/b", "/a/b"),
        ("file:/a/b", "/a/b"),
        ("file://localhost/a/b", "/a/b"),
        ("file://a/b", "a/b"),
        ("local:///a/b%20c", "/a/b%20c"),
        ("./pipe:a", "./pipe:a"),
        ("2020:a", "2020:a"),
        (Path("pipe:a"), "pipe:a"),
        ("s3://a/b", None),
        ("simplecache::file:///a", None),
    ],
)
def test_what_is_local(url: str | Path, path: str | None) -> None:
    assert local_path(url) == path


def test_a_file_url_is_the_file(tmp_path: Path) -> None:
    write_json(f"file://{tmp_path}/run/a.json", [1])
    assert (tmp_path / "run" / "a.json").is_file()
    assert read_json(f"local://{tmp_path}/run/a.json") == [1]
    assert list_names(f"file://{tmp_path}/run") == ["a.json"]


@pytest.mark.parametrize(
    ("offset", "length"), [(0, None), (0, 4), (3, 4), (8, 9), (9, None), (10, 1), (99, None)]
)
def test_ranges(directory: str, offset: int, length: int | None) -> None:
    url = join(directory, "file.bin")
    with atomic_write(url) as file:
        file.write(b"0123456789")
    end = None if length is None else offset + length
    assert read_bytes(url, offset=offset, length=length) == b"0123456789"[offset:end]
    assert size_of(url) == 10
    assert list_sizes(directory) == {"file.bin": 10}


@given(
    data=st.binary(max_size=200),
    steps=st.lists(st.tuples(st.integers(0, 220), st.integers(-1, 60)), max_size=8),
)
def test_a_ranged_file_reads_as_the_bytes_do(data: bytes, steps: list[tuple[int, int]]) -> None:
    file = RangedFile(lambda offset, length: data[offset : offset + length], size=len(data))
    for position, count in steps:
        file.seek(position)
        end = None if count < 0 else position + count
        assert file.read(count) == data[position:end]
    assert file.seek(0, os.SEEK_END) == len(data)


def test_missing_files_and_unknown_file_systems_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.json: no such file"):
        read_json(tmp_path / "gone.json")
    with pytest.raises(FileError, match="directory"):
        open_url(tmp_path)
    with pytest.raises(FileError, match="nosuch"):
        open_url("nosuch://bucket/file")


def test_a_directory_that_is_a_file_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(FileError, match="can't be written"):
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
        (b"\xff\xff", r"x\.json:1: not valid JSON"),
        (b"[" * 100_000, r"x\.json: not valid JSON"),
        (b"1" * 10_000, r"x\.json: not valid JSON"),
        (b'{"a": NaN}', r"x\.json:1: not valid JSON"),
        (b'["\\ud800"]', r"x\.json.*: not valid JSON"),
    ],
)
def test_damaged_json_names_file_and_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(FileError, match=message):
        read_json(tmp_path / "x.json")


def test_join() -> None:
    assert join("a/b/", "c", "d") == "a/b/c/d"
    assert join("/", "c") == "/c"
    assert join("s3://bucket", "c") == "s3://bucket/c"
    assert join("", "c") == "./c"
    assert join(Path("a"), "c") == "a/c"


CUT = 0  # half of an answer


class _Server(BaseHTTPRequestHandler):
    """Files over HTTP, with faults: `faults` answers (a status each) before the right one."""

    files: dict[str, bytes]
    faults: list[int]
    requests: list[str]
    ranges = True

    def _answer(self) -> None:
        self.requests.append(self.command)
        data = self.files.get(self.path)
        status = self.faults.pop(0) if self.faults else 404 if data is None else 200
        if status == CUT:
            self.send_response(200)
            self.send_header("Content-Length", "10")
            self.end_headers()
            self.wfile.write(b"01234")
            self.close_connection = True
            return
        if status != 200 or data is None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        wanted = self.headers.get("Range")
        size = len(data)
        if wanted and self.ranges:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            data = data[int(first) : int(last or size) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(data) - 1}/{size}")
        else:
            self.send_response(200)
        if self.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_GET = do_HEAD = _answer  # noqa: N815 - the base class's names

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[_Server]]]:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.001)
    attributes = {"files": {"/a.txt": b"0123456789"}, "faults": [], "requests": []}
    handler = type("Handler", (_Server,), attributes)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("ranges", [True, False])
def test_http_is_read_whole_in_ranges_and_as_a_file(
    http: tuple[str, type[_Server]], ranges: bool
) -> None:
    base, server = http
    server.ranges = ranges
    url = f"{base}/a.txt"
    assert read_bytes(url) == b"0123456789"
    assert read_bytes(url, offset=2, length=3) == b"234"
    assert read_bytes(url, offset=7) == b"789"
    assert read_bytes(url, offset=7, length=50) == b"789"
    assert read_bytes(url, offset=70, length=5) == b""
    assert size_of(url) == 10
    with open_url(url) as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"789"
    assert sha256_of(url) == hashlib.sha256(b"0123456789").hexdigest()
    assert exists(url)
    assert not exists(f"{base}/b.txt")


def test_http_can_only_be_read(http: tuple[str, type[_Server]]) -> None:
    base, server = http
    with pytest.raises(FileError, match="for reading only"), atomic_write(f"{base}/b.txt"):
        pytest.fail("the block must not run")
    with pytest.raises(FileError, match="for reading only"):
        remove(f"{base}/a.txt")
    with pytest.raises(FileError, match="can't be listed"):
        list_names(base)
    assert server.requests == []


def test_a_failure_that_passes_is_tried_again(http: tuple[str, type[_Server]]) -> None:
    base, server = http
    server.faults[:] = [503, 429]
    assert read_bytes(f"{base}/a.txt") == b"0123456789"
    assert server.requests == ["GET"] * 3
    server.faults[:] = [CUT, 503, CUT]
    assert read_bytes(f"{base}/a.txt") == b"0123456789"
    server.faults[:] = [500, 500, 502, 502]  # fsspec asks by HEAD and then by GET
    assert exists(f"{base}/a.txt")


def test_a_failure_that_stays_is_told_after_a_few_tries(http: tuple[str, type[_Server]]) -> None:
    base, server = http
    server.faults[:] = [503] * 50
    with pytest.raises(StorageError, match=r"a\.txt: the storage failed 6 times in a row.*503"):
        read_bytes(f"{base}/a.txt")
    assert len(server.requests) == retry.NUM_TRIES
    with pytest.raises(StorageError, match="failed 6 times"):  # a failure isn't "it isn't there"
        exists(f"{base}/a.txt")


@pytest.mark.parametrize(
    ("status", "message"), [(403, "access denied"), (404, "no such file"), (400, "refused")]
)
def test_a_refusal_is_told_at_once(
    http: tuple[str, type[_Server]], status: int, message: str
) -> None:
    base, server = http
    server.faults[:] = [status] * 50
    with pytest.raises(FileError, match=message):
        read_bytes(f"{base}/a.txt")
    assert len(server.requests) == 1


def test_no_server_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.001)
    with pytest.raises(FileError, match="check the endpoint and the network"):
        read_bytes("http://127.0.0.1:9/a.txt")


class Renaming(MemoryFileSystem):
    """A file system where an upload shows while it is under way, and fails as told."""

    protocol = "renaming"
    store: dict[str, Any] = {}  # noqa: RUF012 - as the base class has it
    pseudo_dirs = [""]  # noqa: RUF012
    faults: list[Exception] = []  # noqa: RUF012
    lost: list[Exception] = []  # noqa: RUF012 - answers to moves that were made

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        if path1 not in self.store:
            raise FileNotFoundError(path1)
        super().mv(path1, path2, **kwargs)
        if self.lost:
            raise self.lost.pop(0)

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        data = Path(lpath).read_bytes()
        self.pipe_file(rpath, data[: len(data) // 2])
        if self.faults:
            raise self.faults.pop(0)
        self.pipe_file(rpath, data)


@pytest.fixture
def renaming(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.001)
    fsspec.register_implementation("renaming", Renaming, clobber=True)
    Renaming.store.clear()
    Renaming.faults.clear()
    Renaming.lost.clear()
    return "renaming://run/deep/a.bin"


def test_file_systems_that_are_no_object_stores_rename(renaming: str) -> None:
    Renaming.faults[:] = [ConnectionResetError("reset"), TimeoutError("late")]
    with atomic_write(renaming) as file:
        file.write(b"old data")
        assert not exists(renaming)
    assert read_bytes(renaming) == b"old data"
    Renaming.faults[:] = [PermissionError("no")] * 9
    with pytest.raises(FileError, match="access denied"), atomic_write(renaming) as file:
        file.write(b"new data")
    assert len(Renaming.faults) == 8
    assert read_bytes(renaming) == b"old data"
    assert list_names("renaming://run/deep") == ["a.bin"]


def test_a_move_whose_answer_was_lost_is_made(renaming: str) -> None:
    Renaming.lost[:] = [ConnectionResetError("reset")]
    with atomic_write(renaming) as file:
        file.write(b"new data")
    assert Renaming.lost == []
    assert read_bytes(renaming) == b"new data"
    assert list_names("renaming://run/deep") == ["a.bin"]


def test_a_move_that_was_not_made_is_told(renaming: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with atomic_write(renaming) as file:
        file.write(b"old data")

    def vanish(self: Renaming, path1: str, path2: str, **kwargs: Any) -> None:
        if self.store.pop(path1, None) is None:
            raise FileNotFoundError(path1)
        raise ConnectionResetError("reset")

    monkeypatch.setattr(Renaming, "mv", vanish)
    with pytest.raises(FileError), atomic_write(renaming) as file:
        file.write(b"new data")  # of the same size
    assert read_bytes(renaming) == b"old data"


def test_a_link_whose_answer_was_lost_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(source: str, target: str) -> None:
        real(source, target)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)

    monkeypatch.setattr(os, "link", link)
    assert create(tmp_path / "a", b"mine")
    monkeypatch.setattr(os, "link", real)
    assert not create(tmp_path / "a", b"theirs")
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_failure_is_no_absence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Else a run whose storage fails for a moment would be taken for one without a checkpoint."""

    def fail(*args: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    (tmp_path / "a").write_bytes(b"here")
    for name in ("stat", "scandir", "listdir", "remove"):
        monkeypatch.setattr(os, name, fail)
    calls: list[Callable[[str], Any]] = [exists, list_names, list_sizes, changed_at, remove]
    for call in calls:
        with pytest.raises(FileError, match=os.strerror(number)):
            call(str(tmp_path / "a"))


def test_no_room_for_what_is_to_be_uploaded(directory: str) -> None:
    with pytest.raises(FileError, match="room"), atomic_write(join(directory, "a")):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list_names(directory) == []


def test_errors_that_are_no_storage_s_are_left_alone() -> None:
    def bug() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        retry.with_retries("s3://bucket/a", bug)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (OSError(errno.EBUSY, "busy"), True),
        (aiohttp.ServerDisconnectedError(), True),
        (aiohttp.ClientPayloadError(), True),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="u"), True),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="u", error="e"), True),
        (botocore.exceptions.NoCredentialsError(), False),
        (botocore.exceptions.SSLError(endpoint_url="u", error="e"), False),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (OSError(errno.ENOSPC, "full"), False),
        (ValueError(), False),
    ],
)
def test_which_errors_pass(error: Exception, transient: bool) -> None:
    assert retry.is_transient(error) is transient
