"""Files of routing rows: exact, readable by safetensors, not copied, and hostile ones refused."""

import hashlib
import mmap
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from sharding.corpus.manifest import Partition
from sharding.errors import FileError
from sharding.rows.file import load_rows, map_rows, save_rows
from sharding.rows.part import RowPartition, forget, ids_with_state, init_rows
from sharding.storage.files import sha256_of

SHA = "0" * 64


def partition(index: int, num_passages: int) -> Partition:
    name = f"part-{index:05d}-{SHA[:12]}.tar"
    return Partition(index, 256 * index, num_passages, name, 1, SHA, False, {})


def random_rows(
    num_passages: int = 5, sites: int = 3, experts: int = 4, second_moment: str = "element"
) -> RowPartition:
    generator = np.random.default_rng(0)
    shape = (num_passages, sites, experts)
    rows, first, second = generator.standard_normal((3, *shape), dtype=np.float32)
    second = second[:, : 1 if second_moment == "row" else None]
    second = second[..., : 1 if second_moment != "element" else None].copy()
    steps = generator.integers(0, 9, num_passages, dtype=np.int32)
    return RowPartition(2, 512, rows, first, second, steps)


def assert_same(left: RowPartition, right: RowPartition) -> None:
    assert (left.index, left.first_id) == (right.index, right.first_id)
    for name in ("rows", "exp_avg", "exp_avg_sq", "steps"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), strict=True)


@given(
    st.integers(0, 6),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from(["element", "site", "row"]),
)
def test_rows_and_moments_survive_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    num_passages: int,
    sites: int,
    experts: int,
    second_moment: str,
) -> None:
    url = tmp_path_factory.mktemp("rows") / "part.safetensors"
    part = random_rows(num_passages, sites, experts, second_moment)
    sha256, num_bytes = save_rows(url, part)
    assert (sha256, num_bytes) == (sha256_of(url), url.stat().st_size)
    assert_same(load_rows(url, sha256=sha256), part)


def test_without_moments_they_come_back_as_zero(tmp_path: Path) -> None:
    part = random_rows()
    sha256, num_bytes = save_rows(tmp_path / "x", part, moments=False)
    assert num_bytes < part.rows.nbytes + 1000
    loaded = load_rows(tmp_path / "x", sha256=sha256)
    np.testing.assert_array_equal(loaded.rows, part.rows)
    for array in (loaded.exp_avg, loaded.exp_avg_sq, loaded.steps):
        assert not array.any()


def test_loaded_rows_can_be_trained_in_place(tmp_path: Path) -> None:
    save_rows(tmp_path / "x", random_rows())
    loaded = load_rows(tmp_path / "x")
    for array in (loaded.rows, loaded.exp_avg, loaded.exp_avg_sq, loaded.steps):
        array += 1


def test_strided_rows_are_saved_as_they_read(tmp_path: Path) -> None:
    part = random_rows()
    part.rows = np.asfortranarray(part.rows)
    save_rows(tmp_path / "x", part)
    np.testing.assert_array_equal(load_rows(tmp_path / "x").rows, part.rows)


def test_rows_survive_in_remote_storage(tmp_path: Path) -> None:
    url = f"memory://rows/{tmp_path.name}/part.safetensors"
    sha256, _ = save_rows(url, random_rows())
    loaded = load_rows(url, sha256=sha256)
    assert_same(loaded, random_rows())
    loaded.rows += 1


def test_equal_rows_give_equal_bytes_that_safetensors_reads(tmp_path: Path) -> None:
    hashes = {save_rows(tmp_path / f"{i}", random_rows())[0] for i in range(3)}
    assert len(hashes) == 1
    with safe_open(tmp_path / "0", framework="numpy") as file:
        assert file.metadata() == {"first_id": "512", "index": "2"}
    tensors = load_file(tmp_path / "0")
    assert sorted(tensors) == ["exp_avg", "exp_avg_sq", "rows", "steps"]
    for name, array in tensors.items():
        np.testing.assert_array_equal(array, getattr(random_rows(), name), strict=True)
    header = int.from_bytes((tmp_path / "0").read_bytes()[:8], "little")
    assert header % 8 == 0, "so that what is mapped into memory is aligned"


def test_what_safetensors_writes_is_read(tmp_path: Path) -> None:
    part = random_rows()
    names = ("rows", "exp_avg", "exp_avg_sq", "steps")
    tensors = {name: getattr(part, name) for name in names}
    save_file(tensors, tmp_path / "x", {"first_id": "512", "index": "2"})
    assert_same(load_rows(tmp_path / "x"), part)


