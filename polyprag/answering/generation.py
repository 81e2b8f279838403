"""Greedy decoding of many prompts, each with its own mixture of experts.

Long prompts come first, so that little is padded; answers come back in the order of the prompts.
"""

from collections.abc import Sequence
from functools import partial

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprag.answering.generate import decode_in_batches
from polyprag.answering.said import Said
from polyprag.config import GenerationConfig
from polyprag.decoding.continuation import Continuation
from polyprag.decoding.decoder import Decoder
from polyprag.decoding.sampling import Sampling
from polyprag.decoding.slots import SlotCache
from polyprag.decoding.text_stream import TextStream
from polyprag.method.experts import ExpertPool
from polyprag.tokens.thinking import split_thinking


@torch.inference_mode()
def decode_greedily(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    config: GenerationConfig,
    pool: ExpertPool | None = None,
    gates: torch.Tensor | None = None,
    prefix_ids: Sequence[int] = (),
    chat: bool = False,
    scored: bool = False,
) -> list[Said]:
    """Returns the greedy continuation of each prompt, in the prompts' order.

    Args:
        model: a causal LM, in eval mode; with `gates`, the one that `pool` was injected in.
        tokenizer: the model's.
        prompts: token ids of each prompt (`polyprag.method.prompts.PromptTokenizer`).
        config: batch size and the number of new tokens at most.
        pool: the injected experts; needed with `gates`.
        gates: (B, S, K) float32, one mixture a prompt; None decodes with the plain base model.
        prefix_ids: tokens that are read once for all prompts that begin with them; experts leave
            them alone.
        chat: the prompts are chat turns; only EOS ends an answer then. A plain answer also ends at
            the first newline.
        scored: whether the log-probabilities of the tokens are noted, which costs a pass over the
            vocabulary a token.

    Raises:
        ValueError: `gates` without `pool`, or not one mixture a prompt.
    """
    if gates is not None and pool is None:
        raise ValueError("gates need the pool whose experts they mix; pass pool=")
    if gates is not None and len(gates) != len(prompts):
        raise ValueError(f"{len(gates)} mixtures for {len(prompts)} prompts; pass one for each")
    fits = SlotCache.fits(model)
    if prefix_ids and not fits:  # which training asks more of a model for
        raise ValueError("a model that keeps more than keys and values can't skip a prefix")
    decoded = partial(_decoded_together, prefix_ids=prefix_ids) if fits else decode_in_batches
    return decoded(
        model,
        tokenizer,
        prompts,
        config=config,
        pool=pool,
        gates=gates,
        chat=chat,
        scored=scored,
    )


def _decoded_together(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    config: GenerationConfig,
    pool: ExpertPool | None,
    gates: torch.Tensor | None,
    prefix_ids: Sequence[int],
    chat: bool,
    scored: bool,
) -> list[Said]:
    """Continues all prompts in one batch that each joins and leaves when there is room."""
    sampling = greedy(config, chat=chat, scored=scored)
    made = [
        Continuation(
            prompt,
            sampling=sampling,
            text=TextStream(tokenizer, sampling.stops),
            gates=None if gates is None else gates[i],
        )
        for i, prompt in enumerate(prompts)
    ]
    decoder = Decoder(model, tokenizer, pool=pool, prefix_ids=prefix_ids, most=config.batch_size)
    for each in sorted(made, key=lambda each: len(each.prompt), reverse=True):
        decoder.submit([each])
    decoder.run()
    return [said_of(each) for each in made]


def greedy(config: GenerationConfig, *, chat: bool, scored: bool) -> Sampling:
    """Returns how a prompt is continued greedily; see `decode_greedily`."""
    return Sampling(
        max_new_tokens=config.max_new_tokens,
        stops=() if chat else ("\n",),
        logprobs=0 if scored else None,
    )


def said_of(continuation: Continuation) -> Said:
    """Returns what a continuation that has ended says."""
    scored = continuation.sampling.logprobs is not None
    thinking, text = split_thinking(continuation.text)
    return Said(
        text=text,
        thinking=thinking,
        ids=tuple(continuation.ids),
        has_ended=continuation.finish == "stop",
        logprobs=tuple(noted.logprob for noted in continuation.logprobs) if scored else None,
    )
