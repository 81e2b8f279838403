"""Packed rows train as padded batches do, on the architectures that transformers packs itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    FalconMambaConfig,
    FalconMambaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from polyprag.config import Config, ExpertsConfig, RouterConfig, TrainConfig
from polyprag.method.batches.attention import attending_packed
from polyprag.method.batches.packed import packing_of, row_groups
from polyprag.method.examples import IGNORED, Example
from polyprag.method.experts import ExpertPool, inject
from polyprag.method.linears import last_feed_forward
from polyprag.method.support.packing import batcher_for, cannot_pack
from polyprag.method.teacher.targets import TeacherTargets
from polyprag.method.training_batch import Batcher, TrainingBatch

Tokenizers = Callable[[], PreTrainedTokenizerBase]
SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOW = 6  # shorter than the longest example
MODELS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "Llama": ("llama", {}, ["gate_proj", "up_proj", "down_proj"]),
    "Llama, tied": ("llama", {"tie_word_embeddings": True}, ["q_proj", "v_proj", "down_proj"]),
    "Qwen2": ("qwen2", {}, ["up_proj", "down_proj"]),
    "Qwen3": ("qwen3", {}, ["up_proj", "down_proj"]),
    "Gemma": ("gemma", {}, ["up_proj", "down_proj"]),
    "Gemma 3, both kinds of layers": (
        "gemma3_text",
        {
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"],
            "query_pre_attn_scalar": 8,
        },
        ["up_proj", "down_proj"],
    ),
    "Mistral, sliding window": ("mistral", {"sliding_window": WINDOW}, ["up_proj", "down_proj"]),
    "GPT-NeoX": ("gpt_neox", {}, ["dense_h_to_4h", "dense_4h_to_h"]),
    "Phi-3": ("phi3", {}, ["gate_up_proj", "down_proj"]),
    "OLMo 2": ("olmo2", {}, ["up_proj", "down_proj"]),
    "OPT flattens its activations": (
        "opt",
        {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0},
        ["fc1", "fc2"],
    ),
}


def made(name: str) -> tuple[PreTrainedModel, ExpertPool]:
    model_type, more, targets = MODELS[name]
    config = AutoConfig.for_model(model_type, **(SIZES | more))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    pool = inject(
        model, ExpertsConfig(num=4, rank=2, alpha=4.0, targets=targets), RouterConfig(), seed=0
    )
    generator = torch.Generator().manual_seed(1)
    for parameter in pool.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return model, pool


def examples(*, taught: bool = False) -> list[Example]:
    """Of many lengths, two of them alike; two passages have two examples each."""
    generator = np.random.default_rng(3)
    found = []
    for number, length in enumerate((9, 4, 17, 4, 12, 2)):
        ids = generator.integers(3, 96, length).astype(np.int32)
        labels = ids.copy()
        labels[: length // 2] = IGNORED
        if number == 2:
            labels = ids.copy()  # a text, of which all is learnt
        targets = None
        if taught and number % 2:
            kept = np.log(np.full((2, 5), 0.2)).astype(np.float16)
            targets = TeacherTargets(generator.integers(3, 96, (2, 4)).astype(np.int32), kept)
        found.append(Example(number % 4, ids, labels, targets))
    return found


def fresh_gates(pool: ExpertPool, number: int) -> Tensor:
    """Always the same ones; no gradient is left from before."""
    for parameter in pool.parameters():
        parameter.grad = None
    generator = torch.Generator().manual_seed(2)
    gates = torch.randn(number, pool.num_sites, pool.num_experts, generator=generator)
    return gates.requires_grad_()


def gradients(
    model: PreTrainedModel, pool: ExpertPool, batcher: Batcher, some: list[Example]
) -> tuple[float, Tensor, list[Tensor]]:
    """Of the summed loss: itself, the gates' gradients and the experts'."""
    gates = fresh_gates(pool, len(some))
    total = 0.0
    for group in batcher.groups(some):
        batch = batcher.join([some[i] for i in group])
        loss = batch.loss_sum(model, pool, gates[group], distill_weight=0.5)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    assert gates.grad is not None
    found = [parameter.grad for parameter in pool.parameters()]
    return total, gates.grad, [grad for grad in found if grad is not None]


@pytest.mark.parametrize("taught", [False, True], ids=["answers", "taught"])
@pytest.mark.parametrize("name", list(MODELS))
def test_loss_and_gradients_equal_those_of_padded_batches(name: str, taught: bool) -> None:
    model, pool = made(name)
    some = examples(taught=taught)
    padded = gradients(model, pool, Batcher(0, 1000, packs=False), some)
    assert cannot_pack(model, pool) is None
    with attending_packed(model):
        packed = gradients(model, pool, Batcher(0, 1000, packs=True), some)
        in_parts = gradients(model, pool, Batcher(0, 20, packs=True), some)
    assert model.config._attn_implementation == "sdpa", "as before, afterwards"
    assert len(packed[2]) == len(pool.parameters())
    for found in (packed, in_parts):
        torch.testing.assert_close(found, padded, rtol=1e-5, atol=1e-5)


def test_what_is_not_learnt_is_left_out_of_the_last_feed_forward() -> None:
    model, pool = made("Llama")
    seen: list[int] = []
    layers = model.get_submodule("model.layers")
    assert last_feed_forward(model) is layers.get_submodule("1.mlp")
    for number in "01":
        layers.get_submodule(f"{number}.mlp.up_proj").register_forward_hook(
            lambda _, args, __: seen.append(args[0].shape[1])
        )
    batch = Batcher(0, 1000, packs=True).join(sorted(examples(), key=len))
    few = TrainingBatch(
        batch.input_ids, None, batch.labels, batch.positions[-6:], None, batch.packing
    )
    gates = torch.zeros(6, pool.num_sites, pool.num_experts)
    with attending_packed(model):
        few.loss_sum(model, pool, gates, distill_weight=1.0)
    assert seen == [48, 6]


def test_a_model_whose_tokens_pass_on_a_state_is_padded_and_says_so(
    caplog: pytest.LogCaptureFixture, make_byte_tokenizer: Tokenizers
) -> None:
    config = FalconMambaConfig(
        vocab_size=96, hidden_size=32, num_hidden_layers=1, state_size=4, pad_token_id=0
    )
    mamba = FalconMambaForCausalLM(config).eval()
    pool = inject(mamba, ExpertsConfig(num=2, rank=1, targets=["in_proj"]), RouterConfig(), seed=0)
    with caplog.at_level("INFO"):
        batcher = batcher_for(mamba, pool, Config(), make_byte_tokenizer())
    assert not batcher.packs and "can't have several in a row" in caplog.text


def test_packing_can_be_turned_off(make_byte_tokenizer: Tokenizers) -> None:
    model, pool = made("Llama")
    config = Config(train=TrainConfig(packing=False))
    assert not batcher_for(model, pool, config, make_byte_tokenizer()).packs


LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40)


@given(LENGTHS, st.integers(16, 200))
def test_rows_hold_every_example_once_and_no_more_than_they_may(
    lengths: list[int], max_tokens: int
) -> None:
    groups = row_groups(lengths, max_tokens)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or sum(lengths[i] for i in group) <= max_tokens
        assert [lengths[i] for i in group] == sorted(lengths[i] for i in group)


@given(LENGTHS)
def test_every_token_has_its_sequence_position_and_place(lengths: list[int]) -> None:
    lengths = sorted(lengths)
    packing = packing_of(lengths)
    assert packing.position_ids[0].tolist() == [at for n in lengths for at in range(n)]
    assert packing.token_rows[0].tolist() == [i for i, n in enumerate(lengths) for _ in range(n)]
    assert packing.starts.tolist() == [0, *np.cumsum(lengths)]
    assert packing.longest == max(lengths)
    tokens = torch.arange(sum(lengths))
    assert torch.equal(packing.places[packing.tokens], tokens), "to its place, and back"
    assert sum(num for num, _ in packing.blocks) == len(lengths)
    in_blocks = packing.places.split([num * longest for num, longest in packing.blocks])
    for (_, longest), places in zip(packing.blocks, in_blocks, strict=True):
        for row in places.view(-1, longest).tolist():
            sequence = {int(packing.token_rows[0, token]) for token in row}
            assert len(sequence) == 1, "a block's row is of one sequence"