@pytest.mark.parametrize("moments", [False, True])
def test_mapped_rows_are_those_that_are_loaded_and_read_only(tmp_path: Path, moments: bool) -> None:
    save_rows(tmp_path / "x", random_rows(), moments=moments)
    mapped = map_rows(tmp_path / "x")
    assert not mapped.flags.writeable
    owner: Any = mapped
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert isinstance(owner, memoryview) and isinstance(owner.obj, mmap.mmap)
    np.testing.assert_array_equal(mapped, random_rows().rows)


def test_rows_are_written_and_read_without_a_copy(tmp_path: Path) -> None:
    part = random_rows(64, 16, 64)
    size = 4 * part.rows.nbytes
    written, read = [], []
    for name in ("x", "y", "z"):  # the first imports, and other threads may allocate meanwhile
        tracemalloc.start()
        sha256, size = save_rows(tmp_path / name, part)
        written.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()
        loaded = load_rows(tmp_path / name, sha256=sha256)
        read.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert_same(loaded, part)
        del loaded
    assert min(written) < 0.3 * size
    assert size <= min(read) < 1.3 * size


def test_untrained_rows_depend_on_seed_and_partition_only() -> None:
    first = init_rows(partition(3, 200), sites=4, experts=8, std=0.5, seed=1)
    again = init_rows(partition(3, 200), sites=4, experts=8, std=0.5, seed=1)
    assert_same(first, again)
    assert (first.index, first.first_id, first.rows.shape) == (3, 768, (200, 4, 8))
    for other in (
        init_rows(partition(4, 200), sites=4, experts=8, std=0.5, seed=1),
        init_rows(partition(3, 200), sites=4, experts=8, std=0.5, seed=2),
    ):
        assert not np.isin(first.rows, other.rows).any()
    assert abs(first.rows.mean()) < 0.02
    assert abs(first.rows.std() - 0.5) < 0.02
    assert not first.exp_avg.any()
    assert not first.steps.any()


@pytest.mark.parametrize(
    ("second_moment", "shape"), [("element", (5, 3, 4)), ("site", (5, 3, 1)), ("row", (5, 1, 1))]
)
def test_second_moments_have_the_shape_that_was_asked_for(
    tmp_path: Path, second_moment: str, shape: tuple[int, ...]
) -> None:
    untrained = init_rows(
        partition(0, 5), sites=3, experts=4, std=1.0, seed=0, second_moment=second_moment
    )
    assert untrained.exp_avg_sq.shape == shape
    save_rows(tmp_path / "alone", untrained, moments=False)
    assert load_rows(tmp_path / "alone", second_moment=second_moment).exp_avg_sq.shape == shape
    save_rows(tmp_path / "whole", untrained)
    for asked in ("element", "site", "row"):
        if asked == second_moment:
            assert_same(load_rows(tmp_path / "whole", second_moment=asked), untrained)
        else:
            with pytest.raises(FileError, match=r"whole: .*train\.rows_second_moment"):
                load_rows(tmp_path / "whole", second_moment=asked)


