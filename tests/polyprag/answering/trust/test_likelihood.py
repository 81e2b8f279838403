"""Answers scored in batches against one forward pass each."""

from collections.abc import Callable

import pytest
import torch
from transformers import LlamaForCausalLM

from polyprag.answering.trust.likelihood import logprobs_of
from polyprag.config import ExpertsConfig, RouterConfig
from polyprag.method.experts import inject

PROMPTS = [[72, 105], [1, 2, 3, 4, 5, 6, 7], [9], [30, 31, 32]]
ANSWERS = [[70, 71, 72], [5], [], [200, 201, 202, 203, 204]]


def _one_by_one(model: LlamaForCausalLM) -> list[list[float]]:
    """By a pass over each beginning of each answer."""
    found: list[list[float]] = []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        found.append([])
        for n, token in enumerate(answer):
            with torch.no_grad():
                logits = model(torch.tensor([prompt + answer[:n]])).logits[0, -1].double()
            found[-1].append(float(logits[token] - torch.logsumexp(logits, 0)))
    return found


@pytest.mark.parametrize("most", [1 << 26, 258 * 8, 1], ids=["one pass", "several", "one each"])
def test_they_are_those_of_single_passes_whatever_the_batch(
    make_random_llama: Callable[..., LlamaForCausalLM],
    monkeypatch: pytest.MonkeyPatch,
    most: int,
) -> None:
    monkeypatch.setattr("polyprag.answering.trust.likelihood._MAX_LOGITS", most)
    model = make_random_llama(seed=3)
    for found, expected in zip(
        logprobs_of(model, PROMPTS, ANSWERS, pad_id=256), _one_by_one(model), strict=True
    ):
        assert found == pytest.approx(expected, abs=1e-4)


def test_the_base_model_is_alone_though_it_has_experts(
    make_random_llama: Callable[..., LlamaForCausalLM],
) -> None:
    plain, model = make_random_llama(seed=3), make_random_llama(seed=3)
    pool = inject(model, ExpertsConfig(num=3), RouterConfig(), seed=0)
    for weights in pool.parameters():
        torch.nn.init.normal_(weights, std=0.2)
    alone = logprobs_of(model, PROMPTS, ANSWERS, pad_id=256)
    assert alone == logprobs_of(plain, PROMPTS, ANSWERS, pad_id=256)
    with pool.gated(torch.ones(1, pool.num_sites, 3)):
        assert logprobs_of(model, PROMPTS[:1], ANSWERS[:1], pad_id=256) != alone[:1]


def test_nothing_is_asked_for_no_answer(make_random_llama: Callable[..., LlamaForCausalLM]) -> None:
    assert logprobs_of(make_random_llama(), [[1], [2]], [[], []], pad_id=256) == [(), ()]
    assert logprobs_of(make_random_llama(), [], [], pad_id=256) == []


def test_the_vocabulary_is_gone_through_at_answers_alone(
    make_random_llama: Callable[..., LlamaForCausalLM],
) -> None:
    model = make_random_llama()
    seen: list[tuple[int, ...]] = []
    model.lm_head.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[:2])))
    logprobs_of(model, [[1] * 40, [2] * 41], [[3, 4], [5, 6]], pad_id=256)
    assert seen == [(2, 3)]
