"""Continuous batching against one prompt at a time, by plain passes over the whole text."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    MptConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen3Config,
    RwkvConfig,
)

from polyprag.config import ExpertsConfig, RouterConfig
from polyprag.decoding.continuation import Continuation
from polyprag.decoding.decoder import Decoder
from polyprag.decoding.sampling import Sampling
from polyprag.decoding.slots import SlotCache
from polyprag.decoding.text_stream import TextStream
from polyprag.method.experts import ExpertPool, inject

Tokenizers = Callable[[], PreTrainedTokenizerBase]
Llamas = Callable[..., LlamaForCausalLM]
EOS = 257


def reference(
    model: PreTrainedModel,
    prompt: Sequence[int],
    *,
    most: int,
    pool: ExpertPool | None = None,
    gates: torch.Tensor | None = None,
    eos: int = EOS,
) -> list[int]:
    """Greedy tokens by a pass over everything for each."""
    said: list[int] = []
    while len(said) < most:
        ids = torch.tensor([[*prompt, *said]])
        with torch.no_grad():
            if pool is None or gates is None:
                logits = model(ids, use_cache=False).logits
            else:
                with pool.gated(gates[None]):
                    logits = model(ids, use_cache=False).logits
        token = int(logits[0, -1].argmax())
        if token == eos:
            break
        said.append(token)
    return said


def continuation(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Sequence[int],
    gates: torch.Tensor | None = None,
    **sampling: Any,
) -> Continuation:
    how = Sampling(**sampling)
    text = TextStream(tokenizer, how.stops)
    return Continuation(prompt, sampling=how, text=text, gates=gates)


def prompts_of(seed: int, *, number: int, longest: int = 40) -> list[list[int]]:
    dice = random.Random(seed)
    return [[dice.randrange(256) for _ in range(dice.randint(1, longest))] for _ in range(number)]


def gated_llama(make_random_llama: Llamas) -> tuple[LlamaForCausalLM, ExpertPool]:
    model = make_random_llama(seed=3)
    pool = inject(model, ExpertsConfig(num=3, rank=2), RouterConfig(), seed=0)
    generator = torch.Generator().manual_seed(5)
    state = pool.state_dict()
    pool.load_state_dict(
        {name: 0.5 * torch.randn(value.shape, generator=generator) for name, value in state.items()}
    )
    return model, pool


@pytest.mark.parametrize(("most", "prefill_tokens"), [(1, 2048), (3, 16), (4, 1), (8, 2048)])
def test_sequences_that_join_and_leave_say_what_each_says_alone(
    make_random_llama: Llamas,
    make_byte_tokenizer: Tokenizers,
    most: int,
    prefill_tokens: int,
) -> None:
    model, pool = gated_llama(make_random_llama)
    tokenizer, dice = make_byte_tokenizer(), random.Random(most)
    decoder = Decoder(model, tokenizer, pool=pool, most=most, prefill_tokens=prefill_tokens)
    asked: list[tuple[Continuation, list[int]]] = []
    for number, prompt in enumerate(prompts_of(most, number=20)):
        gates = torch.randn(pool.num_sites, 3) if number % 4 else None
        length = dice.randint(1, 30)
        said = reference(model, prompt, most=length, pool=pool, gates=gates)
        each = continuation(tokenizer, prompt, gates, max_new_tokens=length)
        asked.append((each, said))
        decoder.submit([each])
        for _ in range(dice.randint(0, 6)):
            decoder.step()
            assert decoder.num_running <= most
    decoder.run()
    assert [each.ids for each, _ in asked] == [said for _, said in asked]
    assert len({tuple(said) for _, said in asked}) > 15
    for each, said in asked:
        is_cut = len(said) == each.sampling.max_new_tokens
        assert each.finish == ("length" if is_cut else "stop")
    assert (decoder.num_running, decoder.num_waiting) == (0, 0)


SIZES: dict[str, Any] = {
    "vocab_size": 258,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": EOS,
    "pad_token_id": 256,
}
WIDE: dict[str, Any] = {**SIZES, "intermediate_size": 48, "max_position_embeddings": 256}
GROUPED: dict[str, Any] = {**WIDE, "num_key_value_heads": 2}
MODELS = {
    "llama": LlamaConfig(**GROUPED),
    "mistral": MistralConfig(**GROUPED, sliding_window=8),
    "qwen3": Qwen3Config(**GROUPED, head_dim=16),
    "gemma2": Gemma2Config(**GROUPED, head_dim=8, sliding_window=8),
    "phi3": Phi3Config(**GROUPED),
    "mixtral": MixtralConfig(**GROUPED, num_local_experts=4),
    "gpt2": GPT2Config(**SIZES),
    "opt": OPTConfig(**SIZES, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=256),
    "neox": GPTNeoXConfig(**WIDE),
    "bloom": BloomConfig(**SIZES),
    "mpt": MptConfig(vocab_size=258, d_model=32, n_heads=4, n_layers=4, eos_token_id=EOS),
}
TARGETS = {"neox": "dense_h_to_4h", "opt": "fc1", "bloom": "dense_h_to_4h"}
TARGETS |= {"mpt": "up_proj", "mixtral": "o_proj", "gpt2": ""}  # which has no Linears


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_attention_and_of_positions(
    make_byte_tokenizer: Tokenizers, name: str
) -> None:
    torch.manual_seed(1)
    config = MODELS[name]
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    assert SlotCache.fits(model)
    tokenizer = make_byte_tokenizer()
    prompts = prompts_of(7, number=6, longest=24)
    pool, mixtures = None, [None] * len(prompts)
    if target := TARGETS.get(name, "down_proj"):
        pool = inject(model, ExpertsConfig(num=3, targets=[target]), RouterConfig(), seed=0)
        for parameter in pool.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        mixtures = [torch.randn(pool.num_sites, 3) if i % 3 else None for i in range(len(prompts))]
    decoder = Decoder(model, tokenizer, pool=pool, most=3, prefill_tokens=20)
    made = [
        continuation(tokenizer, prompt, gates, max_new_tokens=12)
        for prompt, gates in zip(prompts, mixtures, strict=True)
    ]
    for each in made:
        decoder.submit([each])
        decoder.step()
    decoder.run()
    assert [each.ids for each in made] == [
        reference(model, prompt, most=12, pool=pool, gates=gates)
        for prompt, gates in zip(prompts, mixtures, strict=True)
    ]


def test_of_a_prompt_the_last_feed_forward_and_the_head_read_the_last_token_alone(
    make_random_llama: Llamas, make_byte_tokenizer: Tokenizers
) -> None:
    model, pool = gated_llama(make_random_llama)
    read: list[torch.Size] = []
    for layer in model.model.layers:
        layer.mlp.up_proj.register_forward_pre_hook(lambda _, args: read.append(args[0].shape[:2]))
    heads: list[tuple[torch.Size, bool]] = []
    model.lm_head.register_forward_pre_hook(
        lambda _, args: heads.append((args[0].shape[:2], args[0].is_contiguous()))
    )
    decoder = Decoder(model, make_byte_tokenizer(), pool=pool, most=3)
    for length in (9, 9, 7):
        decoder.submit([continuation(make_byte_tokenizer(), [65] * length, max_new_tokens=1)])
    decoder.run()
    assert read == [(3, 9), (3, 1)]
    assert heads == [((3, 1), True)]  # else torch multiplies row by row


@pytest.mark.parametrize(
    "config",
    [
        MambaConfig(vocab_size=258, hidden_size=32, num_hidden_layers=2, state_size=4),
        RwkvConfig(vocab_size=258, hidden_size=32, num_hidden_layers=2),
    ],
)
def test_models_with_another_memory_are_told_apart(config: PreTrainedConfig) -> None:
    assert not SlotCache.fits(AutoModelForCausalLM.from_config(config))


def test_what_a_sequence_draws_depends_on_its_seed_alone(
    make_random_llama: Llamas, make_byte_tokenizer: Tokenizers
) -> None:
    model, tokenizer = make_random_llama(seed=3), make_byte_tokenizer()
    prompts = prompts_of(3, number=5)
    drawing = {"temperature": 0.9, "top_p": 0.9, "top_k": 40, "max_new_tokens": 12}

    def said(most: int, copies: int, seeds: Sequence[int]) -> list[list[int]]:
        decoder = Decoder(model, tokenizer, most=most)
        made = [
            [continuation(tokenizer, p, **drawing, seed=seed + i) for i in range(copies)]
            for p, seed in zip(prompts, seeds, strict=True)
        ]
        for alike in made:
            decoder.submit(alike)
        decoder.run()
        return [each.ids for alike in made for each in alike]

    seeds = [10, 20, 30, 40, 50]
    alone = said(1, 1, seeds)
    assert alone == said(8, 1, seeds)
    assert alone == said(8, 3, seeds)[::3]
    assert alone != said(8, 1, [11, 21, 31, 41, 51])
    assert len({tuple(ids) for ids in said(8, 3, seeds)}) == 15


def test_a_cancelled_sequence_gives_its_row_away_and_the_others_go_on(
    make_random_llama: Llamas, make_byte_tokenizer: Tokenizers
) -> None:
    model, tokenizer = make_random_llama(seed=3), make_byte_tokenizer()
    decoder = Decoder(model, tokenizer, most=3)
    prompts = prompts_of(11, number=5)
    made = [continuation(tokenizer, p, max_new_tokens=20, ends=False) for p in prompts]
    for each in made:
        decoder.submit([each])
    for _ in range(4):
        decoder.step()
    made[1].cancel()  # runs
    made[4].cancel()  # waits
    decoder.run()
    assert [i for i, each in enumerate(made) if each.finish == "cancelled"] == [1, 4]
    assert len(made[1].ids) == 5 and made[4].ids == []
    for i in (0, 2, 3):
        assert made[i].ids == reference(model, prompts[i], most=20, eos=-1)


def test_log_probabilities_are_those_of_a_pass_over_the_whole_text(
    make_random_llama: Llamas, make_byte_tokenizer: Tokenizers
) -> None:
    model, tokenizer = make_random_llama(seed=3), make_byte_tokenizer()
    decoder = Decoder(model, tokenizer, most=2)
    prompts = prompts_of(13, number=2)
    drawn = {"temperature": 0.8, "seed": 1}
    told = continuation(tokenizer, prompts[0], max_new_tokens=9, logprobs=3, **drawn)
    quiet = continuation(tokenizer, prompts[1], max_new_tokens=9)
    decoder.submit([told])
    decoder.submit([quiet])
    decoder.run()
    assert quiet.logprobs == [] and len(told.logprobs) == len(told.ids)
    with torch.no_grad():
        logits = model(torch.tensor([[*prompts[0], *told.ids]])).logits[0].log_softmax(-1)
    for at, (token, noted) in enumerate(zip(told.ids, told.logprobs, strict=True)):
        row = logits[len(prompts[0]) + at - 1]
        assert noted.logprob == pytest.approx(float(row[token]), abs=1e-4)
        assert [i for i, _ in noted.top] == row.topk(3).indices.tolist()
        assert [p for _, p in noted.top] == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)


@pytest.mark.parametrize("prefill", [8, 2048])
def test_a_prompts_log_probabilities_are_those_of_a_pass_over_it_alone(
    prefill: int, make_random_llama: Llamas, make_byte_tokenizer: Tokenizers
) -> None:
    model, tokenizer = make_random_llama(seed=4), make_byte_tokenizer()
    pool = inject(model, ExpertsConfig(num=3, rank=2), RouterConfig(), seed=0)
    gates = torch.randn(pool.num_sites, 3)
    prompts = [*prompts_of(11, number=5), [65]]
    decoder = Decoder(model, tokenizer, pool=pool, most=8, prefill_tokens=prefill)
    made = [
        continuation(tokenizer, prompt, gates, max_new_tokens=1, prompt_logprobs=tell, logprobs=0)
        for prompt, tell in zip(prompts, (2, None, 0, 5, 1, 1), strict=True)
    ]
    for each in made:
        decoder.submit([each])
    decoder.run()
    for each, tell in zip(made, (2, None, 0, 5, 1, 1), strict=True):
        if tell is None:
            assert each.prompt_logprobs == []
            continue
        ids = torch.tensor([each.prompt])
        with torch.no_grad(), pool.gated(gates[None]):
            expected = model(ids, use_cache=False).logits[0, :-1].log_softmax(-1)
        assert len(each.prompt_logprobs) == len(each.prompt) - 1
        for row, token, noted in zip(expected, each.prompt[1:], each.prompt_logprobs, strict=True):
            assert noted.logprob == pytest.approx(row[token].item(), abs=1e-4)
            assert [i for i, _ in noted.top] == row.topk(tell).indices.tolist()


def test_the_cache_keeps_to_the_room_that_running_sequences_need(
    make_random_llama: Llamas, make_byte_tokenizer: Tokenizers
) -> None:
    model, tokenizer = make_random_llama(seed=3), make_byte_tokenizer()
    decoder = Decoder(model, tokenizer, most=4)
    sizes = []
    for prompt in prompts_of(17, number=60):  # there is always one that runs
        decoder.submit([continuation(tokenizer, prompt, max_new_tokens=20, ends=False)])
        for _ in range(6):
            decoder.step()
        sizes.append(decoder._running.cache.num_bytes)
    assert max(sizes[30:]) <= max(sizes[:30])
    most = 2 * 2 * 2 * 4 * 16 * 4  # layers, keys and values, heads, rows, head size, bytes
    assert max(sizes) <= most * 4 * (40 + 20 + 64)


def test_gates_without_experts_and_too_many_copies_are_refused(
    make_random_llama: Llamas, make_byte_tokenizer: Tokenizers
) -> None:
    model, tokenizer = make_random_llama(seed=3), make_byte_tokenizer()
    decoder = Decoder(model, tokenizer, most=2)
    with pytest.raises(ValueError, match="pass pool="):
        decoder.submit([continuation(tokenizer, [1], torch.ones(3, 3))])
    with pytest.raises(ValueError, match="from 1 to 2"):
        decoder.submit([continuation(tokenizer, [1])] * 3)


@pytest.mark.parametrize("bad", [{"temperature": -1.0}, {"top_p": 0.0}, {"stops": ("",)}])
def test_settings_that_cannot_be_meant_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Sampling(**bad)
