"""Prompts that go on from a prefix which experts leave alone say what whole passes say."""

from collections.abc import Callable, Sequence

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerBase

from polyprag.config import ExpertsConfig, RouterConfig
from polyprag.decoding.decoder import Decoder
from polyprag.method.experts import ExpertPool, inject
from tests.polyprag.decoding.test_decoder import (
    EOS,
    MODELS,
    TARGETS,
    continuation,
    gated_llama,
    prompts_of,
)

Tokenizers = Callable[[], PreTrainedTokenizerBase]
PREFIX = [3, 99, 41, 7, 200, 18, 62]


def logits_of(
    model: LlamaForCausalLM, pool: ExpertPool, ids: Sequence[int], gates: torch.Tensor | None
) -> torch.Tensor:
    """Of a whole text whose first tokens, where they are the prefix, have no gates."""
    gates = torch.zeros(pool.num_sites, pool.num_experts) if gates is None else gates
    rows = torch.zeros(1, len(ids), dtype=torch.int64)
    if list(ids[: len(PREFIX)]) == PREFIX:
        rows[:, : len(PREFIX)] = 1
    with torch.no_grad(), pool.gated(torch.stack([gates, torch.zeros_like(gates)]), rows):
        found: torch.Tensor = model(torch.tensor([ids]), use_cache=False).logits[0]
    return found


def reference(
    model: LlamaForCausalLM,
    pool: ExpertPool,
    prompt: Sequence[int],
    gates: torch.Tensor | None,
    *,
    most: int,
) -> list[int]:
    said: list[int] = []
    while len(said) < most:
        token = int(logits_of(model, pool, [*prompt, *said], gates)[-1].argmax())
        if token == EOS:
            break
        said.append(token)
    return said


def mixed_prompts(seed: int, *, number: int) -> list[list[int]]:
    """Two of three begin with the prefix."""
    rest = prompts_of(seed, number=number, longest=24)
    return [[*PREFIX, *ids] if i % 3 else ids for i, ids in enumerate(rest)]


@pytest.mark.parametrize("name", [name for name in MODELS if name != "gpt2"])
@pytest.mark.parametrize("prefill_tokens", [5, 2048])
def test_every_kind_of_attention_and_of_positions(
    make_byte_tokenizer: Tokenizers, name: str, prefill_tokens: int
) -> None:
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(MODELS[name], dtype=torch.float32).eval()
    targets = [TARGETS.get(name, "down_proj")]
    pool = inject(model, ExpertsConfig(num=3, targets=targets), RouterConfig(), seed=0)
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tokenizer = make_byte_tokenizer()
    decoder = Decoder(
        model,
        tokenizer,
        pool=pool,
        prefix_ids=PREFIX,
        most=4,
        prefill_tokens=prefill_tokens,
    )
    prompts = mixed_prompts(7, number=9)
    mixtures = [torch.randn(pool.num_sites, 3) if i % 4 else None for i in range(len(prompts))]
    made = [
        continuation(tokenizer, prompt, gates, max_new_tokens=8)
        for prompt, gates in zip(prompts, mixtures, strict=True)
    ]
    for number, each in enumerate(made):
        decoder.submit([each])
        if number % 2:
            decoder.step()
    decoder.run()
    assert [each.ids for each in made] == [
        reference(model, pool, prompt, gates, most=8)
        for prompt, gates in zip(prompts, mixtures, strict=True)
    ]


def test_the_prefix_is_read_once_and_only_the_rest_of_each_prompt(
    make_random_llama: Callable[..., LlamaForCausalLM], make_byte_tokenizer: Tokenizers
) -> None:
    model, pool = gated_llama(make_random_llama)
    read: list[torch.Size] = []
    model.model.layers[0].mlp.up_proj.register_forward_pre_hook(
        lambda _, args: read.append(args[0].shape[:2])
    )
    tokenizer = make_byte_tokenizer()
    decoder = Decoder(model, tokenizer, pool=pool, prefix_ids=PREFIX, most=3)
    gates = torch.randn(3, pool.num_sites, pool.num_experts)
    for turn in range(2):
        for length, mixture in zip((4, 6, 6), gates, strict=True):
            prompt = [*PREFIX, *[65 + turn] * length]
            decoder.submit([continuation(tokenizer, prompt, mixture, max_new_tokens=1)])
        decoder.run()
    assert read == [(1, len(PREFIX)), (3, 6), (3, 6)]


@pytest.mark.parametrize("prefill_tokens", [8, 2048])
def test_a_prompts_log_probabilities_are_those_of_a_pass_over_it_alone(
    prefill_tokens: int,
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Tokenizers,
) -> None:
    model, pool = gated_llama(make_random_llama)
    tokenizer = make_byte_tokenizer()
    decoder = Decoder(
        model, tokenizer, pool=pool, prefix_ids=PREFIX, most=8, prefill_tokens=prefill_tokens
    )
    gates = torch.randn(pool.num_sites, pool.num_experts)
    made = [
        continuation(tokenizer, prompt, gates, max_new_tokens=1, prompt_logprobs=0)
        for prompt in mixed_prompts(11, number=5)
    ]
    for each in made:
        decoder.submit([each])
    decoder.run()
    for each in made:
        expected = logits_of(model, pool, each.prompt, gates)[:-1].log_softmax(-1)
        noted = [found.logprob for found in each.prompt_logprobs]
        chosen = expected.gather(1, torch.tensor(each.prompt[1:])[:, None])[:, 0]
        assert noted == pytest.approx(chosen.tolist(), abs=1e-4)
