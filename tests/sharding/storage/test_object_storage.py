"""Files, a corpus and its cache on a server that speaks S3, some of whose answers are faults."""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import s3fs
from werkzeug.serving import make_server

from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.reader import Corpus
from sharding.errors import CorpusError, FileError, StorageError
from sharding.ingest.prepare import prepare
from sharding.storage import retry
from sharding.storage.cache import LocalCache
from sharding.storage.files import (
    atomic_write,
    exists,
    join,
    list_names,
    list_sizes,
    open_url,
    read_bytes,
    remove,
    sha256_of,
    size_of,
)


def write(url: str, data: bytes) -> None:
    with atomic_write(url) as file:
        file.write(data)


def objects(bucket_url: str) -> list[str]:
    """Every key of a bucket, asked for without fsspec."""
    answer = boto3.client("s3").list_objects_v2(Bucket=bucket_url.removeprefix("s3://"))
    return [entry["Key"] for entry in answer.get("Contents", [])]


def test_files_are_written_read_listed_and_removed(s3: str) -> None:
    url = join(s3, "run", "deep", "a.bin")
    write(url, b"one")
    write(url, b"0123456789")
    assert objects(s3) == ["run/deep/a.bin"]
    assert read_bytes(url) == b"0123456789"
    assert read_bytes(url, offset=3, length=4) == b"3456"
    assert read_bytes(url, offset=8, length=4) == b"89"
    assert read_bytes(url, offset=10, length=4) == b""
    assert size_of(url) == 10
    assert sha256_of(url) == hashlib.sha256(b"0123456789").hexdigest()
    with open_url(url, "r") as file:
        assert file.read() == "0123456789"
    assert exists(url) and exists(join(s3, "run"))
    assert list_names(join(s3, "run")) == ["deep"]
    assert list_sizes(join(s3, "run", "deep")) == {"a.bin": 10}
    remove(url)
    remove(url)
    assert not exists(url)
    assert list_names(join(s3, "run")) == []


def test_an_empty_file(s3: str) -> None:
    write(join(s3, "empty"), b"")
    assert read_bytes(join(s3, "empty")) == b""
    with open_url(join(s3, "empty")) as file:
        assert file.read() == b""


def test_nothing_appears_before_a_block_ends_nor_when_it_raises(s3: str) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_write(join(s3, "a")) as file:
        file.write(b"half")
        assert objects(s3) == []
        raise KeyboardInterrupt
    assert objects(s3) == []
    write(join(s3, "a"), b"old")
    with pytest.raises(RuntimeError), atomic_write(join(s3, "a")) as file:
        file.write(b"half of the new")
        raise RuntimeError
    assert read_bytes(join(s3, "a")) == b"old"
    assert objects(s3) == ["a"]


def test_what_another_process_wrote_is_seen_at_once(s3: str) -> None:
    write(join(s3, "run", "a"), b"a")
    assert list_names(join(s3, "run")) == ["a"]
    boto3.client("s3").put_object(Bucket=s3.removeprefix("s3://"), Key="run/b", Body=b"other")
    assert exists(join(s3, "run", "b"))
    assert list_names(join(s3, "run")) == ["a", "b"]
    assert read_bytes(join(s3, "run", "b")) == b"other"


def test_a_bucket_is_never_made_by_a_typing_error(s3: str) -> None:
    with pytest.raises(FileError, match="no such bucket"):
        write(f"{s3}-typo/run/a", b"a")
    assert not exists(f"{s3}-typo/run/a")
    buckets = [bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]]
    assert f"{s3}-typo".removeprefix("s3://") not in buckets


