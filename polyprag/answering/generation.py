"""Batched greedy decoding, each prompt with its own mixture of experts.

Prompts are sorted by length into batches so that little is padded; every batch's gates are taken in
the same order, and answers come back in the order of the prompts.
"""

import itertools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from polyprag.config import GenerationConfig
from polyprag.method.experts import ExpertPool
from polyprag.pretrained.generation_config import (
    end_token_ids,
    forget_generation_config,
    new_generation_config,
)

# B prompts of a batch, S sites, K experts, T tokens of the longest prompt.


class NewlineEnds(StoppingCriteria):
    """Ends a sequence when its newest token brings a newline."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._has_newline: dict[int, bool] = {}  # by token id; filled as tokens come up

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """Returns (B,) bool: which sequences are done."""
        newest = input_ids[:, -1].tolist()
        for token in set(newest) - self._has_newline.keys():
            self._has_newline[token] = "\n" in self._tokenizer.decode([token])
        done = [self._has_newline[token] for token in newest]
        return torch.tensor(done, dtype=torch.bool, device=input_ids.device)


def continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    stops: Sequence[StoppingCriteria] = (),
) -> list[str]:
    """Returns what the model says after each prompt of one batch, without special tokens.

    Args:
        model: a causal LM in eval mode.
        tokenizer: the model's.
        ids: B prompts of token ids, padded on the left here.
        max_new_tokens: tokens said at most.
        temperature: 0 is greedy; above, samples from torch's global generator.
        stops: ends beside the end-of-text tokens.
    """
    eos_ids = end_token_ids(model, tokenizer)
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos_ids[0]
    width = max(len(prompt) for prompt in ids)
    input_ids_BT = torch.full((len(ids), width), pad_id, dtype=torch.int64)
    mask_BT = torch.zeros((len(ids), width), dtype=torch.int64)
    for row, prompt in enumerate(ids):
        input_ids_BT[row, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.int64)
        mask_BT[row, width - len(prompt) :] = 1
    forget_generation_config(model, eos_ids=eos_ids)
    decoding = new_generation_config(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        temperature=temperature or 1.0,
        top_k=50,
        eos_token_id=eos_ids,
        pad_token_id=pad_id,
    )
    say = cast(Callable[..., torch.Tensor], model.generate)
    output_BT = say(
        input_ids=input_ids_BT.to(model.device),
        attention_mask=mask_BT.to(model.device),
        generation_config=decoding,
        stopping_criteria=StoppingCriteriaList(stops),
    )
    # What ends a text is no part of it, also where the tokenizer takes it for an ordinary token.
    said = [
        list(itertools.takewhile(lambda i: i not in eos_ids, row))
        for row in output_BT[:, width:].tolist()
    ]
    return list(tokenizer.batch_decode(said, skip_special_tokens=True))


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    config: GenerationConfig,
    pool: ExpertPool | None = None,
    gates: torch.Tensor | None = None,
    chat: bool = False,
) -> list[str]:
    """Returns the greedy continuation of each prompt, in the prompts' order.

    Args:
        model: a causal LM, in eval mode; with `gates`, the one that `pool` was injected in.
        tokenizer: the model's.
        prompts: token ids of each prompt (`polyprag.method.prompts.PromptTokenizer`).
        config: batch size and the number of new tokens at most.
        pool: the injected experts; needed with `gates`.
        gates: (B, S, K) float32, one mixture a prompt; None decodes with the plain base model.
        chat: the prompts are chat turns; only EOS ends an answer then. A plain answer also ends at
            the first newline.

    Returns:
        The answers, stripped, without special tokens.

    Raises:
        ValueError: `gates` without `pool`, or not one mixture a prompt.
    """
    if gates is not None and pool is None:
        raise ValueError("gates need the pool whose experts they mix; pass pool=")
    if gates is not None and len(gates) != len(prompts):
        raise ValueError(f"{len(gates)} mixtures for {len(prompts)} prompts; pass one for each")
    answers = [""] * len(prompts)
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    for start in range(0, len(by_length), config.batch_size):
        batch = by_length[start : start + config.batch_size]
        with (
            nullcontext()
            if pool is None or gates is None
            else pool.gated(gates[batch].to(model.device))
        ):
            texts = continuations(
                model,
                tokenizer,
                [prompts[i] for i in batch],
                max_new_tokens=config.max_new_tokens,
                stops=() if chat else (NewlineEnds(tokenizer),),
            )
        for i, text in zip(batch, texts, strict=True):
            answers[i] = text.strip() if chat else text.split("\n", 1)[0].strip()
    return answers
