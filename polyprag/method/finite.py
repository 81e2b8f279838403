"""Finding what is infinite or undefined (NaN), in one pass over numbers that mostly are neither."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def is_finite(numbers: Tensor) -> bool:
    """Returns whether all are finite, and the sum of their squares in float32 is, too.

    Adam divides by the root of a square that would be infinite, and never moves again. One pass
    without a copy, and one number that is read.
    """
    flat = numbers.detach().reshape(-1).float()
    return bool(torch.isfinite(torch.dot(flat, flat)))


def rows_not_finite(numbers: Tensor) -> npt.NDArray[np.bool_]:
    """Returns (n,) of an (n, ...) tensor: where `is_finite` isn't so."""
    flat = numbers.detach().float().flatten(1)
    wrong: npt.NDArray[np.bool_] = (~torch.isfinite((flat * flat).sum(dim=1))).cpu().numpy()
    return wrong


def names_not_finite(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Returns the names of those tensors that hold a number that isn't finite.

    Quantised weights are passed over.
    """
    return [name for name, tensor in tensors if not _holds_numbers_only(tensor.detach())]


def _holds_numbers_only(tensor: Tensor) -> bool:
    if tensor.dtype not in _FLOATS or not tensor.numel():
        return True
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())  # NaN is passed on
