"""The training loss: a sum over tokens, so that batches of any split add up to the same whole."""

from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from polyprag.config import TrainConfig
from polyprag.method.examples import IGNORED
from polyprag.method.teacher.divergence import distill_loss_sum
from polyprag.method.teacher.targets import TargetBatch

_SHORT = 128  # tokens, up to which attention keeps few numbers for the backward pass


def training_logits(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Returns (B, T, V) logits of a training batch.

    The fused attention that torch takes has a backward pass that is slow in bf16 on a CPU: with 16
    sequences of 60 tokens, a third of SmolLM2-135M's step (torch 2.13, an Intel Xeon with AMX).
    There, short sequences are attended to by plain products.

    Args:
        model: the base with its experts, within `ExpertPool.gated`.
        input_ids: (B, T) int64.
        attention_mask: (B, T).
    """
    is_slow = model.device.type == "cpu" and model.dtype == torch.bfloat16
    is_plain = is_slow and input_ids.shape[1] <= _SHORT
    with sdpa_kernel(SDPBackend.MATH) if is_plain else nullcontext():
        logits: Tensor = model(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False
        ).logits
    return logits


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
