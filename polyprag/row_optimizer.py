"""Adam for the rows of a large table of which a step touches a few.

Moments and the step count belong to each row, so a row is updated exactly as `torch.optim.Adam`
would update it if only the steps that touched it had happened; rows that rest don't move.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FloatRows = Tensor | npt.NDArray[np.float32]
IntRows = Tensor | npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class RowAdam:
    """Adam (arXiv 1412.6980) without weight decay, on chosen rows.

    Attributes:
        lr: learning rate where `update` isn't given one.
        betas: decay of the first and second moment.
        eps: added to the denominator.
    """

    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

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
        """Update the indexed rows, their moments and step counts in place: one gather, one scatter.

        Args:
            rows: (N, S, K) float32 on the CPU.
            exp_avg: (N, S, K) float32 first moments.
            exp_avg_sq: (N, S, K) float32 second moments.
            steps: (N,) int32, updates that each row has had.
            index: (M,) rows that this step touches, each once.
            grad: (M, S, K) float32 gradients of those rows.
            lr: this step's learning rate.

        Raises:
            ValueError: a row is in `index` twice (sum its gradients first).
        """
        at = torch.as_tensor(index, dtype=torch.int64)
        if len(torch.unique(at)) != len(at):
            raise ValueError("a row is in index twice; add up its gradients first")
        table, first, second = (torch.as_tensor(t) for t in (rows, exp_avg, exp_avg_sq))
        counts, g = torch.as_tensor(steps), torch.as_tensor(grad)
        beta1, beta2 = self.betas

        count = counts[at] + 1
        m = torch.lerp(first[at], g, 1 - beta1)
        v = (second[at] * beta2).addcmul_(g, g, value=1 - beta2)
        shape = (-1, *[1] * (table.dim() - 1))
        correction1 = (1 - beta1 ** count.double()).float().view(shape)
        correction2 = (1 - beta2 ** count.double()).float().view(shape)
        step = (lr if lr is not None else self.lr) * (m / correction1)
        denominator = (v / correction2).sqrt_().add_(self.eps)

        counts[at] = count
        first[at] = m
        second[at] = v
        table[at] -= step.div_(denominator)
