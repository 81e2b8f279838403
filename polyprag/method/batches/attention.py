"""Attention over packed rows, as transformers' models call it.

Models take it by name (`set_attn_implementation`), and hand on what they were called with: the
batch's `Packing`. On a GPU in half precision, torch's fused kernel for sequences of any length does
it; elsewhere transformers' own function for `sdpa` does, a block of like lengths at a time.

Sequences that go on from one prefix attend to its keys and values, too, which no row holds.

Shapes: N tokens of B sequences, H heads of width D, P places of the padded blocks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from polyprag.method.batches.packed import Packing

PACKED_ATTENTION = "polyprag_packed"


@contextmanager
def attending_packed(model: PreTrainedModel) -> Iterator[None]:
    """Lets a model attend to packed rows inside the block, and to no padded batch but right-padded.

    Args:
        model: one that `polyprag.method.support.packing` found fit.
    """
    before = model.config._attn_implementation
    model.set_attn_implementation(PACKED_ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    packing: Packing | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attends within each sequence of a packed row, causally.

    Args:
        module: the model's attention.
        query: (1, H, N, D); without `packing` (B, H, T, D), padded on the right.
        key: likewise, with H or fewer heads.
        value: likewise.
        attention_mask: none: transformers makes none for an attention that it doesn't know.
        scaling: of the scores.
        sliding_window: tokens that each attends to, itself among them.
        packing: of the row.
        **others: what transformers' function is given besides.

    Returns:
        (1, N, H, D); without `packing` (B, T, H, D).
    """
    assert attention_mask is None
    others |= {"scaling": scaling}
    if packing is None:
        return _attend(module, query, key, value, sliding_window, others), None
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        return _attend_fused(module, query, key, value, packing, sliding_window, others), None
    before = _before(module, packing)
    blocks = (_blocks(part, packing) for part in (query, key, value))
    said = [
        _attend(module, q_BHTD, k_BHTD, v_BHTD, sliding_window, others, before).flatten(0, 1)
        for q_BHTD, k_BHTD, v_BHTD in zip(*blocks, strict=True)
    ]
    padded_PHD = torch.cat(said) if len(said) > 1 else said[0]
    return _from_places(padded_PHD, packing)[None], None


def _before(module: torch.nn.Module, packing: Packing) -> tuple[Tensor, Tensor] | None:
    """Returns the keys and values of the prefix in a layer, each (1, H, tokens, D)."""
    if packing.prefix is None:
        return None
    at = module.layer_idx
    assert isinstance(at, int)
    found = packing.prefix.layers[at]
    if found is None:
        raise ValueError(f"layer {at} keeps no keys of its own")
    return found


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sliding_window: int | None,
    others: dict[str, Any],
    before: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Returns (B, T, H, D) of sequences that are padded on the right.

    Args:
        module: the model's attention.
        query: (B, H, T, D).
        key: likewise.
        value: likewise.
        sliding_window: see `packed_attention`.
        others: likewise.
        before: keys and values that all sequences go on from.
    """
    length, earlier = query.shape[2], 0
    if before is not None:
        earlier = before[0].shape[2]
        key, value = (
            torch.cat([kept.expand(len(part), -1, -1, -1), part], dim=2)
            for kept, part in zip(before, (key, value), strict=True)
        )
    is_cut = sliding_window is not None and earlier + length > sliding_window
    mask = None
    if earlier or is_cut:
        ones = torch.ones((length, earlier + length), dtype=torch.bool, device=query.device)
        mask = ones.tril(earlier)[None, None]
        if sliding_window is not None and is_cut:
            mask &= ones.triu(earlier + 1 - sliding_window)
    said, _ = sdpa_attention_forward(
        module, query, key, value, mask, is_causal=mask is None, **others
    )
    return said


def _attend_fused(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packing: Packing,
    sliding_window: int | None,
    others: dict[str, Any],
) -> Tensor:
    """Returns (1, N, H, D) by torch's kernel for sequences of any length."""
    from torch.nn.attention.varlen import varlen_attn

    if others.get("softcap") is not None or others.get("position_bias") is not None:
        raise ValueError("the kernel for packed rows knows no soft cap and no bias of positions")
    q_NHD, k_NHD, v_NHD = (part[0].transpose(0, 1) for part in (query, key, value))
    key_starts, longest = packing.starts, packing.longest
    if (before := _before(module, packing)) is not None:
        k_NHD, v_NHD = (
            _after_prefix(kept[0].transpose(0, 1), part_NHD, packing)
            for kept, part_NHD in zip(before, (k_NHD, v_NHD), strict=True)
        )
        longest += before[0].shape[2]
        each = torch.arange(len(key_starts), dtype=torch.int32, device=key_starts.device)
        key_starts = key_starts + each * before[0].shape[2]
    said = varlen_attn(
        q_NHD,
        k_NHD,
        v_NHD,
        packing.starts,
        key_starts,
        packing.longest,
        longest,
        scale=others["scaling"],
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        enable_gqa=q_NHD.shape[1] != k_NHD.shape[1],
    )
    assert isinstance(said, Tensor)  # no log-sum-exp was asked for
    return said[None]


def _after_prefix(kept_PHD: Tensor, tokens_NHD: Tensor, packing: Packing) -> Tensor:
    """Returns the tokens of each sequence after those of the prefix, in one row."""
    rows_N = packing.token_rows[0]
    num_sequences, num_kept = len(packing.starts) - 1, len(kept_PHD)
    shape = num_sequences * num_kept + len(tokens_NHD), *tokens_NHD.shape[1:]
    order = torch.arange(len(tokens_NHD), device=rows_N.device)
    firsts_B1 = packing.starts[:-1, None] + num_kept * torch.arange(
        num_sequences, device=rows_N.device
    ).unsqueeze(1)
    places_BP = firsts_B1 + torch.arange(num_kept, device=rows_N.device)
    whole = kept_PHD.repeat(num_sequences, 1, 1)
    return (
        tokens_NHD.new_zeros(shape)
        .index_copy(0, places_BP.flatten(), whole)
        .index_copy(0, order + num_kept * (rows_N + 1), tokens_NHD)
    )


def _blocks(part: Tensor, packing: Packing) -> list[Tensor]:
    """Returns (sequences, H, longest, D) of each block of (1, H, N, D)."""
    padded_PHD = _to_places(part[0].transpose(0, 1), packing)
    sizes = [num * longest for num, longest in packing.blocks]
    return [
        torch.unflatten(block, 0, shape).transpose(1, 2)
        for block, shape in zip(torch.split(padded_PHD, sizes), packing.blocks, strict=True)
    ]


class _ToPlaces(torch.autograd.Function):
    """(N, H, D) to (P, H, D). What comes back to padding is nothing: nobody attends to it."""

    @staticmethod
    def forward(ctx: Any, tokens_NHD: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return tokens_NHD.index_select(0, packing.places)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].index_select(0, ctx.packing.tokens), None


class _FromPlaces(torch.autograd.Function):
    """(P, H, D) to (N, H, D)."""

    @staticmethod
    def forward(ctx: Any, places_PHD: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return places_PHD.index_select(0, packing.tokens)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad_NHD,) = grads
        grad_PHD = grad_NHD.new_zeros((len(ctx.packing.places), *grad_NHD.shape[1:]))
        return grad_PHD.index_copy_(0, ctx.packing.tokens, grad_NHD), None


_to_places: Callable[[Tensor, Packing], Tensor] = _ToPlaces.apply
_from_places: Callable[[Tensor, Packing], Tensor] = _FromPlaces.apply

AttentionInterface.register(PACKED_ATTENTION, packed_attention)