def test_missing_credentials_are_named(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(FileError, match="no usable credentials"):
            read_bytes(join(s3, "a"))
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


class Faults:
    """A WSGI application that answers with S3 errors before it lets another one answer."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self.next: list[tuple[str, str]] = []
        self.requests: list[str] = []

    def __call__(self, environment: dict[str, Any], start_response: Any) -> Any:
        self.requests.append(environment["REQUEST_METHOD"])
        if not self.next:
            return self.application(environment, start_response)
        status, code = self.next.pop(0)
        environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
        body = f"<Error><Code>{code}</Code><Message>so it is</Message></Error>".encode()
        start_response(
            status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        )
        return [] if environment["REQUEST_METHOD"] == "HEAD" else [body]


@pytest.fixture
def faults(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """The same buckets through a server that can fail."""
    from moto.server import DomainDispatcherApplication, create_backend_app

    faults = Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, faults, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.001)
    s3fs.S3FileSystem.clear_instance_cache()
    yield faults
    s3fs.S3FileSystem.clear_instance_cache()
    server.shutdown()
    thread.join()
    server.server_close()


SLOW_DOWN = ("503 Slow Down", "SlowDown")
INTERNAL = ("500 Internal Server Error", "InternalError")


def test_faults_that_pass_are_waited_for(s3: str, faults: Faults) -> None:
    url = join(s3, "run", "a")
    faults.next = [SLOW_DOWN, INTERNAL]
    write(url, b"data")
    assert faults.requests == ["PUT"] * 3
    for use, expected in (
        (lambda: read_bytes(url), b"data"),
        (lambda: read_bytes(url, offset=1, length=2), b"at"),
        (lambda: exists(url), True),
        (lambda: exists(join(s3, "run", "b")), False),
        (lambda: list_names(join(s3, "run")), ["a"]),
        (lambda: sha256_of(url), hashlib.sha256(b"data").hexdigest()),
    ):
        faults.next = [SLOW_DOWN, INTERNAL]
        assert use() == expected
        assert faults.next == []


def test_faults_that_stay_end_with_one_error(s3: str, faults: Faults) -> None:
    url = join(s3, "run", "a")
    write(url, b"old")
    faults.next, faults.requests = [SLOW_DOWN] * 100, []
    with pytest.raises(StorageError, match=r"run/a: the storage failed 6 times.*SlowDown"):
        write(url, b"new")
    assert faults.requests == ["PUT"] * retry.NUM_TRIES  # s3fs and botocore add none of their own
    with pytest.raises(StorageError, match="failed 6 times"):
        exists(url)  # which must not be taken for "it isn't there"
    faults.next = []
    assert read_bytes(url) == b"old"


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        ("403 Forbidden", "AccessDenied", "access denied"),
        ("403 Forbidden", "InvalidAccessKeyId", "access denied"),
        ("404 Not Found", "NoSuchBucket", "no such"),
        ("400 Bad Request", "InvalidRequest", "refused.*so it is"),
    ],
)
def test_refusals_are_told_at_once(
    s3: str, faults: Faults, status: str, code: str, message: str
) -> None:
    for use in (lambda: read_bytes(join(s3, "a")), lambda: write(join(s3, "a"), b"data")):
        faults.next, faults.requests = [(status, code)] * 100, []
        with pytest.raises(FileError, match=message):
            use()
        assert len(faults.requests) == 1
        faults.next = []
    assert objects(s3) == []


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str], str]:
    """Puts a corpus file of 10 passages at a URL."""

    def put(url: str) -> str:
        lines = [{"id": f"k{i}", "title": f"T{i}", "text": f"Text {i}."} for i in range(10)]
        write(url, "".join(json.dumps(line) + "\n" for line in lines).encode())
        return url

    return put


def test_a_corpus_on_s3_has_the_bytes_of_a_local_one(
    s3: str, tmp_path: Path, source: Callable[[str], str]
) -> None:
    remote = prepare([source(join(s3, "in.jsonl"))], join(s3, "run", "corpus"), partition_size=4)
    local = prepare([source(str(tmp_path / "in.jsonl"))], tmp_path / "corpus", partition_size=4)
    assert remote.partitions == local.partitions
    for name in os.listdir(tmp_path / "corpus"):
        if name != "manifest.json":
            remote_url = join(s3, "run", "corpus", name)
            assert read_bytes(remote_url) == (tmp_path / "corpus" / name).read_bytes()
    assert list_names(join(s3, "run", "corpus")) == sorted(os.listdir(tmp_path / "corpus"))


def test_shards_come_from_the_cache_the_second_time(
    s3: str, tmp_path: Path, source: Callable[[str], str], faults: Faults
) -> None:
    corpus_url = join(s3, "run", "corpus")
    prepare([source(join(s3, "in.jsonl"))], corpus_url, partition_size=4)
    corpus = Corpus.open(corpus_url, cache=LocalCache(tmp_path / "cache", max_bytes=1 << 20))
    first = list(corpus.iterate())
    assert [record.passage.key for record in first] == [f"k{i}" for i in range(10)]
    faults.requests = []
    assert list(corpus.iterate()) == first
    assert faults.requests == []
    cached = [path for path in (tmp_path / "cache").rglob("*") if len(path.name) == 64]
    assert len(cached) == 3
    cached[0].write_bytes(cached[0].read_bytes()[:-1] + b"?")
    assert list(corpus.iterate()) == first
    assert faults.requests == ["GET"]


def test_a_single_record_is_one_short_request(
    s3: str, source: Callable[[str], str], faults: Faults
) -> None:
    prepare([source(join(s3, "in.jsonl"))], join(s3, "corpus"), partition_size=4)
    corpus = Corpus.open(join(s3, "corpus"))
    corpus.record(5)
    faults.requests = []
    assert corpus.record(6).passage.title == "T6"
    assert faults.requests == ["GET"]


def test_a_shard_that_was_changed_on_s3_is_named(
    s3: str, tmp_path: Path, source: Callable[[str], str]
) -> None:
    manifest: CorpusManifest = prepare(
        [source(join(s3, "in.jsonl"))], join(s3, "corpus"), partition_size=4
    )
    shard = manifest.partitions[1].file
    write(join(s3, "corpus", shard), b"x" * manifest.partitions[1].num_bytes)
    corpus = Corpus.open(join(s3, "corpus"), cache=LocalCache(tmp_path / "c", max_bytes=1 << 20))
    with pytest.raises(CorpusError, match=shard):
        list(corpus.iterate())
