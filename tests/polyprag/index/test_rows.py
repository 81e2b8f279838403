from pathlib import Path

import numpy as np
import pytest

from polyprag.errors import RunError
from polyprag.index.rows import RowTable, write_rows


def table_of(directory: Path, rows_NSK: np.ndarray) -> RowTable:
    write_rows(
        directory,
        lambda ids: rows_NSK[ids],
        shape=rows_NSK.shape,  # type: ignore[arg-type]
        chunk=3,
        progress=lambda _: None,
    )
    return RowTable.open(directory, num_passages=len(rows_NSK))


def test_rows_come_in_the_order_that_is_asked_for_to_fp16_precision(tmp_path: Path) -> None:
    rows_NSK = np.random.default_rng(0).standard_normal((10, 2, 3), dtype=np.float32)
    taken = table_of(tmp_path, rows_NSK).take(np.array([7, 0, 7]))
    assert taken.dtype == np.float32
    np.testing.assert_allclose(taken, rows_NSK[[7, 0, 7]], rtol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_a_diverged_row_is_a_run_error(tmp_path: Path, value: float) -> None:
    rows_NSK = np.zeros((5, 1, 2), np.float32)
    rows_NSK[4, 0, 1] = value
    with pytest.raises(RunError, match=r"rows 3 to 4.*diverged"):
        table_of(tmp_path, rows_NSK)


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
        RowTable.open(tmp_path, num_passages=6)
