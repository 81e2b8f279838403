"""Batches by transformers' own `generate`, for models that remember more than keys and values.

Prompts are sorted by length into batches so that little is padded. A batch lasts as long as its
longest answer; `polyprag.decoding` is for all models that it knows.
"""

import itertools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from polyprag.answering.said import Said
from polyprag.config import GenerationConfig
from polyprag.method.experts import ExpertPool
from polyprag.pretrained.generation_config import (
    end_token_ids,
    forget_generation_config,
    new_generation_config,
    pad_token_id,
)
from polyprag.tokens.thinking import split_thinking

# B prompts of a batch, S sites, K experts, T tokens of the longest prompt, V of a vocabulary.


class NewlineEnds(StoppingCriteria):
    """Ends a sequence when its newest token brings a newline."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._has_newline: dict[int, bool] = {}  # by token id; filled as tokens come up

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """Returns (B,) bool: which sequences are done."""
        done = [self.ends(token) for token in input_ids[:, -1].tolist()]
        return torch.tensor(done, dtype=torch.bool, device=input_ids.device)

    def ends(self, token: int) -> bool:
        """Tells whether a token brings a newline."""
        if token not in self._has_newline:
            self._has_newline[token] = "\n" in self._tokenizer.decode([token])
        return self._has_newline[token]


class _Best(LogitsProcessor):
    """Notes the log-probability of the likeliest token of each step, which greedy decoding takes.

    All steps' scores would be (steps, B, V) numbers: half a gigabyte with a large vocabulary.
    """

    def __init__(self) -> None:
        self._steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Returns the scores (B, V) as they are."""
        wide_BV = scores.float()
        self._steps.append(wide_BV.amax(dim=-1) - wide_BV.logsumexp(dim=-1))
        return scores

    def of_each(self) -> list[list[float]]:
        """Returns what was noted, a list of steps for each sequence of the batch."""
        noted: list[list[float]] = torch.stack(self._steps, dim=1).tolist()
        return noted


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
        stops: what ends a sequence beside its end of text.
    """
    said = _continued(
        model,
        tokenizer,
        ids,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        stops=stops,
    )
    return list(tokenizer.batch_decode([ids for ids, _ in said], skip_special_tokens=True))


def _continued(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    stops: Sequence[StoppingCriteria] = (),
    watching: Sequence[LogitsProcessor] = (),
) -> list[tuple[list[int], bool]]:
    """Returns the tokens after each prompt up to what ends a text, and whether anything ended it.

    See `continuations`.
    """
    eos_ids = end_token_ids(model, tokenizer)
    pad_id = pad_token_id(model, tokenizer)
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
        logits_processor=LogitsProcessorList(watching),
    )
    # What ends a text is no part of it, also where the tokenizer takes it for an ordinary token.
    return [
        (
            list(itertools.takewhile(lambda i: i not in eos_ids, row)),
            not set(eos_ids).isdisjoint(row),
        )
        for row in output_BT[:, width:].tolist()
    ]


def decode_in_batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    config: GenerationConfig,
    pool: ExpertPool | None,
    gates: torch.Tensor | None,
    chat: bool,
    scored: bool,
) -> list[Said]:
    """Returns what `decode_greedily` does, of prompts in batches of `generation.batch_size`."""
    answers: dict[int, Said] = {}
    newline = NewlineEnds(tokenizer)
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    for start in range(0, len(by_length), config.batch_size):
        batch = by_length[start : start + config.batch_size]
        with (
            nullcontext()
            if pool is None or gates is None
            else pool.gated(gates[batch].to(model.device))
        ):
            best = _Best() if scored else None
            said = _continued(
                model,
                tokenizer,
                [prompts[i] for i in batch],
                max_new_tokens=config.max_new_tokens,
                stops=() if chat else (newline,),
                watching=() if best is None else (best,),
            )
        texts = tokenizer.batch_decode([ids for ids, _ in said], skip_special_tokens=True)
        noted = [None] * len(batch) if best is None else best.of_each()
        for i, text, (ids, has_ended), logprobs in zip(batch, texts, said, noted, strict=True):
            if not chat:
                text = text.split("\n", 1)[0]
                line = list(itertools.takewhile(lambda i: not newline.ends(i), ids))
                ids, has_ended = line, has_ended or len(line) < len(ids)
            thinking, text = split_thinking(text)
            answers[i] = Said(
                text=text,
                thinking=thinking,
                ids=tuple(ids),
                has_ended=has_ended,
                logprobs=None if logprobs is None else tuple(logprobs[: len(ids)]),
            )
    return [answers[i] for i in range(len(prompts))]
