"""The training loss: a sum over tokens, so that batches of any split add up to the same whole."""

from torch import Tensor
from torch.nn import functional as F

from polyprag.method.examples import IGNORED


def causal_loss_sum(logits: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Returns the summed next-token cross-entropy and the number of tokens in it.

    Args:
        logits: (B, T, V) of any float dtype; position t predicts label t + 1.
        labels: (B, T) int64, not shifted; -100 has no loss.

    Returns:
        A float32 scalar in nats (0 with a gradient graph when no token counts), and the count.
    """
    targets = labels[:, 1:]
    counted = targets != IGNORED
    # Only positions that count are turned to float32: V is the largest dimension of all.
    chosen = logits[:, :-1][counted].float()
    return F.cross_entropy(chosen, targets[counted], reduction="sum"), len(chosen)
