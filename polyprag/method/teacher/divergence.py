"""The loss against a teacher: a sum over tokens, as of the text."""

import torch
from torch import Tensor

from polyprag.method.teacher.targets import TargetBatch


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
