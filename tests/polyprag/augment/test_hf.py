"""Stand-ins for what models write: tiny random Llamas write nothing that could be kept."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from polyprag.augment.hf import HFWriter
from polyprag.augment.prompt import EMPTY
from polyprag.augment.writing.asks import ITEMS, ModelRequest, span_requests
from polyprag.config import AugmentConfig
from polyprag.errors import ConfigError
from sharding.corpus.passages import Passage

PASSAGES = [
    Passage(id=0, key="a", title="Ada", text="Ada was born in London."),
    Passage(id=1, key="b", title="Bob", text="Bob was born in Rome, a city that he left early."),
    Passage(id=2, key="c", title="Cyd", text="Cyd was born in Oslo."),
]
CITIES = {"Ada": "London", "Bob": "Rome", "Cyd": "Oslo"}
SETTINGS: dict[str, Any] = {
    "backend": "hf",
    "num_rewrites": 0,
    "num_qas": 1,
    "batch_size": 2,
    "max_new_tokens": 12,
    "max_retries": 1,
}
CONFIG = AugmentConfig(**SETTINGS, style="json")


def _reply(name: str) -> str:
    qa = {"question": f"Where was {name} born?", "answer": CITIES[name]}
    return json.dumps({"qas": [qa]})


@pytest.mark.parametrize("style", ["json", "spans"])
def test_a_model_that_writes_nothing_usable_leaves_what_it_said(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
    style: str,
) -> None:
    config = AugmentConfig(**SETTINGS, style=style)
    writer = HFWriter(make_random_llama(window=4096), make_byte_tokenizer(), config)
    written = dict(writer(PASSAGES))
    assert sorted(written) == [0, 1, 2]
    for each in written.values():
        assert each.augmentation == EMPTY and each.failure is None
        assert {dropped.reason for dropped in each.dropped} == {"malformed"}


def test_later_attempts_are_sampled_from_a_seed(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    writer = HFWriter(make_random_llama(window=4096), make_byte_tokenizer(), CONFIG)
    requests = [ModelRequest(ITEMS, passage, num_qas=1) for passage in PASSAGES]
    greedy = writer.complete(requests, 0)
    assert greedy == writer.complete(requests, 0)
    sampled = writer.complete(requests, 1)
    assert sampled != greedy
    assert sampled == writer.complete(requests, 1)
    before = torch.random.get_rng_state()
    writer.complete(requests, 1)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("chat", [False, True])
def test_replies_go_to_their_passages_and_failures_are_sampled_again(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
    monkeypatch: pytest.MonkeyPatch,
    chat: bool,
) -> None:
    model, tokenizer = make_random_llama(window=4096), make_byte_tokenizer()
    if chat:
        tokenizer.chat_template = "<|user|>{{ messages[0]['content'] }}<|assistant|>"
    calls: list[tuple[bool, int]] = []

    def generate(**request: Any) -> torch.Tensor:
        ids, sampled = request["input_ids"], request["generation_config"].do_sample
        calls.append((sampled, len(ids)))
        texts = []
        for prompt in tokenizer.batch_decode(ids, skip_special_tokens=True):
            assert prompt.startswith("<|user|>") == chat
            name = next(p.title for p in PASSAGES if f'title "{p.title}"' in prompt)
            texts.append(_reply(name) if sampled or name != "Bob" else "I can't do that.")
        return _continued(tokenizer, ids, texts)

    monkeypatch.setattr(model, "generate", generate)
    written = dict(HFWriter(model, tokenizer, CONFIG)(PASSAGES))
    answers = [written[i].augmentation.qas[0].answer for i in range(3)]
    assert answers == ["London", "Rome", "Oslo"]
    assert calls == [(False, 2), (True, 1), (False, 1)]  # the first two passages are done first


def test_a_small_model_is_asked_for_one_question_of_a_span_at_a_time(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, tokenizer = make_random_llama(window=4096), make_byte_tokenizer()
    tokenizer.chat_template = "<|user|>{{ messages[0]['content'] }}<|assistant|>"
    lengths: list[list[int]] = []
    checked: list[str] = []

    def generate(**request: Any) -> torch.Tensor:
        ids = request["input_ids"]
        lengths.append(request["attention_mask"].sum(1).tolist())
        texts = []
        for prompt in tokenizer.batch_decode(ids, skip_special_tokens=True):
            asked = prompt.rsplit("Text: ", 1)[1]
            if asked.endswith("\nAnswer:"):  # what the model itself says to a question it wrote
                question = asked.split("\nQuestion: ")[1].split("\n")[0]
                checked.append(question)
                city = next(CITIES[name] for name in CITIES if name in question)
                texts.append(f" {city}.\n" if question.startswith("Where") else " Nobody.\n")
                continue
            found = re.match(r"(\w+): .*\nAnswer: (.+)\nQuestion:(.*)$", asked, re.S)
            assert found is not None
            name, answer, opening = found.groups()
            is_city = answer in CITIES.values()
            lead = " was" if opening else " Where was"
            if is_city:
                texts.append(f"{lead} {name} born?\nText: x")
            else:
                texts.append(
                    f" {opening or 'What'} left {name}?\n" if "city" in answer else " It?\n"
                )
        return _continued(tokenizer, ids, texts)

    monkeypatch.setattr(model, "generate", generate)
    config = AugmentConfig(**SETTINGS | {"num_qas": 4})
    writer = HFWriter(model, tokenizer, config)
    assert writer.simple
    written = dict(writer(PASSAGES))
    for i, passage in enumerate(PASSAGES):
        kept = {qa.question: qa.answer for qa in written[i].augmentation.qas}
        assert kept[f"Where was {passage.title} born?"] == CITIES[passage.title]
        assert set(kept.values()) == {CITIES[passage.title]}
    assert all(batch == sorted(batch, reverse=True) for batch in lengths)
    num_asked = sum(len(span_requests(passage, 4, more=1.5)) for passage in PASSAGES)
    # Single questions are never asked again; each that is kept is answered once.
    assert sum(map(len, lengths)) == num_asked + len(checked)
    itself = [each.text for each in written[1].dropped if "but itself says: Nobody" in each.text]
    assert itself and all(text.split(" -> ")[0] in checked for text in itself)


def _continued(
    tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor, texts: list[str]
) -> torch.Tensor:
    rows = [tokenizer(text)["input_ids"] for text in texts]
    width = max(map(len, rows))
    new = torch.tensor([row + [tokenizer.eos_token_id] * (width - len(row)) for row in rows])
    return torch.cat([ids, new], dim=1)


def test_long_passages_are_cut_to_the_window(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    tokenizer = make_byte_tokenizer()
    long = Passage(id=0, key="l", title="Long", text="word " * 1000)
    writer = HFWriter(make_random_llama(window=2048), tokenizer, CONFIG)
    ids = writer._request_ids(ModelRequest(ITEMS, long, num_qas=1))
    assert len(ids) <= 2048 - CONFIG.max_new_tokens
    text = tokenizer.decode(ids)
    assert "word\n</passage-" in text and text.endswith("\n\nJSON:\n")
    tight = HFWriter(make_random_llama(window=64), tokenizer, CONFIG)
    with pytest.raises(ConfigError, match=r"augment\.max_new_tokens"):
        list(tight([long]))


def test_nothing_wanted_asks_nothing(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_random_llama()
    monkeypatch.setattr(model, "generate", None)
    config = AugmentConfig(**SETTINGS | {"num_qas": 0})
    written = dict(HFWriter(model, make_byte_tokenizer(), config)(PASSAGES))
    assert [each.augmentation for each in written.values()] == [EMPTY] * 3
