"""Routing rows to gates: how much of each expert a passage uses at each site.

Shapes: S sites, K experts. `linear` measured best by far (docs/experiments.md): rows that begin as
distinct random codes let the experts work as an associative memory from the first step on.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from polyprag.config import RouterConfig


def gates(
    rows: Tensor,
    config: RouterConfig,
    *,
    training: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Returns the gates of routing rows.

    `linear` is row / sqrt(K) and `tanh` is tanh(row) / sqrt(K), both signed; `softmax`, and
    `sigmoid` divided by its sum (Polytropon, arXiv 2202.13914), are positive and add up to 1.
    With `top_k`, the k gates of largest size per site stay and the others are 0 (softmax and
    sigmoid add up to 1 again afterwards).

    Args:
        rows: (..., S, K) routing rows; gradients flow to them.
        config: the gate and its options.
        training: sample from the RelaxedBernoulli when `relaxed_bernoulli` is set.
        generator: of that sample; on the rows' device.

    Returns:
        (..., S, K) float32.
    """
    rows = rows.float()
    if config.gate in ("linear", "tanh"):
        signed = torch.tanh(rows) if config.gate == "tanh" else rows
        scaled = signed / math.sqrt(rows.shape[-1])
        return scaled * _largest(scaled.detach().abs(), config.top_k)

    if config.gate == "sigmoid":
        if training and config.relaxed_bernoulli:
            rows = _relaxed_bernoulli_logits(rows, config.temperature, generator)
        # sigmoid / sum = softmax of log sigmoid, which can't divide by zero.
        rows = F.logsigmoid(rows)
    dropped = _largest(rows.detach(), config.top_k) == 0
    return torch.softmax(rows.masked_fill(dropped, -torch.inf), dim=-1)


def _largest(size: Tensor, top_k: int) -> Tensor:
    """Returns 1.0 at the `top_k` largest entries of the last axis and 0.0 elsewhere."""
    if top_k == 0 or top_k >= size.shape[-1]:
        return torch.ones_like(size)
    return torch.zeros_like(size).scatter_(-1, size.topk(top_k, dim=-1).indices, 1.0)


def _relaxed_bernoulli_logits(
    logits: Tensor, temperature: float, generator: torch.Generator | None
) -> Tensor:
    """Returns logits whose sigmoid is a RelaxedBernoulli sample (arXiv 1611.00712, appendix B)."""
    uniform = torch.rand(
        logits.shape, dtype=logits.dtype, device=logits.device, generator=generator
    )
    eps = torch.finfo(logits.dtype).eps
    uniform = uniform.clamp(min=eps, max=1 - eps)
    return (logits + uniform.log() - (-uniform).log1p()) / temperature
