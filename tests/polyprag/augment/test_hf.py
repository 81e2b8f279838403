"""A tiny random Llama can't write JSON: what is asked of it, and the retries, are checked."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from polyprag.augment.hf import HFWriter
from polyprag.augment.prompt import EMPTY
from polyprag.config import AugmentConfig
from polyprag.errors import ConfigError
from sharding.corpus.passages import Passage

PASSAGES = [
    Passage(id=0, key="a", title="Ada", text="Ada was born in London."),
    Passage(id=1, key="b", title="Bob", text="Bob was born in Rome, a city that he left early."),
    Passage(id=2, key="c", title="Cyd", text="Cyd."),
]
CONFIG = AugmentConfig(
    backend="hf", num_rewrites=1, num_qas=1, batch_size=2, max_new_tokens=12, max_retries=1
)


def _reply(name: str) -> str:
    qa = {"question": f"Who is {name}?", "answer": name, "full_answer": f"{name}."}
    return json.dumps({"rewrites": [f"Here is {name}."], "qas": [qa]})


def test_a_model_that_writes_no_json_leaves_the_passages_as_they_are(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    writer = HFWriter(make_random_llama(window=2048), make_byte_tokenizer(), CONFIG)
    written = list(writer(PASSAGES))
    assert [position for position, _ in written] == [0, 1, 2]
    assert [each.augmentation for _, each in written] == [EMPTY] * 3
    assert all(each.failure is not None for _, each in written)
    greedy = writer.complete(PASSAGES, 0)
    assert greedy == writer.complete(PASSAGES, 0)
    sampled = writer.complete(PASSAGES, 1)
    assert sampled != greedy
    assert sampled == writer.complete(PASSAGES, 1)  # seeded
    before = torch.random.get_rng_state()
    writer.complete(PASSAGES, 1)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("chat", [False, True])
def test_replies_go_to_their_passages_and_failures_are_sampled_again(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
    monkeypatch: pytest.MonkeyPatch,
    chat: bool,
) -> None:
    model, tokenizer = make_random_llama(window=2048), make_byte_tokenizer()
    if chat:
        tokenizer.chat_template = "<|user|>{{ messages[0]['content'] }}<|assistant|>"
    calls: list[tuple[bool, int]] = []

    def generate(**request: Any) -> torch.Tensor:
        ids, sampled = request["input_ids"], request["generation_config"].do_sample
        calls.append((sampled, len(ids)))
        texts = []
        for prompt in tokenizer.batch_decode(ids, skip_special_tokens=True):
            assert prompt.startswith("<|user|>") == chat
            name = next(p.title for p in PASSAGES if f"Title: {p.title}" in prompt)
            texts.append(_reply(name) if sampled or name != "Bob" else "I can't do that.")
        rows = [tokenizer(text)["input_ids"] for text in texts]
        width = max(map(len, rows))
        new = torch.tensor([row + [tokenizer.eos_token_id] * (width - len(row)) for row in rows])
        return torch.cat([ids, new], dim=1)

    monkeypatch.setattr(model, "generate", generate)
    written = HFWriter(model, tokenizer, CONFIG)(PASSAGES)
    assert [each.augmentation.qas[0].answer for _, each in written] == ["Ada", "Bob", "Cyd"]
    assert calls == [(False, 2), (True, 1), (False, 1)]


def test_long_passages_are_cut_to_the_window(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    tokenizer = make_byte_tokenizer()
    long = Passage(id=0, key="l", title="Long", text="word " * 1000)
    writer = HFWriter(make_random_llama(window=1024), tokenizer, CONFIG)
    ids = writer._request_ids(long)
    assert len(ids) <= 1024 - CONFIG.max_new_tokens
    assert tokenizer.decode(ids).endswith("word\n\nJSON:\n")
    tight = HFWriter(make_random_llama(window=64), tokenizer, CONFIG)
    with pytest.raises(ConfigError, match=r"augment\.max_new_tokens"):
        list(tight([long]))
