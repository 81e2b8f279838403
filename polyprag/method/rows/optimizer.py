"""Adam for the rows of a large table of which a step touches a few.

Moments and the step count belong to each row, so a row is updated exactly as `torch.optim.Adam`
would update it if only the steps that touched it had happened; rows that rest don't move.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from polyprag.method.rows.kernel import OUTSIDE, SHAPES, TWICE, compiled

FloatRows = Tensor | npt.NDArray[np.float32]
IntRows = Tensor | npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class RowAdam:
    """Adam (arXiv 1412.6980) without weight decay, on chosen rows.

    Attributes:
        lr: learning rate where `update` isn't given one.
        betas: decay of the first and second moment.
        eps: added to the denominator.
        grad_clip: the largest norm that a row's gradient keeps; 0 for any.
    """

    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    grad_clip: float = 0.0

    def update(
        self,
        rows: FloatRows,
        exp_avg: FloatRows,
        exp_avg_sq: FloatRows,
        steps: IntRows,
        *,
        index: IntRows,
        grad: FloatRows,
        lr: float | None = None,
    ) -> None:
        """Updates the indexed rows, their moments and step counts in place, in one pass.

        A row's result doesn't depend on which other rows are updated in the same call, to the bit.
        Other threads run meanwhile.

        Args:
            rows: (N, S, K) float32 on the CPU, contiguous as all that changes.
            exp_avg: (N, S, K) float32 first moments.
            exp_avg_sq: float32 second moments: (N, S, K), or (N, S, 1) or (N, 1, 1) for one of each
                site or row, which is fed with the mean of its squared gradients.
            steps: (N,) int32, updates that each row has had.
            index: (M,) rows that this step touches, each once.
            grad: (M, S, K) float32 gradients of those rows.
            lr: this step's learning rate.

        Raises:
            ValueError: a row is in `index` twice (sum its gradients first) or isn't in the table,
                or an array has another type or shape; nothing has changed.
        """
        table, first, second = _numbers(rows), _numbers(exp_avg), _numbers(exp_avg_sq)
        counts = _numbers(steps)
        at = np.ascontiguousarray(_numbers(index), dtype=np.int64)
        g = np.ascontiguousarray(_numbers(grad), dtype=np.float32)
        rate, (beta1, beta2) = self.lr if lr is None else lr, self.betas
        arrays = (table, first, second, counts, at, g)
        try:
            wrong = compiled()(*arrays, rate, beta1, beta2, self.eps, self.grad_clip)
        except TypeError as error:  # the kernel takes arrays of one kind only
            raise ValueError(
                "rows, exp_avg and exp_avg_sq must be float32 (N, S, K), steps int32 (N,), all of "
                f"them contiguous and writable; got {_described(arrays)}"
            ) from error
        if wrong == SHAPES:
            raise ValueError(f"shapes don't fit: {_described(arrays)}")
        if wrong == TWICE:
            raise ValueError("a row is in index twice; add up its gradients first")
        if wrong == OUTSIDE:
            raise ValueError(f"index names a row outside of the table, which has {len(table)}")


def _numbers(array: Tensor | npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns the array's own memory."""
    return array.detach().numpy() if isinstance(array, Tensor) else np.asarray(array)


def _described(arrays: tuple[npt.NDArray[Any], ...]) -> str:
    names = ("rows", "exp_avg", "exp_avg_sq", "steps", "index", "grad")
    pairs = zip(names, arrays, strict=True)
    return ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in pairs)
