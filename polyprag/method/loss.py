"""The training loss: a sum over tokens, so that batches of any split add up to the same whole."""

import functools
import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from polyprag.config import TrainConfig
from polyprag.method.batches.packed import Packing
from polyprag.method.batches.prefix import SharedPrefix
from polyprag.method.examples import IGNORED
from polyprag.method.teacher.divergence import distill_loss_sum
from polyprag.method.teacher.targets import TargetBatch

SHORT_SEQUENCE = 128  # tokens, up to which attention keeps few numbers for the backward pass


def learnt_positions(labels: Tensor, targets: TargetBatch | None) -> Tensor:
    """Returns (n,) int64, the positions whose logits some sequence of a batch learns; one at least.

    V is far larger than any other dimension, and of a question only the answer's few tokens count.

    Args:
        labels: (B, T) int64, not shifted; -100 has no loss. On the CPU: a GPU would be waited for.
        targets: of a teacher, on the same device; None where there are none.
    """
    is_learnt = _next_labels(labels).ne(IGNORED).any(dim=0)
    if targets is not None:
        is_learnt[targets.places] = True
    found = is_learnt.nonzero()[:, 0]
    return found if len(found) else torch.zeros(1, dtype=torch.int64, device=labels.device)


def logits_at(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    positions: Tensor | None = None,
    packing: Packing | None = None,
    prefix: SharedPrefix | None = None,
) -> Tensor:
    """Returns (B, n, V) logits of a batch at some positions; (B, T, V) without `positions`.

    Where the model can, only these are computed: SmolLM2's output layer, over all positions, is a
    fifth of its work.

    The fused attention that torch takes has a backward pass that is slow in bf16 on a CPU: with 16
    sequences of 60 tokens, a third of SmolLM2-135M's step (torch 2.13, an Intel Xeon with AMX).
    There, short sequences are attended to by plain products.

    Args:
        model: the base with its experts, within `ExpertPool.gated`.
        input_ids: (B, T) int64.
        attention_mask: (B, T); none with `packing`.
        positions: (n,) int64, those of the batch whose logits are wanted.
        packing: of a packed row, within `attending_packed`.
        prefix: that every row of a padded batch goes on from.
    """
    chosen: dict[str, Any] = {}
    if positions is not None and keeps_logits(type(model).forward):
        chosen["logits_to_keep"] = positions
    is_slow = model.device.type == "cpu" and model.dtype == torch.bfloat16
    longest = input_ids.shape[1]
    if packing is not None:
        chosen |= {"position_ids": packing.position_ids, "packing": packing}
        longest = packing.longest
    cache = None
    if prefix is not None and attention_mask is not None:
        cache = prefix.cache(len(input_ids))
        before = attention_mask.new_ones((len(input_ids), len(prefix)))
        attention_mask = torch.cat([before, attention_mask], dim=1)
    is_plain = is_slow and longest <= SHORT_SEQUENCE
    with sdpa_kernel(SDPBackend.MATH) if is_plain else nullcontext():
        logits: Tensor = model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=cache is not None,
            **chosen,
        ).logits
    return logits if positions is None or "logits_to_keep" in chosen else logits[:, positions]


@functools.cache
def keeps_logits(forward: Callable[..., object]) -> bool:
    """Whether a model's class can compute the logits of chosen positions alone; most can."""
    parameter = inspect.signature(forward).parameters.get("logits_to_keep")
    return parameter is not None and "Tensor" in str(parameter.annotation)


def causal_loss_sum(
    logits: Tensor, labels: Tensor, positions: Tensor | None = None
) -> tuple[Tensor, int]:
    """Returns the summed next-token cross-entropy and the number of tokens in it.

    Args:
        logits: (B, T, V) of any float dtype; position t predicts label t + 1. With `positions`
            (B, n, V).
        labels: (B, T) int64, not shifted; -100 has no loss.
        positions: (n,) int64, where the logits are of; none is everywhere.

    Returns:
        A float32 scalar in nats (0 with a gradient graph when no token counts), and the count.
    """
    targets = _next_labels(labels)
    if positions is not None:
        targets = targets[:, positions]
    counted = targets != IGNORED
    # Only positions that count are turned to float32: V is the largest dimension of all.
    chosen = logits[counted].float()
    return F.cross_entropy(chosen, targets[counted], reduction="sum"), len(chosen)


def training_loss_sum(
    logits: Tensor,
    labels: Tensor,
    targets: TargetBatch | None,
    *,
    distill_weight: float,
    positions: Tensor | None = None,
) -> Tensor:
    """Returns the loss of a batch: on its labels, and against the teacher where there are targets.

    Args:
        logits: (B, T, V); (B, n, V) with `positions`.
        labels: (B, T); see `causal_loss_sum`.
        targets: see `distill_loss_sum`.
        distill_weight: of the teacher's part.
        positions: (n,) int64, where the logits are of, all targets' places among them.
    """
    loss, _ = causal_loss_sum(logits, labels, positions)
    if targets is None:
        return loss
    if positions is not None:
        targets = targets._replace(places=torch.searchsorted(positions, targets.places))
    return loss + distill_weight * distill_loss_sum(logits, targets)


def _next_labels(labels: Tensor) -> Tensor:
    """Returns (B, T): at each position the label of the next; nothing follows the last."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def teacher_weight(config: TrainConfig) -> float:
    """Returns the weight of the teacher's part: 1 where it is all that is learnt."""
    return config.distill_weight if config.objective == "both" else 1.0
