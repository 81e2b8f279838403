"""Several retrieved passages' gates become one mixture of the experts."""

import torch
from torch import Tensor

from polyprag.config import RetrievalConfig


def weights(scores: Tensor, config: RetrievalConfig) -> Tensor:
    """Returns how much each retrieved passage counts.

    `softmax` is over the scores divided by `temperature`; `mean` counts all alike; `sum` counts
    each as 1 (PRAG adds its LoRAs up).

    Args:
        scores: (..., k) retrieval scores; -inf marks a place where no passage was found.
        config: mixture and temperature.

    Returns:
        (..., k) float32; 0 where no passage was found.
    """
    scores = scores.float()
    found = scores > -torch.inf
    if config.mixture == "softmax":
        # The zero stands for "nothing found at all", which softmax would turn into NaN.
        nothing = ~found.any(dim=-1, keepdim=True)
        shares = torch.softmax((scores / config.temperature).masked_fill(nothing, 0.0), dim=-1)
        return shares * found
    counted = found.float()
    if config.mixture == "sum":
        return counted
    return counted / counted.sum(dim=-1, keepdim=True).clamp(min=1.0)


def mix_gates(gates: Tensor, weights: Tensor) -> Tensor:
    """Returns the weighted sum of passages' gates.

    Args:
        gates: (..., k, S, K) gates (not rows).
        weights: (..., k) float32, what each passage counts; leading axes are batch axes.

    Returns:
        (..., S, K) float32.
    """
    return torch.einsum("...k,...ksj->...sj", weights, gates.float())
