"""The summed loss against transformers' own, and its splitting."""

import torch
from transformers.loss.loss_utils import ForCausalLMLoss

from polyprag.method.loss import causal_loss_sum


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 7, 13, generator=generator)
    labels = torch.randint(0, 13, (4, 7), generator=generator)
    labels[0, 3:] = -100
    labels[1, :4] = -100
    labels[3] = -100
    return logits, labels


def test_sum_over_count_equals_transformers_mean() -> None:
    logits, labels = batch()
    total, count = causal_loss_sum(logits, labels)
    torch.testing.assert_close(total / count, ForCausalLMLoss(logits, labels, vocab_size=13))
    assert count == int((labels[:, 1:] != -100).sum())


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    logits, labels = batch()
    whole, count = causal_loss_sum(logits, labels)
    parts = [causal_loss_sum(logits[i : i + 1], labels[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(sum(part for part, _ in parts), whole)
    assert sum(number for _, number in parts) == count


def test_a_batch_in_which_no_token_counts_has_a_zero_gradient() -> None:
    logits, labels = batch()
    logits.requires_grad_()
    total, count = causal_loss_sum(logits, torch.full_like(labels, -100))
    total.backward()
    assert (total.item(), count) == (0.0, 0)
    assert logits.grad is not None and not logits.grad.any()


def test_bf16_logits_are_summed_in_fp32() -> None:
    logits, labels = batch()
    total, _ = causal_loss_sum(logits.bfloat16(), labels)
    assert total.dtype == torch.float32
    exact, _ = causal_loss_sum(logits.bfloat16().float(), labels)
    assert total == exact
