import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.errors import ConfigError, RunError
from polyprag.retrieval.parts.serving_rows import Rows, ServingRows, write_rows
from polyprag.retrieval.parts.span import Span


def table_of(directory: Path, rows_nSK: np.ndarray, rows_format: str = "fp16") -> ServingRows:
    write_rows(
        directory,
        lambda ids: rows_nSK[ids - 100],
        shape=rows_nSK.shape,  # type: ignore[arg-type]
        first_id=100,
        rows_format=rows_format,
        chunk=3,
        progress=lambda _: None,
    )
    return ServingRows.open(directory, num_passages=len(rows_nSK))


def test_rows_come_in_the_order_that_is_asked_for_to_fp16_precision(tmp_path: Path) -> None:
    rows_nSK = np.random.default_rng(0).standard_normal((10, 2, 3), dtype=np.float32)
    taken = table_of(tmp_path, rows_nSK).take(np.array([7, 0, 7]))
    assert taken.dtype == np.float32
    np.testing.assert_allclose(taken, rows_nSK[[7, 0, 7]], rtol=1e-3)


finite = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.lists(finite, min_size=6, max_size=6), min_size=1, max_size=7))
def test_int8_rows_are_off_by_at_most_half_a_step_of_their_own(rows: list[list[float]]) -> None:
    rows_nSK = np.array(rows, np.float32).reshape(-1, 2, 3)
    with tempfile.TemporaryDirectory() as directory:
        taken = table_of(Path(directory), rows_nSK, "int8").take(np.arange(len(rows)))
    steps_n11 = np.abs(rows_nSK.astype(np.float64)).max(axis=(1, 2), keepdims=True) / 127
    assert np.all(np.abs(taken - rows_nSK.astype(np.float64)) <= steps_n11 * 0.50001 + 1e-35)
    assert not taken[~rows_nSK.any(axis=(1, 2))].any()


def test_int8_takes_half_of_fp16(tmp_path: Path) -> None:
    rows_nSK = np.random.default_rng(0).standard_normal((64, 10, 20), dtype=np.float32)
    sizes = {}
    for rows_format in ("fp16", "int8"):
        (tmp_path / rows_format).mkdir()
        table_of(tmp_path / rows_format, rows_nSK, rows_format)
        files = (tmp_path / rows_format).iterdir()
        sizes[rows_format] = sum(np.load(path).nbytes for path in files)
    assert sizes == {"fp16": 64 * 200 * 2, "int8": 64 * (200 + 4)}


def test_tables_of_several_segments_are_one(tmp_path: Path) -> None:
    rows_nSK = np.random.default_rng(0).standard_normal((10, 2, 3), dtype=np.float32)
    whole = np.concatenate([rows_nSK, rows_nSK[:4]])
    tables = []
    for name, part in (("one", rows_nSK), ("two", rows_nSK[:4])):
        (tmp_path / name).mkdir()
        tables.append(table_of(tmp_path / name, part))
    taken = Rows(tables, [Span(0, 10), Span(10, 4)]).take(np.array([13, 2, 10, 9, 13]))
    np.testing.assert_allclose(taken, whole[[13, 2, 10, 9, 13]], rtol=1e-3)
    (tmp_path / "three").mkdir()
    other = table_of(tmp_path / "three", rows_nSK[:, :1])
    with pytest.raises(RunError, match="different shapes"):
        Rows([tables[0], other], [Span(0, 10), Span(10, 10)])


@pytest.mark.parametrize("formats", [("fp16",), ("int8",), ("fp16", "int8"), ("int8", "int8")])
@pytest.mark.parametrize("hidden", [(), (2, 13)])
def test_rows_on_a_device_are_the_same_bits(
    tmp_path: Path, formats: tuple[str, ...], hidden: tuple[int, ...]
) -> None:
    tables, spans, given = [], [], []
    for number, rows_format in enumerate(formats):
        given.append(np.random.default_rng(number).standard_normal((10, 2, 3), dtype=np.float32))
        (tmp_path / str(number)).mkdir()
        tables.append(table_of(tmp_path / str(number), given[-1], rows_format))
        spans.append(Span(10 * number, 10))
    rows = Rows(tables, spans, hidden=hidden)
    whole = np.concatenate(given)
    for ids in ([3, 9, 0, 3], [-1, 2, 10 * len(formats) - 1, -1, 3], [2], [-1], []):
        wanted = np.array(ids, np.int64)
        taken, tensor = rows.take(wanted), rows.take_on(wanted, "cpu")
        assert tensor.dtype == torch.float32
        np.testing.assert_array_equal(tensor.numpy().view(np.uint32), taken.view(np.uint32))
        gone = np.isin(wanted, [-1, *hidden])
        np.testing.assert_allclose(taken[~gone], whole[wanted[~gone]], atol=0.02)
        assert not taken[gone].any()


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_a_device_that_is_not_there_is_a_config_error(tmp_path: Path, device: str) -> None:
    rows = Rows([table_of(tmp_path, np.ones((5, 1, 2), np.float32))], [Span(0, 5)])
    with pytest.raises(ConfigError, match=f"device '{device}'"):
        rows.take_on(np.array([0]), device)


@pytest.mark.parametrize("rows_format", ["fp16", "int8"])
def test_a_passage_that_is_not_there_has_no_row(tmp_path: Path, rows_format: str) -> None:
    rows = Rows([table_of(tmp_path, np.ones((5, 1, 2), np.float32), rows_format)], [Span(0, 5)])
    for take in (rows.take, lambda ids: rows.take_on(ids, "cpu")):
        with pytest.raises(IndexError):
            take(np.array([5]))


@pytest.mark.parametrize(
    ("rows_format", "value"),
    [(kind, value) for kind in ("fp16", "int8") for value in (np.nan, np.inf)] + [("fp16", 1e6)],
)
def test_a_diverged_row_is_a_run_error(tmp_path: Path, value: float, rows_format: str) -> None:
    rows_nSK = np.zeros((5, 1, 2), np.float32)
    rows_nSK[4, 0, 1] = value
    with pytest.raises(RunError, match=r"1 passages from id 104 on.*diverged"):
        table_of(tmp_path, rows_nSK, rows_format)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: np.save(path, [1.0])])
def test_int8_rows_without_their_scales_are_a_run_error(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    table_of(tmp_path, np.ones((5, 1, 2), np.float32), "int8")
    damage(tmp_path / "scales.npy")
    with pytest.raises(RunError, match="polyprag index RUN"):
        ServingRows.open(tmp_path, num_passages=5)


def test_rows_of_another_shape_are_a_run_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="shape"):
        write_rows(
            tmp_path,
            lambda ids: np.zeros((len(ids), 1, 1), np.float32),
            shape=(4, 2, 2),
            chunk=4,
            progress=lambda _: None,
        )


def test_a_table_of_another_number_of_passages_is_a_run_error(tmp_path: Path) -> None:
    table_of(tmp_path, np.zeros((5, 1, 2), np.float32))
    with pytest.raises(RunError, match="polyprag index RUN"):
        ServingRows.open(tmp_path, num_passages=6)
