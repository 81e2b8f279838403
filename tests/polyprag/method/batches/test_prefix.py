"""Rows that go on from one prefix train as whole sequences do whose first tokens have no gates."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, FalconMambaConfig, PreTrainedTokenizerBase

from polyprag.config import (
    Config,
    ExpertsConfig,
    GenerationConfig,
    ModelConfig,
    RouterConfig,
    TrainConfig,
)
from polyprag.errors import ConfigError
from polyprag.method.batches.attention import _attend_fused, attending_packed, packed_attention
from polyprag.method.batches.packed import packing_of
from polyprag.method.batches.padded import pad_batch
from polyprag.method.batches.prefix import read_prefix
from polyprag.method.examples import IGNORED, Example
from polyprag.method.experts import ExpertPool, inject
from polyprag.method.loss import training_loss_sum
from polyprag.method.support.packing import batcher_for, cannot_share_prefix
from polyprag.method.teacher.targets import join_targets
from polyprag.method.training_batch import Batcher
from tests.polyprag.method.batches.test_packed import MODELS, examples, fresh_gates, gradients, made

PREFIX = [11, 7, 80, 33, 5]
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def going_on(*, taught: bool = False) -> list[Example]:
    """The examples of packed rows, half of which begin with the prefix."""
    found = []
    for number, example in enumerate(examples(taught=taught)):
        if number % 2:
            found.append(example)
            continue
        ids = np.concatenate([np.array(PREFIX, np.int32), example.input_ids])
        labels = np.concatenate([np.full(len(PREFIX), IGNORED, np.int32), example.labels])
        labels[len(PREFIX)] = IGNORED
        found.append(replace(example, input_ids=ids, labels=labels, skipped=len(PREFIX)))
    return found


def whole(
    model: torch.nn.Module, pool: ExpertPool, some: list[Example]
) -> tuple[float, Tensor, list[Tensor]]:
    """As `gradients`, of a padded batch of whole sequences."""
    gates = fresh_gates(pool, len(some))
    padded = pad_batch(some, 0)
    rows = torch.arange(len(some))[:, None].repeat(1, padded.input_ids.shape[1])
    for row, example in enumerate(some):
        rows[row, : example.skipped] = len(some)
    with pool.gated(torch.cat([gates, torch.zeros_like(gates[:1])]), rows):
        logits = model(
            input_ids=padded.input_ids, attention_mask=padded.attention_mask, use_cache=False
        ).logits
    loss = training_loss_sum(logits, padded.labels, join_targets(some), distill_weight=0.5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert gates.grad is not None
    found = [parameter.grad for parameter in pool.parameters()]
    return loss.item(), gates.grad, [grad for grad in found if grad is not None]


@pytest.mark.parametrize("taught", [False, True], ids=["answers", "taught"])
@pytest.mark.parametrize("name", list(MODELS))
def test_loss_and_gradients_equal_those_of_whole_sequences(name: str, taught: bool) -> None:
    model, pool = made(name)
    some = going_on(taught=taught)
    expected = whole(model, pool, some)
    assert cannot_share_prefix(model, pool) is None
    prefix = read_prefix(model, PREFIX)
    with attending_packed(model):
        together = gradients(model, pool, Batcher(0, 1000, packs=True, prefix=prefix), some)
        in_parts = gradients(model, pool, Batcher(0, 20, packs=True, prefix=prefix), some)
    for found in (together, in_parts):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_row_has_no_token_of_the_prefix_and_no_two_kinds_of_examples() -> None:
    model, _ = made("Llama")
    some = going_on()
    batcher = Batcher(0, 1000, packs=True, prefix=read_prefix(model, PREFIX))
    groups = batcher.groups(some)
    assert sorted(map(sorted, groups)) == [[0, 2, 4], [1, 3, 5]]
    for group in groups:
        batch = batcher.join([some[i] for i in group])
        assert batch.input_ids.shape[1] == sum(len(some[i]) for i in group)
        assert batch.packing is not None
        first = len(PREFIX) if 0 in group else 0
        assert int(batch.packing.position_ids.min()) == first
    with pytest.raises(ValueError, match="unknown prefix"):
        Batcher(0, 1000, packs=True).join([some[0]])


def kernel(q: Tensor, k: Tensor, v: Tensor, *starts: Any, **how: Any) -> Tensor:
    """What the GPU's kernel is documented to do: each sequence's queries are its last tokens."""
    q_starts, k_starts, _, _ = starts
    left, right = how["window_size"]
    assert right == 0
    said = []
    for q_at, q_end, k_at, k_end in zip(
        q_starts[:-1], q_starts[1:], k_starts[:-1], k_starts[1:], strict=True
    ):
        keys, values = (
            part[k_at:k_end].repeat_interleave(q.shape[1] // k.shape[1], dim=1) for part in (k, v)
        )
        scores = torch.einsum("qhd,khd->hqk", q[q_at:q_end], keys) * how["scale"]
        last = torch.arange(k_end - k_at) - (k_end - k_at - (q_end - q_at))
        ahead = last[None] - torch.arange(q_end - q_at)[:, None]
        masked = (ahead > 0) | ((ahead < -left) if left >= 0 else torch.zeros_like(ahead).bool())
        weights = scores.masked_fill(masked, -torch.inf).softmax(-1)
        said.append(torch.einsum("hqk,khd->qhd", weights, values))
    return torch.cat(said)


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("goes_on", [False, True])
def test_a_gpus_kernel_is_given_what_blocks_attend_to(
    monkeypatch: pytest.MonkeyPatch, goes_on: bool, window: int | None
) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    model, _ = made("Llama")
    layer = model.get_submodule("model.layers.1.self_attn")
    prefix = read_prefix(model, PREFIX) if goes_on else None
    packing = packing_of([1, 4, 4, 9], prefix)
    query, key, value = (torch.randn(1, heads, 18, 8) for heads in (4, 2, 2))
    blocks, _ = packed_attention(
        layer, query, key, value, None, scaling=0.3, sliding_window=window, packing=packing
    )
    fused = _attend_fused(layer, query, key, value, packing, window, {"scaling": 0.3})
    torch.testing.assert_close(fused, blocks)


def config(**generation: str) -> Config:
    return Config(
        model=ModelConfig(path="x"),
        experts=ExpertsConfig(num=2, rank=1, skip_prefix=True),
        generation=GenerationConfig(**generation),  # type: ignore[arg-type]
    )


@pytest.fixture
def chat_tokenizer(
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> PreTrainedTokenizerBase:
    tokenizer = make_byte_tokenizer()
    tokenizer.chat_template = CHAT
    return tokenizer


def test_what_cannot_skip_a_prefix_is_refused(chat_tokenizer: PreTrainedTokenizerBase) -> None:
    model, pool = made("Llama")
    wanted = config(prompt="plain")
    with pytest.raises(ConfigError, match="plain layout begin with nothing"):
        batcher_for(model, pool, wanted, chat_tokenizer)
    with pytest.raises(ConfigError, match=r"it must be false with train\.packing=false"):
        replace(config(), train=TrainConfig(packing=False))
    mamba = AutoModelForCausalLM.from_config(
        FalconMambaConfig(vocab_size=258, hidden_size=32, num_hidden_layers=1, state_size=4)
    ).eval()
    states = inject(
        mamba, ExpertsConfig(num=2, rank=1, targets=["in_proj"]), RouterConfig(), seed=0
    )
    with pytest.raises(ConfigError, match="share a row, and its attention"):
        batcher_for(mamba, states, config(), chat_tokenizer)


def test_the_batcher_knows_what_all_prompts_begin_with(
    make_random_llama: Callable[..., torch.nn.Module], chat_tokenizer: PreTrainedTokenizerBase
) -> None:
    model = make_random_llama()
    wanted = config(instruction="Be brief.")
    pool = inject(model, wanted.experts, RouterConfig(), seed=0)
    batcher = batcher_for(model, pool, wanted, chat_tokenizer)  # type: ignore[arg-type]
    assert batcher.packs and batcher.prefix is not None
    assert chat_tokenizer.decode(batcher.prefix.ids) == "<|system|>Be brief.<|user|>"
    unskipped = replace(wanted, experts=replace(wanted.experts, skip_prefix=False))
    assert batcher_for(model, pool, unskipped, chat_tokenizer).prefix is None  # type: ignore[arg-type]
