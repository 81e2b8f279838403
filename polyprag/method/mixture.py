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


def mix_gates(gates: Tensor, scores: Tensor, config: RetrievalConfig) -> Tensor:
    """Returns the weighted sum of the retrieved passages' gates.

    Args:
        gates: (..., k, S, K) gates (not rows), best passage first.
        scores: (..., k) retrieval scores; leading axes are batch axes.
        config: mixture and temperature.

    Returns:
        (..., S, K) float32.
    """
    return torch.einsum("...k,...ksj->...sj", weights(scores, config), gates.float())
