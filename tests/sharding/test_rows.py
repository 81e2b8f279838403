from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from sharding.errors import CorpusError
from sharding.files import sha256_of
from sharding.manifest import Partition
from sharding.rows import RowPartition, init_rows, load_rows, save_rows

SHA = "0" * 64


def partition(index: int, num_passages: int) -> Partition:
    name = f"part-{index:05d}-{SHA[:12]}.tar"
    return Partition(index, 256 * index, num_passages, name, 1, SHA)


def random_rows(num_passages: int = 5, sites: int = 3, experts: int = 4) -> RowPartition:
    generator = np.random.default_rng(0)
    shape = (num_passages, sites, experts)
    rows, first, second = generator.standard_normal((3, *shape), dtype=np.float32)
    steps = generator.integers(0, 9, num_passages, dtype=np.int32)
    return RowPartition(2, 512, rows, first, second, steps)


def assert_same(left: RowPartition, right: RowPartition) -> None:
    assert (left.index, left.first_id) == (right.index, right.first_id)
    for name in ("rows", "exp_avg", "exp_avg_sq", "steps"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), strict=True)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5))
def test_rows_and_moments_survive_exactly(
    tmp_path_factory: pytest.TempPathFactory, num_passages: int, sites: int, experts: int
) -> None:
    url = tmp_path_factory.mktemp("rows") / "part.safetensors"
    part = random_rows(num_passages, sites, experts)
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


def test_equal_rows_give_equal_bytes_that_safetensors_reads(tmp_path: Path) -> None:
    """safetensors itself writes its metadata in an order that changes from call to call."""
    hashes = {save_rows(tmp_path / f"{i}", random_rows())[0] for i in range(20)}
    assert len(hashes) == 1
    with safe_open(tmp_path / "0", framework="numpy") as file:
        assert file.metadata() == {"first_id": "512", "index": "2"}
        assert sorted(file.keys()) == ["exp_avg", "exp_avg_sq", "rows", "steps"]
        np.testing.assert_array_equal(file.get_tensor("rows"), random_rows().rows)


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
        ({"rows": ROWS}, None),
        ({"rows": ROWS}, {"first_id": "zero", "index": "0"}),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, tensors: dict[str, Any], metadata: dict[str, str] | None
) -> None:
    save_file(tensors, tmp_path / "x", metadata)
    with pytest.raises(CorpusError, match="x: not a file of routing rows"):
        load_rows(tmp_path / "x")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    sha256, _ = save_rows(tmp_path / "x", random_rows())
    data = (tmp_path / "x").read_bytes()
    for damaged in (data[:-4], data[:4], b"", b"\xff" * 100):
        (tmp_path / "x").write_bytes(damaged)
        with pytest.raises(CorpusError, match="x: SHA-256 differs"):
            load_rows(tmp_path / "x", sha256=sha256)
        with pytest.raises(CorpusError, match="x: not a file of routing rows"):
            load_rows(tmp_path / "x")