METADATA = {"first_id": "0", "index": "0"}
ROWS = np.zeros((2, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({"rows": ROWS[0]}, METADATA),
        ({"rows": ROWS.astype(np.float64)}, METADATA),
        ({"exp_avg": ROWS}, METADATA),
        ({"rows": ROWS, "exp_avg": ROWS}, METADATA),
        (
            {
                "rows": ROWS,
                "exp_avg": ROWS,
                "exp_avg_sq": ROWS[:1],
                "steps": np.zeros(2, np.int32),
            },
            METADATA,
        ),
        (
            {"rows": ROWS, "exp_avg": ROWS, "exp_avg_sq": ROWS, "steps": np.zeros(3, np.int32)},
            METADATA,
        ),
        (
            {"rows": ROWS, "exp_avg": ROWS, "exp_avg_sq": ROWS, "steps": np.full(2, -1, np.int32)},
            METADATA,
        ),
        ({"rows": ROWS, "more": ROWS}, METADATA),
        ({"rows": ROWS}, None),
        ({"rows": ROWS}, {"first_id": "zero", "index": "0"}),
        ({"rows": ROWS}, {"first_id": "-1", "index": "0"}),
        ({"rows": ROWS}, {"first_id": "0"}),
        ({"rows": ROWS}, METADATA | {"more": "0"}),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, tensors: dict[str, Any], metadata: dict[str, str] | None
) -> None:
    save_file(tensors, tmp_path / "x", metadata)
    with pytest.raises(FileError, match="x: not a file of routing rows"):
        load_rows(tmp_path / "x")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    sha256, _ = save_rows(tmp_path / "x", random_rows())
    data = (tmp_path / "x").read_bytes()
    for damaged in (data[:-4], data[:4], b"", b"\xff" * 100):
        (tmp_path / "x").write_bytes(damaged)
        with pytest.raises(FileError, match="x: SHA-256 differs"):
            load_rows(tmp_path / "x", sha256=sha256)
        with pytest.raises(FileError, match="x: not a file of routing rows"):
            load_rows(tmp_path / "x")


def file_of(header: bytes, *, data: bytes = bytes(ROWS.nbytes)) -> bytes:
    padded = header.ljust(-(-len(header) // 8) * 8)
    return len(padded).to_bytes(8, "little") + padded + data


GOOD = (
    b'{"__metadata__":{"first_id":"0","index":"0"},'
    b'"rows":{"data_offsets":[0,96],"dtype":"F32","shape":[2,3,4]}}'
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"[0,96]", b"[0,92]"),
        (b"[0,96]", b"[4,100]"),
        (b"[0,96]", b"[96,0]"),
        (b"[0,96]", b"[0,96,96]"),
        (b"[0,96]", b"[-0.0,96]"),
        (b"[2,3,4]", b"[2,3,8]"),
        (b"[2,3,4]", b"[24]"),
        (b"[2,3,4]", b"[2,3,4,1]"),
        (b"[2,3,4]", b"[2,-3,-4]"),
        (b"[2,3,4]", b"[2,3,true]"),
        (b"[2,3,4]", b"[1e1,3,4]"),
        (b"[2,3,4]", b"[0,1000000000000,1000000000000]"),
        (b"[2,3,4]", b"[0,99999999999999999999999999,4]"),
        (b"F32", b"I32"),
        (b"F32", b"f32"),
        (b"rows", b"Rows"),
        (b'"rows":{', b'"rows":{"more":0,'),
        (b'"rows":{', b'"more":' + b"[" * 5000 + b"]" * 5000 + b',"rows":{'),
        (b'"index":"0"', b'"index":"0_1"'),
        (b'"index":"0"', b'"index":0'),
        (b"}}", b"}"),
        (b"}}", b"}}x"),
        (b"{", b"\xff"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    (tmp_path / "x").write_bytes(file_of(GOOD))
    assert load_rows(tmp_path / "x").rows.shape == (2, 3, 4)
    (tmp_path / "x").write_bytes(file_of(GOOD.replace(old, new)))
    with pytest.raises(FileError, match="x: not a file of routing rows"):
        load_rows(tmp_path / "x")
    with pytest.raises(ValueError):
        map_rows(tmp_path / "x")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_files_are_refused_or_read_as_rows(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    url = tmp_path_factory.mktemp("rows") / "x"
    sha256, _ = save_rows(url, random_rows(2, 1, 2), moments=data.draw(st.booleans()))
    original = url.read_bytes()
    mutated = bytearray(original)
    header_end = 8 + int.from_bytes(original[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(header_end + 8, len(mutated))))
        length = data.draw(st.integers(0, 4))
        new = data.draw(st.binary(max_size=4) | st.text('0123456789{}[]",:-', max_size=4))
        mutated[at : at + length] = new if isinstance(new, bytes) else new.encode()
    url.write_bytes(mutated)
    try:
        part = load_rows(url)
    except FileError as error:
        assert "not a file of routing rows" in str(error)
    else:
        assert part.rows.ndim == 3 and part.index >= 0 and part.first_id >= 0
        assert part.rows.nbytes <= len(mutated)
    if hashlib.sha256(mutated).hexdigest() != sha256:
        with pytest.raises(FileError, match="SHA-256 differs"):
            load_rows(url, sha256=sha256)


@pytest.mark.parametrize("second_moment", ["element", "row"])
def test_forget_zeroes_all_state_of_some_passages_and_says_if_there_was_any(
    second_moment: str,
) -> None:
    part = init_rows(
        partition(1, 3), sites=2, experts=3, std=1.0, seed=0, second_moment=second_moment
    )
    first = part.first_id
    part.rows[0] = 0
    part.steps[0] = 5  # the only thing that is left of the first row
    part.rows[2] = 0  # and nothing of the third
    kept = part.rows[1].copy()
    assert ids_with_state(part, []) == [] and not forget(part, [])
    assert ids_with_state(part, [first, first + 2]) == [first]
    assert forget(part, [first, first + 2])
    assert not part.steps[0] and not forget(part, [first, first + 2])
    np.testing.assert_array_equal(part.rows[1], kept)
