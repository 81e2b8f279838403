import hashlib
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sharding.corpus.manifest import Partition
from sharding.corpus.partitions import write_shard
from sharding.corpus.shard_index import index_from_shard, index_name, load_index

DOCUMENTS = [b'{"id":%d,"text":"%s"}' % (i, b"x" * (i * 37 % 700)) for i in range(9, 15)]


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Partition]:
    return tmp_path, write_shard(tmp_path, 2, first_id=9, documents=DOCUMENTS)


def test_an_index_says_where_each_document_lies(written: tuple[Path, Partition]) -> None:
    directory, partition = written
    index = load_index(str(directory / index_name(partition.file)), partition)
    assert index is not None and len(index) == len(DOCUMENTS)
    data = (directory / partition.file).read_bytes()
    for document, offset, size, checksum in zip(
        DOCUMENTS, index.offsets, index.sizes, index.checksums, strict=True
    ):
        assert data[offset : offset + size] == document
        assert checksum == zlib.crc32(document)


def test_the_shard_gives_the_very_index_that_was_written(
    written: tuple[Path, Partition],
) -> None:
    directory, partition = written
    made = index_from_shard((directory / partition.file).read_bytes(), partition, where="shard")
    assert made.to_bytes() == (directory / index_name(partition.file)).read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_index_is_no_index(written: tuple[Path, Partition], data: st.DataObject) -> None:
    directory, partition = written
    good = (directory / index_name(partition.file)).read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    damaged = data.draw(
        st.sampled_from(
            [
                good[:at],
                good + good[at:],
                good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :],
            ]
        )
    )
    url = directory / "damaged.idx"
    url.write_bytes(damaged)
    assert load_index(str(url), partition) is None


def test_an_index_of_another_shard_or_with_false_sizes_is_none(
    written: tuple[Path, Partition],
) -> None:
    directory, partition = written
    url = str(directory / index_name(partition.file))
    assert load_index(url, replace(partition, sha256="0" * 64)) is None
    assert load_index(url, replace(partition, num_passages=5)) is None
    assert load_index(url, replace(partition, num_passages=10**15, num_bytes=10**18)) is None
    assert load_index(url, replace(partition, num_bytes=partition.num_bytes + 512)) is None
    assert load_index(str(directory / "none.idx"), partition) is None
    body = bytearray((directory / index_name(partition.file)).read_bytes()[:-32])
    body[56:64] = (-1).to_bytes(8, "little", signed=True)
    forged = directory / "forged.idx"
    forged.write_bytes(bytes(body) + hashlib.sha256(body).digest())
    assert load_index(str(forged), partition) is None
