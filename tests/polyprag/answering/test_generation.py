"""Batched greedy decoding against a one-by-one loop of plain forward passes."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from polyprag.answering.generate import NewlineEnds, decode_in_batches
from polyprag.answering.generation import decode_greedily
from polyprag.config import ExpertsConfig, GenerationConfig, ModelConfig, RouterConfig
from polyprag.method.base_model import load_base
from polyprag.method.experts import ExpertPool, inject
from polyprag.method.prompts import PromptTokenizer
from polyprag.pretrained.generation_config import end_token_ids

PROMPTS = ["Question: who?\nAnswer:", "x", "A much longer prompt than the others.\nAnswer:", "yes"]


def texts_of(*arguments: Any, **options: Any) -> list[str]:
    return [each.text for each in decode_greedily(*arguments, **options)]


def _greedy(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    *,
    max_new_tokens: int,
    pool: ExpertPool | None = None,
    gates_SK: torch.Tensor | None = None,
    newline_ends: bool = True,
) -> str:
    """The continuation by arg max of a forward pass over the whole text, token by token."""
    ids = tokenizer(prompt)["input_ids"]
    new: list[int] = []
    for _ in range(max_new_tokens):
        tokens = torch.tensor([ids + new])
        with torch.no_grad():
            if pool is None or gates_SK is None:
                logits = model(tokens, use_cache=False).logits
            else:
                with pool.gated(gates_SK[None]):
                    logits = model(tokens, use_cache=False).logits
        token = int(logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        new.append(token)
        if newline_ends and "\n" in tokenizer.decode(new):
            break
    text = tokenizer.decode(new, skip_special_tokens=True)
    return text.split("\n")[0].strip() if newline_ends else text.strip()


def test_batches_of_any_size_equal_one_by_one_decoding(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    model, tokenizer = make_random_llama(seed=3), make_byte_tokenizer()
    expected = [_greedy(model, tokenizer, prompt, max_new_tokens=8) for prompt in PROMPTS]
    assert len(set(expected)) > 1
    for batch_size in (1, 3, 8):
        config = GenerationConfig(max_new_tokens=8, batch_size=batch_size)
        assert (
            texts_of(
                model, tokenizer, PromptTokenizer(tokenizer).prompt_ids(PROMPTS), config=config
            )
            == expected
        )


def test_each_prompt_keeps_its_own_gates_in_sorted_batches(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    model, tokenizer = make_random_llama(seed=3), make_byte_tokenizer()
    pool = inject(model, ExpertsConfig(num=3, rank=2), RouterConfig(), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in pool.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    gates = torch.randn(len(PROMPTS), pool.num_sites, pool.num_experts, generator=generator)
    config = GenerationConfig(max_new_tokens=6, batch_size=3)
    answers = texts_of(
        model,
        tokenizer,
        PromptTokenizer(tokenizer).prompt_ids(PROMPTS),
        config=config,
        pool=pool,
        gates=gates,
    )
    assert answers == [
        _greedy(model, tokenizer, prompt, max_new_tokens=6, pool=pool, gates_SK=gates[i])
        for i, prompt in enumerate(PROMPTS)
    ]
    assert answers != texts_of(
        model,
        tokenizer,
        PromptTokenizer(tokenizer).prompt_ids(PROMPTS),
        config=config,
        pool=pool,
        gates=-gates,
    )
    closed = [_greedy(model, tokenizer, prompt, max_new_tokens=6) for prompt in PROMPTS]
    assert (
        texts_of(
            model,
            tokenizer,
            PromptTokenizer(tokenizer).prompt_ids(PROMPTS),
            config=config,
            pool=pool,
        )
        == closed
    )


def test_each_token_comes_with_its_log_probability_under_its_own_gates(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    model, tokenizer = make_random_llama(seed=3), make_byte_tokenizer()
    pool = inject(model, ExpertsConfig(num=3, rank=2), RouterConfig(), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in pool.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    gates = torch.randn(len(PROMPTS), pool.num_sites, pool.num_experts, generator=generator)
    prompts = PromptTokenizer(tokenizer).prompt_ids(PROMPTS)
    config = GenerationConfig(max_new_tokens=6, batch_size=3)
    said = decode_greedily(
        model, tokenizer, prompts, config=config, pool=pool, gates=gates, scored=True
    )
    assert sum(len(answer.ids) for answer in said) > 6
    for prompt, answer, gates_SK in zip(prompts, said, gates, strict=True):
        assert answer.logprobs is not None and len(answer.ids) == len(answer.logprobs)
        assert tokenizer.decode(list(answer.ids)).strip() == answer.text
        for n, token in enumerate(answer.ids):
            tokens = torch.tensor([[*prompt, *answer.ids[:n]]])
            with torch.no_grad(), pool.gated(gates_SK[None]):
                logits = model(tokens, use_cache=False).logits[0, -1].double()
            expected = float(logits[token] - torch.logsumexp(logits, 0))
            assert answer.logprobs[n] == pytest.approx(expected, abs=1e-4)


def test_plain_answers_end_at_a_newline_and_chat_answers_do_not(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, tokenizer = make_random_llama(), make_byte_tokenizer()
    script = tokenizer(" one\ntwo")["input_ids"]

    forward = model.forward
    said = 0

    def saying(*args: object, **kwargs: object) -> object:
        nonlocal said
        output = forward(*args, **kwargs)
        output.logits[:] = 0
        token = script[said] if said < len(script) else tokenizer.eos_token_id
        output.logits[:, -1, token] = 1
        said += 1
        return output

    monkeypatch.setattr(model, "forward", saying)
    config = GenerationConfig(max_new_tokens=20)
    assert texts_of(
        model, tokenizer, PromptTokenizer(tokenizer).prompt_ids(["p"]), config=config
    ) == ["one"]
    assert said == len(" one\n")
    said = 0
    assert texts_of(
        model, tokenizer, PromptTokenizer(tokenizer).prompt_ids(["p"]), config=config, chat=True
    ) == ["one\ntwo"]
    assert said == len(script) + 1
    for chat, number in ((False, len(" one")), (True, len(script))):
        said = 0
        prompts = PromptTokenizer(tokenizer).prompt_ids(["p"])
        (answer,) = decode_greedily(
            model, tokenizer, prompts, config=config, chat=chat, scored=True
        )
        assert answer.ids == tuple(script[:number])  # without what ended it
        assert answer.has_ended
        # One logit is 1, the other 257 are 0.
        assert answer.logprobs == pytest.approx([1 - math.log(math.e + 257)] * number)
    for chat, most, has_ended in (
        (False, len(" one"), False),  # the newline would have been next
        (False, len(" one\n"), True),
        (True, len(script), False),
        (True, len(script) + 1, True),
    ):
        said = 0
        config = GenerationConfig(max_new_tokens=most)
        (answer,) = decode_greedily(model, tokenizer, prompts, config=config, chat=chat)
        assert answer.has_ended == has_ended
        assert answer.logprobs is None  # nobody asked for them


def test_newline_inside_a_token_counts(
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    tokenizer = make_byte_tokenizer()
    tokenizer.add_tokens(["end.\n"])
    ids = tokenizer("x")["input_ids"] + tokenizer("end.\n")["input_ids"]
    ends = NewlineEnds(tokenizer)
    assert ends(torch.tensor([[ids[0]], [ids[-1]]]), torch.empty(0)).tolist() == [False, True]


def test_the_models_several_end_tokens_all_count(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    model, tokenizer = make_random_llama(), make_byte_tokenizer()
    model.generation_config.eos_token_id = [5, 9]
    assert end_token_ids(model, tokenizer) == [5, 9, 257]
    model.generation_config.eos_token_id = None
    assert end_token_ids(model, tokenizer) == [257]


OTHERS_SETTINGS = [
    {"guidance_scale": 3.0},
    {"min_new_tokens": 8},
    {"min_length": 40},
    {"suppress_tokens": list(range(0, 250))},
    {"begin_suppress_tokens": list(range(0, 250))},
    {"bad_words_ids": [[i] for i in range(0, 250)]},
    {"sequence_bias": [[[65], 50.0]]},
    {"forced_eos_token_id": 12},
    {"forced_bos_token_id": 12},
    {"no_repeat_ngram_size": 1},
    {"repetition_penalty": 9.0, "do_sample": True, "temperature": 3.0, "top_p": 0.3},
    {"exponential_decay_length_penalty": (0, 9.0)},
    {"num_beams": 3, "length_penalty": 4.0},
    {"max_length": 3},
    {"return_dict_in_generate": True, "output_scores": True},
    {"stop_strings": ["a", "e", "i"]},
    {"num_return_sequences": 2, "do_sample": True},
    {"prompt_lookup_num_tokens": 3},
    {"max_time": 0.000001},
    {"use_cache": False},
    {"watermarking_config": {"bias": 9.0}},
    {"pad_token_id": 7},
]


@pytest.mark.parametrize("settings", OTHERS_SETTINGS, ids=lambda settings: next(iter(settings)))
def test_what_the_models_makers_set_for_decoding_changes_no_answer(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
    tmp_path: Path,
    settings: dict[str, Any],
) -> None:
    """As it comes with a model, in its generation_config.json."""
    tokenizer = make_byte_tokenizer()
    expected = [
        _greedy(make_random_llama(seed=3), tokenizer, prompt, max_new_tokens=8)
        for prompt in PROMPTS
    ]
    make_random_llama(seed=3).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 257} | settings))
    model, tokenizer = load_base(ModelConfig(path=str(tmp_path)))
    prompts = PromptTokenizer(tokenizer).prompt_ids(PROMPTS)
    config = GenerationConfig(max_new_tokens=8, batch_size=3)
    assert texts_of(model, tokenizer, prompts, config=config) == expected
    assert end_token_ids(model, tokenizer) == [257]


def test_any_of_several_end_tokens_ends_an_answer_whatever_else_is_set(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    model, tokenizer = make_random_llama(seed=3), make_byte_tokenizer()
    (prompt,) = PromptTokenizer(tokenizer).prompt_ids(PROMPTS[:1])
    config = GenerationConfig(max_new_tokens=8)
    assert texts_of(model, tokenizer, [prompt], config=config) != [""]
    with torch.no_grad():
        first = int(model(torch.tensor([prompt])).logits[0, -1].argmax())
    model.generation_config.eos_token_id = [257, first]
    model.generation_config.min_new_tokens = 8
    for _ in range(2):  # the second call finds what the first has left
        assert texts_of(model, tokenizer, [prompt], config=config) == [""]
        assert end_token_ids(model, tokenizer) == sorted([257, first])


def test_gates_must_match_the_prompts(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    model, tokenizer = make_random_llama(), make_byte_tokenizer()
    with pytest.raises(ValueError, match="need the pool"):
        texts_of(
            model,
            tokenizer,
            PromptTokenizer(tokenizer).prompt_ids(["p"]),
            config=GenerationConfig(),
            gates=torch.ones(1, 1, 1),
        )
    pool = inject(model, ExpertsConfig(num=3), RouterConfig(), seed=0)
    with pytest.raises(ValueError, match="1 mixtures for 2 prompts"):
        texts_of(
            model,
            tokenizer,
            PromptTokenizer(tokenizer).prompt_ids(["p", "q"]),
            config=GenerationConfig(),
            pool=pool,
            gates=torch.ones(1, pool.num_sites, 3),
        )
    assert texts_of(model, tokenizer, [], config=GenerationConfig()) == []


@pytest.mark.parametrize("chat", [True, False])
def test_generate_in_batches_says_the_same(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
    chat: bool,
) -> None:
    model, tokenizer = make_random_llama(seed=3), make_byte_tokenizer()
    pool = inject(model, ExpertsConfig(num=3, rank=2), RouterConfig(), seed=0)
    prompts = PromptTokenizer(tokenizer).prompt_ids(PROMPTS)
    gates = torch.randn(len(prompts), pool.num_sites, 3)
    how = {"config": GenerationConfig(max_new_tokens=9, batch_size=3), "chat": chat}
    for mixed in ({}, {"pool": pool, "gates": gates}):
        together = decode_greedily(model, tokenizer, prompts, **how, **mixed, scored=True)
        in_batches = decode_in_batches(
            model, tokenizer, prompts, **{"pool": None, "gates": None, **how, **mixed}, scored=True
        )
        for one, other in zip(together, in_batches, strict=True):
            assert (one.text, one.ids, one.has_ended) == (other.text, other.ids, other.has_ended)
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
