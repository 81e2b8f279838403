"""The routing rows beside the index: (n, S, K) memory maps in the order of the ids.

n passages of a segment, N in all, S sites, K experts. Rows are stored as trained; gates are applied
after the search. Two formats, told apart by their type: fp16, which moves a number by at most
0.05 %, and int8 with one fp32 scale a row, half of that again, which moves it by at most 1/254 of
the row's largest.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from polyprag.errors import ConfigError, RunError
from polyprag.retrieval.parts.fp16_rows import are_finite, gather_fp16
from polyprag.retrieval.parts.span import Span
from polyprag.retrieval.remedy import REMEDY
from sharding.storage.array_files import map_array

if TYPE_CHECKING:
    import torch

_FILE, _SCALES = "rows.npy", "scales.npy"
_LARGEST = 127  # of an int8, on both sides of zero


def write_rows(
    directory: Path,
    rows_of: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]],
    *,
    shape: tuple[int, int, int],
    first_id: int = 0,
    rows_format: str = "fp16",
    chunk: int,
    progress: Callable[[int], None],
    key_of: Callable[[int], str] = str,
) -> None:
    """Copies the rows of a range of passages into one map.

    Args:
        directory: an existing directory.
        rows_of: ids (c,) to their rows (c, S, K).
        shape: (n, S, K).
        first_id: of the range.
        rows_format: fp16 or int8.
        chunk: passages read at a time.
        progress: called with the number of passages copied since the last call.
        key_of: the key of a passage, for errors.

    Raises:
        RunError: a row isn't finite, doesn't fit fp16, or has another shape; names the passage.
    """
    dtype = np.float16 if rows_format == "fp16" else np.int8
    table_nSK = np.lib.format.open_memmap(directory / _FILE, mode="w+", dtype=dtype, shape=shape)
    scales_n = np.zeros(shape[0], np.float32)
    for first in range(0, shape[0], chunk):
        last = min(first + chunk, shape[0]) - 1
        ids = first_id + np.arange(first, last + 1)
        rows_cSK = np.asarray(rows_of(ids))
        if rows_cSK.shape != (len(ids), *shape[1:]):
            raise RunError(
                f"the encoding's rows {ids[0]} to {ids[-1]} have shape {rows_cSK.shape} and not "
                f"{(len(ids), *shape[1:])}, as its manifest says: run `polyprag encode RUN` again"
            )
        stored_cSK, scales_n[first : last + 1] = _stored(rows_cSK, rows_format)
        is_kept_c = np.isfinite(stored_cSK).all((1, 2)) & np.isfinite(rows_cSK).all((1, 2))
        if not is_kept_c.all():
            _refuse(ids[~is_kept_c].tolist(), rows_cSK[~is_kept_c], key_of=key_of)
        table_nSK[first : last + 1] = stored_cSK
        progress(len(ids))
    table_nSK.flush()
    if rows_format == "int8":
        np.save(directory / _SCALES, scales_n, allow_pickle=False)


def _refuse(
    ids: list[int], rows_mSK: npt.NDArray[np.float32], *, key_of: Callable[[int], str]
) -> NoReturn:
    more = f" and those of {len(ids) - 1} more" if len(ids) > 1 else ""
    of = f"the encoding's row of {key_of(ids[0])!r} (passage {ids[0]}){more}"
    if np.isfinite(rows_mSK).all():
        raise RunError(
            f"{of} can't be kept in fp16: numbers above 65,504; set index.rows_format=int8, or "
            "encode again with a lower train.rows_lr"
        )
    raise RunError(
        f"{of} isn't finite: the training that wrote it diverged; delete RUN/checkpoints and "
        "encode again, with a lower train.rows_lr or train.experts_lr"
    )


def _stored(
    rows_cSK: npt.NDArray[np.float32], rows_format: str
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    """Rows in a format, and the scale (c,) of each; a row of zeros has a scale of 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        if rows_format == "fp16":
            return rows_cSK.astype(np.float16), np.ones(len(rows_cSK), np.float32)
        scales_c = np.abs(rows_cSK).max(axis=(1, 2)) / np.float32(_LARGEST)
        divisors_c11 = np.where(scales_c > 0, scales_c, np.float32(1))[:, None, None]
        return np.rint(rows_cSK / divisors_c11).astype(np.int8), scales_c


