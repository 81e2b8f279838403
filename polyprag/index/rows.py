"""The routing rows beside the index: an (N, S, K) fp16 memory map in the order of the ids.

N passages, S sites, K experts. Rows are stored as trained; gates are applied after the search.
fp16 halves the map and moves a row by at most 0.05 %.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from polyprag.errors import RunError

_FILE = "rows.npy"


def write_rows(
    directory: Path,
    rows_of: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]],
    *,
    shape: tuple[int, int, int],
    chunk: int,
    progress: Callable[[int], None],
) -> None:
    """Copies all rows of an encoding into one map.

    Args:
        directory: an existing directory.
        rows_of: ids (n,) to their rows (n, S, K).
        shape: (N, S, K).
        chunk: passages read at a time.
        progress: called with the number of passages copied since the last call.

    Raises:
        RunError: a row isn't finite, doesn't fit fp16, or has another shape.
    """
    table_NSK = np.lib.format.open_memmap(
        directory / _FILE, mode="w+", dtype=np.float16, shape=shape
    )
    for first in range(0, shape[0], chunk):
        ids = np.arange(first, min(first + chunk, shape[0]))
        rows_nSK = np.asarray(rows_of(ids))
        if rows_nSK.shape != (len(ids), *shape[1:]):
            raise RunError(
                f"the encoding's rows {ids[0]} to {ids[-1]} have shape {rows_nSK.shape} and not "
                f"{(len(ids), *shape[1:])}, as its manifest says: run `polyprag encode RUN` again"
            )
        with np.errstate(over="ignore"):
            half_nSK = rows_nSK.astype(np.float16)
        if not np.isfinite(half_nSK).all():
            raise RunError(
                f"the encoding's rows {ids[0]} to {ids[-1]} hold numbers that are infinite, "
                "undefined or above 65,504: the training diverged; lower train.rows_lr and encode "
                "again"
            )
        table_NSK[ids[0] : ids[-1] + 1] = half_nSK
        progress(len(ids))
    table_NSK.flush()


class RowTable:
    """The opened map."""

    def __init__(self, table_NSK: npt.NDArray[np.float16]) -> None:
        """Wraps an (N, S, K) array; `open` maps one."""
        self._table_NSK = table_NSK

    @classmethod
    def open(cls, directory: Path, *, num_passages: int) -> "RowTable":
        """Maps what `write_rows` wrote.

        Raises:
            RunError: it is damaged, or of another number of passages.
        """
        path = directory / _FILE
        try:
            table = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise RunError(f"{path}: {error}; run `polyprag index RUN` again") from error
        if table.dtype != np.float16 or table.ndim != 3 or len(table) != num_passages:
            raise RunError(
                f"{path}: {table.dtype} of shape {table.shape} where fp16 rows of {num_passages} "
                "passages are expected; run `polyprag index RUN` again"
            )
        return cls(table)

    def take(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The rows (n, S, K) of the ids (n,), in their order."""
        return np.asarray(self._table_NSK[ids], dtype=np.float32)
