"""The training loss: a sum over tokens, so that batches of any split add up to the same whole."""

from torch import Tensor
from torch.nn import functional as F

from polyprag.config import TrainConfig
from polyprag.method.examples import IGNORED
from polyprag.method.teacher.divergence import distill_loss_sum
from polyprag.method.teacher.targets import TargetBatch


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


def training_loss_sum(
    logits: Tensor, labels: Tensor, targets: TargetBatch | None, *, distill_weight: float
) -> Tensor:
    """Returns the loss of a batch: on its labels, and against the teacher where there are targets.

    Args:
        logits: (B, T, V).
        labels: (B, T); see `causal_loss_sum`.
        targets: see `distill_loss_sum`.
        distill_weight: of the teacher's part.
    """
    loss, _ = causal_loss_sum(logits, labels)
    return loss if targets is None else loss + distill_weight * distill_loss_sum(logits, targets)


def teacher_weight(config: TrainConfig) -> float:
    """Returns the weight of the teacher's part: 1 where it is all that is learnt."""
    return config.distill_weight if config.objective == "both" else 1.0
