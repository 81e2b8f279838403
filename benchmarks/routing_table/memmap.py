"""Memory-mapped NumPy arrays, for the benchmark of the routing table."""

import mmap
import os
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from routing_table.cold import forget
from routing_table.stream import Ids, Step, Stream

_LR, _BETA1, _BETA2, _EPS = np.float32([0.1, 0.9, 0.999, 1e-8])


class Table:
    """Rows and moments in three mapped files; the system reads and writes pages as it sees fit.

    Nothing makes what was written durable.
    """

    def __init__(
        self, stream: Stream, *, sites: int, experts: int, grad: Any, directory: Path
    ) -> None:
        self._stream = stream
        self._grad = grad.reshape(len(grad), -1)
        self._paths = [directory / name for name in ("rows", "exp_avg", "exp_avg_sq")]
        self._shape = (stream.num_whole, sites * experts)
        for path in self._paths:
            path.touch()
            os.truncate(path, 4 * self._shape[0] * self._shape[1])
        self._steps = np.zeros(stream.num_whole, np.int32)
        self._arrays: list[Any] = []

    def prepare(self, steps: int, *, cold: bool) -> None:
        """Writes the rows that so many steps touch, as an earlier epoch would have."""
        row = bytes(4 * self._shape[1])
        for path in self._paths:
            with path.open("r+b", buffering=0) as file:
                for step in islice(self._stream.steps(0), steps):
                    for number in step.ids.tolist():
                        os.pwrite(file.fileno(), row, number * len(row))
            if cold:
                forget(path)

    def begin(self, orders: list[Ids]) -> None:
        """Maps the files."""
        if self._arrays:
            return
        self._arrays = [
            np.memmap(path, np.float32, "r+", shape=self._shape) for path in self._paths
        ]
        if self._stream.shuffled:
            for array in self._arrays:  # the system needn't read what lies beside a row
                array._mmap.madvise(mmap.MADV_RANDOM)

    def step(self, step: Step) -> None:
        """Gathers the rows and moments, and scatters what Adam makes of them."""
        ids, grad = step.ids, self._grad
        rows, exp_avg, exp_avg_sq = self._arrays
        w, count = rows[ids], self._steps[ids] + 1
        m = exp_avg[ids] * _BETA1 + grad * (1 - _BETA1)
        v = exp_avg_sq[ids] * _BETA2 + grad**2 * (1 - _BETA2)
        m_hat = m / (1 - _BETA1**count)[:, None].astype(np.float32)
        v_hat = v / (1 - _BETA2**count)[:, None].astype(np.float32)
        rows[ids] = w - _LR * m_hat / (np.sqrt(v_hat) + _EPS)
        exp_avg[ids], exp_avg_sq[ids], self._steps[ids] = m, v, count

    def close(self) -> None:
        """What isn't written yet is left to the system."""