def rounding(rows_mSK: npt.NDArray[np.float32], rows_format: str) -> npt.NDArray[np.float32]:
    """Returns the most by which a format moves each number of rows, of the same shape."""
    sizes_mSK = np.abs(rows_mSK)
    if rows_format == "fp16":  # half of the last bit, and of the smallest number
        return sizes_mSK * np.float32(2**-11) + np.float32(2**-25)
    steps_m11 = sizes_mSK.max(axis=(1, 2), keepdims=True) / np.float32(_LARGEST)
    return np.broadcast_to(steps_m11 * np.float32(0.5001), rows_mSK.shape)  # of a step: fp32's own


class ServingRows:
    """The opened map of one segment."""

    def __init__(
        self,
        table_nSK: npt.NDArray[np.float16] | npt.NDArray[np.int8],
        scales_n: npt.NDArray[np.float32] | None = None,
        *,
        where: Path | None = None,
    ) -> None:
        """Wraps an (n, S, K) array, with scales where it is of int8; `open` maps one."""
        self._table_nSK, self._scales_n = table_nSK, scales_n
        self._where = where

    @classmethod
    def open(cls, directory: Path, *, num_passages: int) -> "ServingRows":
        """Maps what `write_rows` wrote.

        Raises:
            RunError: it is damaged, or of another number of passages.
        """
        path = directory / _FILE
        scales = None
        try:
            table = map_array(path, dtypes=[np.float16, np.int8], ndim=3)
            if table.dtype == np.int8:
                scales = map_array(directory / _SCALES, dtypes=[np.float32], ndim=1).copy()
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: {error}; {REMEDY}") from error
        if len(table) != num_passages or not table.size:
            raise RunError(
                f"{path}: of shape {table.shape} where rows of {num_passages} passages are "
                f"expected; {REMEDY}"
            )
        if scales is not None and not (len(scales) == num_passages and np.isfinite(scales).all()):
            raise RunError(f"{directory / _SCALES}: not a scale for each row; {REMEDY}")
        return cls(table, scales, where=path)

    @property
    def rows_format(self) -> str:
        """The `index.rows_format` that it was written in."""
        return "fp16" if self._scales_n is None else "int8"

    @property
    def row_shape(self) -> tuple[int, int]:
        """(S, K)."""
        _, sites, experts = self._table_nSK.shape
        return sites, experts

    def take(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Returns the rows (m, S, K) at positions (m,) of the segment, in their order.

        Raises:
            IndexError: there is no such position.
            RunError: a number isn't finite.
        """
        if self._scales_n is None:
            rows_mSK = gather_fp16(self._table_nSK.view(np.float16), positions)
            if not are_finite(rows_mSK):
                self._refuse_damaged(positions)
            return rows_mSK
        rows_mSK = self._table_nSK.take(positions, axis=0).astype(np.float32)
        rows_mSK *= self._scales_n[positions][:, None, None]
        return rows_mSK

    def take_on(self, positions: npt.NDArray[np.int64], device: "torch.device") -> "torch.Tensor":
        """Returns the rows of `take` on a PyTorch device, where they become float32.

        Raises:
            IndexError: there is no such position.
            RunError: a number isn't finite.
        """
        import torch

        if positions.size and positions.max() >= len(self._table_nSK):
            raise IndexError(f"positions must be below {len(self._table_nSK)}: {positions.max()}")
        is_pinned = device.type == "cuda"
        dtype = torch.float16 if self._scales_n is None else torch.int8
        shape = (len(positions), *self.row_shape)
        stored_mSK = torch.empty(shape, dtype=dtype, pin_memory=is_pinned)
        self._table_nSK.take(positions, axis=0, out=stored_mSK.numpy(), mode="clip")  # unbuffered
        rows_mSK = stored_mSK.to(device, non_blocking=is_pinned).float()
        if self._scales_n is not None:
            scales_m = torch.from_numpy(self._scales_n[positions]).to(device)
            rows_mSK *= scales_m[:, None, None]
        elif not torch.isfinite(rows_mSK).all():
            self._refuse_damaged(positions)
        return rows_mSK

    def _refuse_damaged(self, positions: npt.NDArray[np.int64]) -> NoReturn:
        is_finite_m = np.isfinite(self._table_nSK[positions]).all(axis=(1, 2))
        bad = positions[~is_finite_m][0]
        raise RunError(f"{self._where}: row {bad} of the segment isn't of finite numbers; {REMEDY}")


class Rows:
    """The rows of all segments as one. Passages that are hidden, or negative ids, have zeros.

    Attributes:
        row_shape: (S, K).
    """

    def __init__(
        self, tables: Sequence[ServingRows], spans: Sequence[Span], *, hidden: Sequence[int] = ()
    ) -> None:
        """Takes each segment's rows and passages, and the ids of hidden passages.

        Raises:
            RunError: segments have rows of different shapes.
        """
        self._tables, self._hidden = tuple(tables), np.array(hidden, np.int64)
        self._first_ids = np.array([span.first_id for span in spans])
        self.row_shape = tables[0].row_shape
        if any(table.row_shape != self.row_shape for table in tables):
            raise RunError(f"segments have rows of different shapes; {REMEDY}")

    def take(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Returns the rows (m, S, K) of the ids (m,), in their order.

        Raises:
            RunError: a row isn't finite.
        """
        if len(self._tables) == 1 and self._are_there(ids):
            return self._tables[0].take(ids)
        rows_mSK = np.zeros((len(ids), *self.row_shape), dtype=np.float32)
        for table, at, positions in self._by_table(ids):
            rows_mSK[at] = table.take(positions)
        return rows_mSK

    def take_on(self, ids: npt.NDArray[np.int64], device: "str | torch.device") -> "torch.Tensor":
        """Returns the rows of `take` on a PyTorch device.

        They travel as they are stored, from pinned memory, and become float32 there.

        Raises:
            ConfigError: there is no such device.
        """
        import torch

        try:
            rows_mSK = torch.zeros((len(ids), *self.row_shape), device=device)
        except (RuntimeError, AssertionError) as error:  # the latter where PyTorch has no CUDA
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"rows can't be put on device {str(device)!r}: it must be one that PyTorch has "
                f"here, such as cpu [{reason}]"
            ) from error
        if len(self._tables) == 1 and self._are_there(ids):
            return self._tables[0].take_on(ids, rows_mSK.device)
        for table, at, positions in self._by_table(ids):
            where = torch.from_numpy(at).to(rows_mSK.device)
            rows_mSK[where] = table.take_on(positions, rows_mSK.device)
        return rows_mSK

    def _are_there(self, ids: npt.NDArray[np.int64]) -> bool:
        """Returns whether each of the ids (m,) has a row."""
        if ids.size and ids.min() < 0:
            return False
        return not len(self._hidden) or not np.isin(ids, self._hidden).any()

    def _by_table(
        self, ids: npt.NDArray[np.int64]
    ) -> Iterator[tuple[ServingRows, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """For each table that has any of them: where in the ids (m,), and their positions in it."""
        segment_of = np.searchsorted(self._first_ids, ids, side="right") - 1
        segment_of[np.isin(ids, self._hidden)] = -1
        for i in np.unique(segment_of[segment_of >= 0]).tolist():
            (at,) = np.nonzero(segment_of == i)
            yield self._tables[i], at, ids[at] - self._first_ids[i]
