"""The training loss: a sum over tokens, so that batches of any split add up to the same whole."""

import torch
from torch import Tensor
from torch.nn import functional as F

from polyprag.config import TrainConfig
from polyprag.method.examples import IGNORED
from polyprag.method.targets import TargetBatch


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


def distill_loss_sum(logits: Tensor, targets: TargetBatch) -> Tensor:
    """Returns the summed KL divergence of the student from what is kept of the teacher.

    The tokens that aren't kept are one event, the tail, in both distributions. So the divergence is
    never more than that of the whole distributions, and where the student gives the tail as much
    as the teacher it isn't told which of its tokens are right. (To renormalise the kept ones
    instead would teach that all others are impossible.)

    Args:
        logits: (B, T, V) of any float dtype, the student's.
        targets: the teacher's.

    Returns:
        A float32 scalar in nats.
    """
    chosen_nV = logits[targets.rows, targets.places].float()
    # float16 has moved the sum of the teacher's a little off 1.
    log_p = targets.log_probs - targets.log_probs.logsumexp(dim=-1, keepdim=True)
    p = log_p.exp()
    rest_n1 = chosen_nV.scatter(-1, targets.ids, -torch.inf).logsumexp(dim=-1, keepdim=True)
    log_q = torch.cat([chosen_nV.gather(-1, targets.ids), rest_n1], dim=-1)
    log_q = log_q - chosen_nV.logsumexp(dim=-1, keepdim=True)
    is_possible = p > 0
    entropy = (p * log_p.masked_fill(~is_possible, 0.0)).sum()
    return entropy - (p * log_q.masked_fill(~is_possible, 0.0)).sum()


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
