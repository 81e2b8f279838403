import io
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharding.corpus.tar import MAX_MEMBER_BYTES, headers, offsets_of, pack_shard, scan
from sharding.errors import CorpusError

documents = st.lists(st.binary(min_size=1, max_size=1300), min_size=1, max_size=6)
first_ids = st.integers(0, 10**12 - 7)


def header_of_tarfile(passage_id: int, size: int) -> bytes:
    info = tarfile.TarInfo(f"{passage_id:012d}.json")
    info.size, info.mode, info.uname, info.gname = size, 0o444, "polyprag", "polyprag"
    return info.tobuf(tarfile.USTAR_FORMAT)


@given(first_ids, st.lists(st.integers(0, MAX_MEMBER_BYTES), min_size=1, max_size=5))
def test_headers_are_those_that_tarfile_makes(first_id: int, sizes: list[int]) -> None:
    made = headers(first_id, np.array(sizes, np.int64))
    assert [row.tobytes() for row in made] == [
        header_of_tarfile(first_id + i, size) for i, size in enumerate(sizes)
    ]


@given(first_ids, documents)
def test_tarfile_reads_what_was_packed_and_scan_finds_the_same(
    first_id: int, documents: list[bytes]
) -> None:
    data, sizes = pack_shard(first_id, documents)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", errorlevel=2) as tar:
        members = tar.getmembers()
        assert [m.name for m in members] == [f"{first_id + i:012d}.json" for i in range(len(sizes))]
        assert [tar.extractfile(m).read() for m in members] == documents  # type: ignore[union-attr]
        assert offsets_of(sizes).tolist() == [m.offset_data for m in members]
    found = scan(bytes(data), first_id=first_id, num_members=len(documents), where="shard")
    assert found.tolist() == sizes.tolist() == [len(document) for document in documents]


@given(documents, st.data())
def test_a_changed_header_byte_is_found_in_its_member(
    documents: list[bytes], data: st.DataObject
) -> None:
    packed, sizes = pack_shard(5, documents)
    member = data.draw(st.integers(0, len(documents) - 1))
    at = int(offsets_of(sizes)[member]) - 512 + data.draw(st.integers(0, 511))
    packed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorpusError, match=rf"^shard.*(member|after {member} members)"):
        scan(bytes(packed), first_id=5, num_members=len(documents), where="shard")


@given(documents, st.data())
def test_a_cut_shard_is_refused_wherever_it_was_cut(
    documents: list[bytes], data: st.DataObject
) -> None:
    packed, _ = pack_shard(0, documents)
    length = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(CorpusError, match=r"^shard: "):
        scan(bytes(packed[:length]), first_id=0, num_members=len(documents), where="shard")


def test_a_document_that_looks_like_a_header_is_a_document() -> None:
    documents = [b"a", b"x" * 257 + b"ustar\0" + b"y" * 600, header_of_tarfile(2, 5), b"b" * 600]
    packed, _ = pack_shard(0, documents)
    sizes = scan(bytes(packed), first_id=0, num_members=4, where="shard")
    assert sizes.tolist() == [len(document) for document in documents]


@pytest.mark.parametrize("num_members", [1, 3])
def test_another_number_of_members_is_refused(num_members: int) -> None:
    packed, _ = pack_shard(0, [b"one", b"two"])
    with pytest.raises(CorpusError, match=r"no more of them|more than the 1 members"):
        scan(bytes(packed), first_id=0, num_members=num_members, where="shard")


@pytest.mark.parametrize("more", [b"\0" * 512, b"x" * 512, b"\0"])
def test_bytes_after_the_end_are_refused(more: bytes) -> None:
    packed, _ = pack_shard(0, [b"one"])
    with pytest.raises(CorpusError, match="more than the 1 members"):
        scan(bytes(packed + more), first_id=0, num_members=1, where="shard")


@pytest.mark.parametrize("size", [b"77777777777", b"-0000000001", b"0_000000003", b"\x80" * 11])
def test_an_absurd_size_is_refused_without_reading_that_far(size: bytes) -> None:
    packed, _ = pack_shard(0, [b"one", b"two"])
    packed[124:135] = size
    with pytest.raises(CorpusError, match=r"member '000000000000\.json': has another header"):
        scan(bytes(packed), first_id=0, num_members=2, where="shard")


def test_absurd_numbers_of_members_cost_nothing() -> None:
    packed, _ = pack_shard(0, [b"one"])
    with pytest.raises(CorpusError, match="after 1 members"):
        scan(bytes(packed), first_id=0, num_members=10**15, where="shard")


def test_too_large_documents_and_ids_are_refused_by_their_passage() -> None:
    with pytest.raises(CorpusError, match=r"passage 8: .* cut it into several"):
        pack_shard(7, [b"x", b"x" * (MAX_MEMBER_BYTES + 1)])
    with pytest.raises(CorpusError, match="passage 1000000000000: ids go up to"):
        pack_shard(10**12 - 1, [b"x", b"x"])
