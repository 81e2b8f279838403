import numpy as np
import pytest

from polyprag.retrieval.parts.fp16_rows import gather_fp16


def test_every_finite_half_is_what_numpy_makes_of_it() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    halves = bits.view(np.float16)
    finite = halves[np.isfinite(halves)].reshape(-1, 64)
    positions = np.arange(len(finite))[::-1].copy()
    taken = gather_fp16(finite, positions)
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(
        taken.view(np.uint32), finite[positions].astype(np.float32).view(np.uint32)
    )


@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 4), (5, 0)])
def test_shapes_and_repeated_positions(shape: tuple[int, ...]) -> None:
    table = np.random.default_rng(0).standard_normal(shape).astype(np.float16)
    for positions in (np.array([4, 0, 4]), np.zeros(0, np.int64)):
        np.testing.assert_array_equal(gather_fp16(table, positions), table[positions])


@pytest.mark.parametrize("position", [-1, 5])
def test_a_position_that_is_not_there_is_an_index_error(position: int) -> None:
    with pytest.raises(IndexError, match="0 to 4"):
        gather_fp16(np.zeros((5, 2), np.float16), np.array([0, position]))


def test_a_memory_map_is_read(tmp_path) -> None:  # type: ignore[no-untyped-def]
    np.save(tmp_path / "x.npy", np.full((4, 3), 0.5, np.float16))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(gather_fp16(mapped, np.array([3])), [[0.5] * 3])
